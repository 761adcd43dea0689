"""How much an answer tells: the mutual information of target images and answers.

    score = H(mean over images of p) - mean over images of H(p)

Sure answers and all classes in use, alike often. Deceived where the classes are not alike common at the target, as a model
that splits a common class in two scores higher; and by any sure and balanced answers, right or wrong.

Reference:
    Shi & Sha 2012, arXiv:1206.6438, section 3 (mutual information of the target's data and labels); as a validator
    Musgrave, Belongie & Lim 2022, arXiv:2208.07360 (IM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerastl.selection.validator import Validator
from kerastl.selection.validators.entropy import mean_entropy

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


def mutual_information(evidence: Evidence) -> float:
    """Return the mutual information in nats, 0 to log(classes)."""
    import numpy as np
    from scipy.special import entr, softmax

    logits = evidence.target.logits
    shares = softmax(logits.astype(np.float64), axis=1).mean(axis=0)
    return float(entr(shares).sum()) - mean_entropy(logits)


VALIDATOR = Validator(mutual_information)
