"""Sure and diverse answers: the nuclear norm (the sum of the singular values) of the matrix of target probabilities.

    score = ||P||_* / sqrt(n * min(n, classes)),  P: [n, classes]

The norm is divided by its largest possible value, so that scores lie in 0 to 1; the paper divides by n, and candidates on the
same images keep their order. Deceived as mutual information is: by classes that are not alike common, and by any answers
that are sure and balanced.

Reference:
    Cui et al. 2020, arXiv:2003.12237, section 3 (batch nuclear-norm maximization, and the bound sqrt(n * min(n, classes)));
    as a validator Musgrave, Belongie & Lim 2022, arXiv:2208.07360.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


def nuclear_norm(evidence: Evidence) -> float:
    """Return the nuclear norm of the target's probabilities as a share of the largest one, 0 to 1."""
    import numpy as np
    from scipy.special import softmax

    probabilities = softmax(evidence.target.logits.astype(np.float64), axis=1)
    values = np.linalg.svd(probabilities, compute_uv=False)
    rows, classes = probabilities.shape
    return float(values.sum() / np.sqrt(rows * min(rows, classes)))


VALIDATOR = Validator(nuclear_norm)
