"""Maximum mean discrepancy: how far apart the mean embeddings of two samples are, by Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

Estimate = Literal["biased", "unbiased"]
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, in units of the mean squared distance between two of the images."""


def mmd_loss(
    source: Any, target: Any, *, bandwidths: Sequence[float] = BANDWIDTHS, estimate: Estimate = "biased"
) -> tf.Tensor:
    """Return the squared maximum mean discrepancy between two samples.

    The kernel is the mean of several Gaussian ones, `exp(-|x - y|^2 / (b s))`: b from `bandwidths`, s the mean squared distance
    between two different images of both samples together, held constant for the gradient.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.
        bandwidths: positive.
        estimate: `biased`: the distance of the samples themselves, at least 0, and 0 where they are the same; `unbiased`: of
            the distributions; below 0 about half of the time where these agree, and 0 where a batch is a single image.

    Returns:
        Scalar float32.

    Reference:
        Long et al. 2015, arXiv:1502.02791, section 3 (DAN), its several kernels with equal weights instead of learnt ones. The
        estimates are those of Gretton et al. 2012, JMLR 13, equations 5 and 3, over all pairs where DAN takes a linear-time subset.
    """
    source, target = (tf.cast(one, tf.float32) for one in (source, target))
    kernel = _gaussians(tf.concat([source, target], 0), bandwidths)
    return _discrepancy(kernel, tf.shape(source)[0], estimate)


def joint_mmd_loss(
    source: Sequence[Any],
    target: Sequence[Any],
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    estimate: Estimate = "biased",
) -> tf.Tensor:
    """Return the squared discrepancy between two joint distributions, as those of features and predictions.

    The kernel of two images is the product of the kernels of their parts, each as in `mmd_loss`.

    Args:
        source, target: the parts, each `[batch, numbers]` float32, in the same order; e.g. features and probabilities.
        bandwidths, estimate: as in `mmd_loss`.

    Returns:
        Scalar float32.

    Reference:
        Long et al. 2017, arXiv:1605.06636, section 4 (JAN, the joint maximum mean discrepancy).
    """
    kernel = 1.0
    for one, other in zip(source, target, strict=True):
        both = tf.concat([tf.cast(one, tf.float32), tf.cast(other, tf.float32)], 0)
        kernel *= _gaussians(both, bandwidths)
    return _discrepancy(kernel, tf.shape(source[0])[0], estimate)


def _gaussians(rows: tf.Tensor, bandwidths: Sequence[float]) -> tf.Tensor:
    """Return the mean of the kernels between all rows, `[rows, rows]` float32 in [0, 1]."""
    squares = tf.reduce_sum(rows**2, -1)
    products = tf.matmul(rows, rows, transpose_b=True)
    # Rounding may leave a row at a tiny negative distance of itself.
    distances = tf.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)
    count = tf.cast(tf.shape(rows)[0], tf.float32)
    scale = tf.math.divide_no_nan(tf.reduce_sum(distances), count * (count - 1.0))
    scale = tf.stop_gradient(scale)
    kernels = [tf.exp(-tf.math.divide_no_nan(distances, width * scale)) for width in bandwidths]
    return tf.add_n(kernels) / len(kernels)


def _discrepancy(kernel: tf.Tensor, count: tf.Tensor, estimate: Estimate) -> tf.Tensor:
    """Return the discrepancy between the first `count` rows of a kernel and the others."""
    within = _kernel_mean(kernel[:count, :count], estimate) + _kernel_mean(kernel[count:, count:], estimate)
    distance = within - 2.0 * tf.reduce_mean(kernel[:count, count:])
    if estimate == "biased":
        return distance
    smaller = tf.minimum(count, tf.shape(kernel)[0] - count)
    return tf.cast(smaller > 1, tf.float32) * distance


