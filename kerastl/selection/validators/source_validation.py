"""How good the model still is at the source: balanced accuracy, or AUC, on validation images.

    score = mean over classes of (right answers / images of the class)

Deceived by every model that gave the target up: it knows nothing of the target. In the largest benchmark of validators it
is nevertheless hard to beat (Musgrave et al. 2022), as most harm that adaptation does shows at the source, too.

Reference:
    The baseline of Musgrave, Belongie & Lim 2022, arXiv:2208.07360, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kerastl.options import StrictModel
from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


class Options(StrictModel):
    """Options of `source_validation`.

    Args:
        metric: `balanced_accuracy`, or `auc` (of the last of two classes; the mean one-vs-rest AUC of more).
    """

    metric: Literal["balanced_accuracy", "auc"] = "balanced_accuracy"


def source_score(evidence: Evidence, options: Options) -> float:
    """Return the metric at the source's validation images, 0 to 1."""
    import numpy as np
    from scipy.special import softmax

    from kerastl.evaluation.metrics import OVERALL

    val = evidence.known_val
    probabilities = softmax(val.logits.astype(np.float64), axis=1)
    weights = np.ones((1, len(probabilities)))
    return float(OVERALL[options.metric](val.known_labels, probabilities, weights)[0])


VALIDATOR = Validator(source_score, Options(), needs="source")
