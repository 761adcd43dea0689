"""Deep embedded validation: the source's validation loss, weighed as if its images were the target's.

    w(x) = n_train / n_target * p(target | x) / p(source | x)       by a domain classifier on the features
    L = w * loss,  eta = -Cov(L, w) / Var(w)
    score = -(mean(L) + eta * mean(w) - eta)

An unbiased guess of the target's risk where p(label | features) is the same at both sites and the features overlap. Deceived
where they do not: when the domain classifier tells all images apart, every weight is near 0 and so is the risk, for a good
model and a bad one alike. The control variate eta lessens the variance of the weights, not that.

Reference:
    You et al. 2019, Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation, PMLR 97,
    algorithms 1 and 2. The paper's domain classifier is a small network; this one is a logistic regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt, Le

from kerastl.options import StrictModel
from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Array, Evidence


class Options(StrictModel):
    """Options of `dev`.

    Args:
        loss: of one image: `error` (0 right, 1 wrong) or `log_loss` (nats).
        inverse_penalty: scikit-learn's C of the domain classifier; smaller gives weights nearer to 1.
    """

    loss: Literal["error", "log_loss"] = "error"
    inverse_penalty: Annotated[float, Gt(0), Le(1e6)] = 1.0


def weighted_risk(evidence: Evidence, options: Options) -> float:
    """Return minus the risk at the target as the source's validation images tell it."""
    weights = density_ratio(evidence, options.inverse_penalty)
    return -dev_risk(weights, _losses(evidence, options))


def dev_risk(weights: Array, losses: Array) -> float:
    """Return the importance-weighted risk with its control variate (algorithm 1).

    Args:
        weights: `[n]` float, density ratios; equal ones leave nothing to control.
        losses: `[n]` float.
    """
    import numpy as np

    weighed = weights * losses
    spread = float(weights.var())
    covariance = float(((weighed - weighed.mean()) * (weights - weights.mean())).mean())
    eta = -covariance / spread if spread > np.finfo(np.float64).eps else 0.0
    return float(weighed.mean()) + eta * float(weights.mean()) - eta


def density_ratio(evidence: Evidence, inverse_penalty: float) -> Array:
    """Return `[n]` float64: how much likelier each validation image's features are at the target."""
    import numpy as np

    from kerastl.selection.domain_classifier import fit_domain_classifier

    source, target = evidence.known_train.features, evidence.target.features
    is_target = np.repeat([0, 1], [len(source), len(target)])
    classifier = fit_domain_classifier(
        np.concatenate([source, target]), is_target, inverse_penalty=inverse_penalty
    )
    odds = np.exp(classifier.log_odds(evidence.known_val.features))
    ratio: Array = odds * (len(source) / len(target))
    return ratio


def _losses(evidence: Evidence, options: Options) -> Array:
    import numpy as np
    from scipy.special import log_softmax

    val = evidence.known_val
    labels = val.known_labels
    losses: Array
    if options.loss == "error":
        losses = (val.logits.argmax(axis=1) != labels).astype(np.float64)
    else:
        losses = -log_softmax(val.logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return losses


VALIDATOR = Validator(weighted_risk, Options(), needs="source")