def _kernel_mean(block: tf.Tensor, estimate: Estimate) -> tf.Tensor:
    if estimate == "biased":
        return tf.reduce_mean(block)
    count = tf.cast(tf.shape(block)[0], tf.float32)
    others = tf.reduce_sum(block) - tf.linalg.trace(block)
    return tf.math.divide_no_nan(others, count * (count - 1.0))


def reverse_gradient(values: Any, strength: Any = 1.0) -> tf.Tensor:
    """Return `values` as they are; their gradient is multiplied by `-strength` on the way back.

    Args:
        values: float32 of any shape.
        strength: scalar; 0 lets no gradient pass.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 4.2 (gradient reversal layer).
    """
    strength = tf.cast(strength, tf.float32)

    @tf.custom_gradient
    def reversed_on_the_way_back(inputs: tf.Tensor) -> Any:
        return tf.identity(inputs), lambda upstream: -strength * upstream

    return reversed_on_the_way_back(tf.convert_to_tensor(values))


def reversal_strength(progress: Any, steepness: float = 10.0) -> tf.Tensor:
    """Return how hard features are learnt against the domain classifier: 0 at first, while it knows nothing, then near 1.

    Args:
        progress: 0 at the first step to 1 at the end.
        steepness: of the rise; 10 in the paper.

    Returns:
        `2 / (1 + exp(-steepness * progress)) - 1`, float32.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 5.2 (lambda_p, gamma = 10).
    """
    return 2.0 / (1.0 + tf.exp(-steepness * tf.cast(progress, tf.float32))) - 1.0


def domain_loss(
    source_logits: Any, target_logits: Any, source_weights: Any = None, target_weights: Any = None
) -> tf.Tensor:
    """Return the cross-entropy of a domain classifier, the mean over the source and that over the target added up.

    Args:
        source_logits, target_logits: `[batch]` or `[batch, 1]` float32, positive where it takes an image for one of the source;
            the batches may differ in size.
        source_weights, target_weights: `[batch]` float32, not negative, of each image; only their ratios count. None: all 1.

    Returns:
        Scalar float32, in nats: `2 log 2` where nothing is known.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, equation 9.
    """
    # log(1 + exp(-z)) is the cross-entropy of the source's label, log(1 + exp(z)) that of the target's.
    source = tf.math.softplus(-tf.reshape(tf.cast(source_logits, tf.float32), [-1]))
    target = tf.math.softplus(tf.reshape(tf.cast(target_logits, tf.float32), [-1]))
    return _domain_mean(source, source_weights) + _domain_mean(target, target_weights)


def _domain_mean(values: tf.Tensor, weights: Any) -> tf.Tensor:
    if weights is None:
        return tf.reduce_mean(values)
    weights = tf.cast(weights, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.stop_gradient(tf.reduce_sum(weights)))


Array = np.ndarray[Any, Any]


def centroid_labels(features: Array, logits: Array, *, rounds: int = 2) -> Array:
    """Return the class whose centroid is nearest to each image's features, by the angle between them.

    In the first round a centroid is the mean of all features, weighed by the class's probability; then the mean of those that
    were nearest to it. A class that was nearest to nobody keeps the centroid that it had.

    Args:
        features: `[images, features]`.
        logits: `[images, classes]`.
        rounds: how often images are given to centroids; 2 in the paper.

    Returns:
        `[images]` int64.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equations 4 to 6.
    """
    features, logits = features.astype(np.float64), logits.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    centroids = np.zeros((logits.shape[1], features.shape[1]))
    labels = np.zeros(len(features), np.int64)
    for _ in range(rounds):
        masses = shares.sum(axis=0)
        present = masses > 0
        centroids[present] = (shares.T @ features)[present] / masses[present, None]
        labels = (_directions(features) @ _directions(centroids).T).argmax(axis=1)
        shares = np.eye(logits.shape[1])[labels]
    return labels


