"""Validators: scores that rank adapted models without target labels. Higher is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from kerastl.errors import RequestError
from kerastl.options import StrictModel
from kerastl.tasks import SINGLE_LABEL

if TYPE_CHECKING:
    from kerastl.selection.evidence import Array, Evidence

# NumPy, SciPy and scikit-learn are imported inside functions: the recipe check reads only names and options.


@dataclass(frozen=True)
class Validator:
    """A function that estimates, without target labels, how good a model is on the target.

    Args:
        function: `(evidence) -> score`, or `(evidence, options) -> score` if the validator has options.
        options: The default options; None if the validator has none.
        needs_source: Whether the function uses source images.
    """

    function: Callable[..., float]
    options: Any = None
    needs_source: bool = False

    def score(self, evidence: Evidence, options: Any = None) -> float:
        """Return the score; higher is better. Scores are comparable only between models on the same images.

        Args:
            evidence: The outputs of the model.
            options: None for the default options.

        Raises:
            RequestError: The evidence lacks what this validator needs.
        """
        options = self.options if options is None else options
        arguments = () if options is None else (options,)
        return float(self.function(evidence, *arguments))


class SourceValidationOptions(StrictModel):
    """Options of `source_validation`.

    Args:
        metric: `balanced_accuracy` or `auc`. With two classes, `auc` is that of the last class, and otherwise the
            mean one-vs-rest AUC.
    """

    metric: Literal["balanced_accuracy", "auc"] = "balanced_accuracy"


def source_validation(evidence: Evidence, options: SourceValidationOptions) -> float:
    """Return the balanced accuracy or AUC on source validation images, 0 to 1.

    It ignores the target. In the largest benchmark of validators it is still hard to beat, because most
    damage that adaptation does is visible on the source, too.

    Reference:
        The baseline of Musgrave, Belongie & Lim 2022, arXiv:2208.07360, section 3.
    """
    from kerastl.evaluation.metrics import OVERALL

    val = evidence.known_val
    probabilities = SINGLE_LABEL.probabilities(val.logits)
    return val.evaluate(partial(OVERALL[options.metric], val.known_labels, probabilities))


def entropy(evidence: Evidence) -> float:
    """Return minus the mean entropy of target predictions, -log(classes) to 0.

    A collapsed model, which confidently predicts one class for every image, has the best score. Combine this
    validator with one that requires all classes to be predicted.

    Reference:
        Grandvalet & Bengio 2004, NIPS 17; as a criterion for adapted models: Morerio, Cavazza & Murino 2018,
        arXiv:1711.10288, section 3.
    """
    return -_mean_entropy(evidence.target.logits)


def information_maximization(evidence: Evidence) -> float:
    """Return the mutual information between target images and predictions in nats, 0 to log(classes).

    `H(mean p) - mean H(p)`: predictions are confident, and all classes are predicted equally often. If
    classes are not equally frequent, a model that splits a frequent class scores higher. Confident, balanced
    predictions score high whether or not they are correct.

    Reference:
        Shi & Sha 2012, arXiv:1206.6438, section 3; as a validator: Musgrave, Belongie & Lim 2022,
        arXiv:2208.07360 (IM).
    """
    from scipy.special import entr

    logits = evidence.target.logits
    mean = SINGLE_LABEL.probabilities(logits).mean(axis=0)
    return float(entr(mean).sum()) - _mean_entropy(logits)


def bnm(evidence: Evidence) -> float:
    """Return the nuclear norm of the matrix of target probabilities, divided by its maximum: 0 to 1.

    It is large for confident and diverse predictions: `||P||_* / sqrt(n * min(n, classes))`, P `[n,
    classes]`. The paper divides by n, which gives the same order. It fails in the same cases as
    `information_maximization`.

    Reference:
        Cui et al. 2020, arXiv:2003.12237, section 3 (batch nuclear-norm maximization); as a validator:
        Musgrave, Belongie & Lim 2022, arXiv:2208.07360.
    """
    import numpy as np

    probabilities = SINGLE_LABEL.probabilities(evidence.target.logits)
    singular_values = np.linalg.svd(probabilities, compute_uv=False)
    rows, classes = probabilities.shape
    return float(singular_values.sum() / np.sqrt(rows * min(rows, classes)))


class SndOptions(StrictModel):
    """Options of `snd`.

    Args:
        temperature: Temperature of the softmax over similarities; smaller values count only the nearest
            neighbors.
    """

    temperature: Annotated[float, Gt(0), Le(10)] = 0.05


SIMILARITIES_PER_BLOCK = 4_000_000


def snd(evidence: Evidence, options: SndOptions) -> float:
    """Return the soft neighborhood density, 0 to log(n - 1); 0 for a single image.

    `f_i = p_i / ||p_i||`, `P_ij` is the softmax over j != i of `f_i . f_j / temperature`, and the score is
    the mean over i of `-sum_j P_ij log P_ij`. It is large if each image has many similar neighbors. A
    collapsed model has the best score, log(n - 1), because all images are neighbors.

    Reference:
        Saito et al. 2021, arXiv:2108.10860, equations 1 and 2, with its temperature of 0.05.
    """
    import numpy as np
    from scipy.special import log_softmax

    probabilities = SINGLE_LABEL.probabilities(evidence.target.logits)
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    count, total = len(unit), 0.0
    block = max(1, SIMILARITIES_PER_BLOCK // count)
    for start in range(0, count, block):
        similarities = unit[start : start + block] @ unit.T / options.temperature
        rows = np.arange(len(similarities))
        # An image is not its own neighbor. A finite value avoids 0 * -inf below.
        similarities[rows, start + rows] = -1e9
        logs = log_softmax(similarities, axis=1)
        total -= float((np.exp(logs) * logs).sum())
    return total / count


class DevOptions(StrictModel):
    """Options of `dev`.

    Args:
        loss: Loss per image: `error` (0 correct, 1 wrong) or `log_loss` (nats).
        inverse_penalty: scikit-learn's C of the domain classifier; smaller values give weights closer to 1.
    """

    loss: Literal["error", "log_loss"] = "error"
    inverse_penalty: Annotated[float, Gt(0), Le(1e6)] = 1.0


def dev(evidence: Evidence, options: DevOptions) -> float:
    """Return minus the target risk estimated from source validation images (deep embedded validation).

    Losses are weighted by the density ratio of a domain classifier on the features. The estimate is unbiased
    if p(label | features) is the same in both domains and the features overlap. If the classifier separates
    the domains, all weights are near 0, and so is the estimated risk of every model.

    Reference:
        You et al. 2019, Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation, PMLR 97,
        algorithms 1 and 2, with a logistic regression as the domain classifier.
    """
    import numpy as np
    from scipy.special import log_softmax

    val = evidence.known_val
    labels = val.known_labels
    if options.loss == "error":
        losses = (val.logits.argmax(axis=1) != labels).astype(np.float64)
    else:
        logs = log_softmax(val.logits.astype(np.float64), axis=1)
        losses = -logs[np.arange(len(labels)), labels]
    return -dev_risk(density_ratio(evidence, options.inverse_penalty), losses)


def dev_risk(weights: Array, losses: Array) -> float:
    """Return the importance-weighted risk with a control variate, which reduces the variance of the weights.

    Args:
        weights: `[n]` float, density ratios.
        losses: `[n]` float.
    """
    import numpy as np

    weighted = weights * losses
    variance = float(weights.var())
    covariance = float(((weighted - weighted.mean()) * (weights - weights.mean())).mean())
    eta = -covariance / variance if variance > np.finfo(np.float64).eps else 0.0
    return float(weighted.mean()) + eta * float(weights.mean()) - eta


def density_ratio(evidence: Evidence, inverse_penalty: float) -> Array:
    """Return `[n]` float64: p(features | target) / p(features | source) of each source validation image."""
    import numpy as np

    from kerastl.selection.domain_classifier import fit_domain_classifier

    source, target = evidence.known_train.features, evidence.target.features
    is_target = np.repeat([0, 1], [len(source), len(target)])
    features = np.concatenate([source, target])
    log_odds = fit_domain_classifier(features, is_target, inverse_penalty=inverse_penalty)
    return np.exp(log_odds(evidence.known_val.features)) * (len(source) / len(target))


class ClassAmiOptions(StrictModel):
    """Options of `class_ami`.

    Args:
        starts: Number of k-means initializations; the clustering with the lowest inertia is used.
        seed: Seed of the initializations.
    """

    starts: Annotated[int, Ge(1)] = 10
    seed: Annotated[int, Ge(0)] = 0


def class_ami(evidence: Evidence, options: ClassAmiOptions) -> float:
    """Return the adjusted mutual information between k-means clusters of target features and predictions.

    It is about 0 by chance (slightly negative values are possible) and at most 1. A collapsed model gets 0.
    It fails if features cluster by something other than the class, such as the scanner, and it does not
    notice permuted classes.

    Reference:
        Musgrave, Belongie & Lim 2022, arXiv:2208.07360, section 4 (ClassAMI); AMI: Vinh, Epps & Bailey 2010,
        JMLR 11, equation 3, with the mean of the two entropies.
    """
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    features = evidence.target.features.astype(np.float64)
    predicted = evidence.target.logits.argmax(axis=1)
    if len(np.unique(predicted)) == 1:
        # AMI is 1 by convention if both partitions have a single part.
        return 0.0
    # scikit-learn warns if there are more clusters than distinct images.
    num_clusters = min(len(evidence.class_names), len(np.unique(features, axis=0)))
    clusters = KMeans(num_clusters, n_init=options.starts, random_state=options.seed).fit_predict(features)
    return float(adjusted_mutual_info_score(clusters, predicted))


def bounded_information(evidence: Evidence) -> float:
    """Return minus the distance between predicted and verified information, in nats per image.

    See `kerastl.selection.overconfidence` for the two quantities. A model that does not recognize the target
    is below the bound, one that was trained on its own predictions is above it. The score does not notice
    permuted classes. If the target's classes are less balanced than the source's, every candidate is below
    the bound.

    Reference:
        Average confidence as an estimate of accuracy: Guillory et al. 2021, arXiv:2107.03315, section 3;
        temperature scaling: Guo et al. 2017, arXiv:1706.04599.
    """
    from kerastl.selection.overconfidence import information

    predicted, verified = information(evidence)
    return -abs(predicted - verified)


class MixvalOptions(StrictModel):
    """Options of `mixval`.

    Args:
        share: Weight of the first image in a mixed image; values near 0.5 are the strictest.
        seed: Seed of the pairs that `draw_pairs` returns.
    """

    share: Annotated[float, Gt(0.5), Lt(1)] = 0.55
    seed: Annotated[int, Ge(0)] = 0


def draw_pairs(logits: Array, *, seed: int) -> tuple[Array, Array]:
    """Return the target images to mix: rows of the first and of the second image, `[pairs]` int64 each.

    Every image is the first image of one pair within its predicted class and of one pair across classes, if
    such a partner exists.

    Args:
        logits: `[n, classes]` of this candidate on the target.
        seed: Seed of the partners.
    """
    import numpy as np

    predicted = logits.argmax(axis=1)
    generator = np.random.default_rng(seed)
    rows = np.arange(len(predicted))
    pairs = []
    for row in rows:
        same_class = predicted == predicted[row]
        for partners in (rows[same_class & (rows != row)], rows[~same_class]):
            if len(partners):
                pairs.append((row, partners[generator.integers(len(partners))]))
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second


def mixval(evidence: Evidence, options: MixvalOptions) -> float:
    """Return how often a mixed target image is predicted like its dominant image, 0 to 1.

    The score is the mean of two shares: over pairs with equal predictions (density of clusters) and over
    pairs with different predictions (position of the boundary). The model must be run on the mixed images:
    mixing features instead would test only the linear head. A collapsed model gets 0.5.

    Reference:
        Hu et al. 2023, Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS
        36, openreview.net/forum?id=ackajXqei2. The paper averages the ranks of the two shares, which needs
        several models.

    Raises:
        RequestError: The evidence has no mixed images, or mixed images with another share.
    """
    mixed = evidence.mixed
    if mixed is None:
        raise RequestError(
            "mixval needs the logits of mixed target images, but the evidence has none. Draw pairs with "
            "kerastl.selection.validators.draw_pairs, run the model on the mixed images and pass "
            "Evidence(..., mixed=Mixed(...)), or remove mixval from select_by."
        )
    if abs(mixed.share - options.share) > 1e-6:
        raise RequestError(
            f"The option share of mixval is {options.share}, but the images were mixed with {mixed.share}. Set share: "
            f"{mixed.share}, or mix the images again."
        )
    predicted = evidence.target.logits.argmax(axis=1)
    is_consistent = mixed.logits.argmax(axis=1) == predicted[mixed.first]
    is_within = predicted[mixed.first] == predicted[mixed.second]
    shares = [float(is_consistent[pairs].mean()) if pairs.any() else 0.0 for pairs in (is_within, ~is_within)]
    return sum(shares) / 2


def _mean_entropy(logits: Array) -> float:
    """Return the mean entropy of the predictions in nats, 0 to log(classes)."""
    import numpy as np
    from scipy.special import log_softmax

    logs = log_softmax(logits.astype(np.float64), axis=1)
    return float(-(np.exp(logs) * logs).sum(axis=1).mean())


VALIDATORS = {
    "bnm": Validator(bnm),
    "bounded_information": Validator(bounded_information, needs_source=True),
    "class_ami": Validator(class_ami, ClassAmiOptions()),
    "dev": Validator(dev, DevOptions(), needs_source=True),
    "entropy": Validator(entropy),
    "information_maximization": Validator(information_maximization),
    "mixval": Validator(mixval, MixvalOptions()),
    "snd": Validator(snd, SndOptions()),
    "source_validation": Validator(source_validation, SourceValidationOptions(), needs_source=True),
}
