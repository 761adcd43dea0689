"""How sure the model is at the target: the mean entropy of its answers, negative.

    score = mean over target images of sum_c p_c log p_c

Deceived by a collapsed model: one that gives every image the same class, surely, has the best score of all, 0. It is fit
to compare models that are known not to have collapsed, and is best used with a validator that wants all classes answered.

Reference:
    Grandvalet & Bengio 2004 (NIPS 17, entropy as a measure of class overlap); as a criterion for choosing adapted models
    Morerio, Cavazza & Murino 2018, arXiv:1711.10288, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Array, Evidence


def mean_entropy(logits: Array) -> float:
    """Return the mean entropy of the answers in nats, 0 to log(classes)."""
    import numpy as np
    from scipy.special import log_softmax

    logs = log_softmax(logits.astype(np.float64), axis=1)
    return float(-(np.exp(logs) * logs).sum(axis=1).mean())


def minus_entropy(evidence: Evidence) -> float:
    """Return minus the mean entropy at the target, -log(classes) to 0."""
    return -mean_entropy(evidence.target.logits)


VALIDATOR = Validator(minus_entropy)