def _directions(rows: Array) -> Array:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def coral_loss(source: Any, target: Any) -> tf.Tensor:
    """Distance between the covariances of two sets of features.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.

    Returns:
        Scalar float32, 0 where both covariances agree: `|C_source - C_target|^2 / (4 d^2)`, the norm being Frobenius's and d
        the number of features. 0 also where one batch is a single image, of which there is no covariance.

    Reference:
        Sun & Saenko 2016, arXiv:1607.01719, equations 1 to 3.
    """
    source, target = (tf.cast(one, tf.float32) for one in (source, target))
    gap = covariance(source) - covariance(target)
    num_features = tf.cast(tf.shape(source)[1], tf.float32)
    smaller = tf.minimum(tf.shape(source)[0], tf.shape(target)[0])
    return tf.cast(smaller > 1, tf.float32) * tf.reduce_sum(gap**2) / (4.0 * num_features**2)


def covariance(features: tf.Tensor) -> tf.Tensor:
    """Return the unbiased covariance of the columns, `[features, features]` float32; 0 for a single row."""
    count = tf.cast(tf.shape(features)[0], tf.float32)
    centred = features - tf.reduce_mean(features, 0)
    return tf.math.divide_no_nan(tf.matmul(centred, centred, transpose_a=True), count - 1.0)


def margin_disparity_loss(
    source_logits: Any, source_second: Any, target_logits: Any, target_second: Any, *, margin: float = 4.0
) -> tf.Tensor:
    """Return what a second head minimises; the network that makes its features maximises it.

    `margin * mean(-log p'_s[y_s]) + mean(-log(1 - p'_t[y_t]))`: p' is the second head's probability, y the class that the first head
    would choose, which passes no gradient.

    Args:
        source_logits, target_logits: `[batch, classes]` float32 of the first head.
        source_second, target_second: likewise of the second.
        margin: factor of the source; the logarithm of it is the margin.

    Returns:
        Scalar float32, at least 0: minus the margin disparity discrepancy of the paper.

    Reference:
        Zhang et al. 2019, arXiv:1904.05801, section 5 (the adversarial algorithm, with the modified cross-entropy on the target).
    """
    agreed = _log_share(source_second, source_logits)
    denied = _log_share(target_second, target_logits)
    # 1 - p by expm1, which has digits left where p is nearly 0; where p is nearly 1, the logarithm stays finite.
    missing = tf.maximum(-tf.math.expm1(denied), 1e-6)
    return -margin * tf.reduce_mean(agreed) - tf.reduce_mean(tf.math.log(missing))


def _log_share(second: Any, first: Any) -> tf.Tensor:
    """Return the logarithm of what the second head gives to the class that the first one chooses: `[batch]`."""
    second = tf.cast(second, tf.float32)
    chosen = tf.one_hot(tf.argmax(first, -1), tf.shape(second)[1])
    return tf.reduce_sum(chosen * tf.nn.log_softmax(second), -1)


def entropy(logits: Any) -> tf.Tensor:
    """Return the entropy of each prediction: `[batch]` float32 in nats, 0 to log(classes).

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Wang et al. 2021, arXiv:2006.10726, section 3 (TENT, the entropy objective).
    """
    logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_sum(tf.exp(logs) * logs, -1)


def diversity_loss(logits: Any) -> tf.Tensor:
    """Return minus the entropy of the mean prediction: scalar float32 in nats, -log(classes) to 0.

    It is lowest where all classes are predicted equally often, whatever their share among the images.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equation 3 (SHOT).
    """
    mean = tf.reduce_mean(tf.nn.softmax(tf.cast(logits, tf.float32)), 0)
    return tf.reduce_sum(tf.math.xlogy(mean, mean))


def multilinear_map(features: Any, probabilities: Any) -> tf.Tensor:
    """Return each feature times each class's probability: `[batch, features * classes]` float32.

    Args:
        features: `[batch, features]` float32.
        probabilities: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (multilinear conditioning).
    """
    features, probabilities = (tf.cast(one, tf.float32) for one in (features, probabilities))
    products = features[:, :, None] * probabilities[:, None, :]
    width = features.shape[1] * probabilities.shape[1]
    return tf.reshape(products, [tf.shape(products)[0], width])


class RandomMultilinearMap:
    """A random projection of `multilinear_map` that keeps inner products on average, for maps that would be too wide.

    `(R_f f) * (R_g g) / sqrt(width)`, the entries of both matrices from a normal distribution, never trained.

    Args:
        num_features, num_classes: of what is mapped.
        width: numbers in the result.
        seed: of the matrices.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (randomized multilinear conditioning).
    """

    def __init__(self, num_features: int, num_classes: int, *, width: int, seed: int) -> None:
        drawn = np.random.default_rng(seed)
        self._of_features = drawn.standard_normal((num_features, width)).astype(np.float32)
        self._of_classes = drawn.standard_normal((num_classes, width)).astype(np.float32)

    def __call__(self, features: Any, probabilities: Any) -> tf.Tensor:
        """Return `[batch, width]` float32."""
        width = self._of_features.shape[1]
        mapped = tf.matmul(features, self._of_features) * tf.matmul(probabilities, self._of_classes)
        return mapped / width**0.5


def certainty_weights(logits: Any) -> tf.Tensor:
    """Return `1 + exp(-H)` of each image, H the entropy of its prediction: `[batch]` float32 from 1 to 2.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (entropy conditioning).
    """
    return 1.0 + tf.exp(-entropy(logits))


def class_confusion_loss(logits: Any, *, temperature: float = 2.5) -> tf.Tensor:
    """Return the minimum class confusion loss of a batch.

    With probabilities `P = softmax(logits / temperature)`, `[batch, classes]`, and a weight `w = 1 + exp(-H)` of each image, made
    to sum to the batch's size and held constant for the gradient, the confusion of two classes is `C = P^T diag(w) P`, its rows
    are made to sum to 1, and what lies off its diagonal is averaged over the classes.

    Args:
        logits: `[batch, classes]` float32; a batch should hold more images than there are classes.
        temperature: above 0.

    Returns:
        Scalar float32, 0 (each image is one class alone) to below 1.

    Reference:
        Jin et al. 2020, arXiv:1912.03699, section 3 (probability rescaling, uncertainty reweighting, category normalization).
    """
    logits = tf.cast(logits, tf.float32) / temperature
    probabilities = tf.nn.softmax(logits)
    weights = tf.stop_gradient(1.0 + tf.exp(-entropy(logits)))
    weights = weights / tf.reduce_mean(weights)
    confusion = tf.matmul(probabilities, weights[:, None] * probabilities, transpose_a=True)
    confusion = tf.math.divide_no_nan(confusion, tf.reduce_sum(confusion, -1, keepdims=True))
    num_classes = tf.cast(tf.shape(logits)[1], tf.float32)
    return (tf.reduce_sum(confusion) - tf.linalg.trace(confusion)) / num_classes


def pseudo_label_loss(
    logits: Any, *, teacher: Any = None, threshold: float = 0.95
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the cross-entropy against the classes that a prediction is sure of.

    Args:
        logits: `[batch, classes]` float32, of what learns.
        teacher: `[batch, classes]` float32 logits that the classes are read off, without gradient, e.g. of a weaker view of the
            same images; None: `logits`.
        threshold: images whose most probable class has less are left out, 0 to 1.

    Returns:
        Scalar float32 in nats: the sum over the images that are sure enough, divided by the whole batch; and the share of the images
        that are, scalar float32.

    Reference:
        Sohn et al. 2020, arXiv:2001.07685, equation 4.
    """
    logits = tf.cast(logits, tf.float32)
    shares = tf.stop_gradient(tf.nn.softmax(tf.cast(logits if teacher is None else teacher, tf.float32)))
    sure = tf.cast(tf.reduce_max(shares, -1) >= threshold, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(shares, -1), logits)
    return tf.reduce_mean(sure * losses), tf.reduce_mean(sure)
