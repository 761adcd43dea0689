"""Losses of adaptation methods as plain functions of tensors, for use in any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerastl.tasks import SINGLE_LABEL

Array = np.ndarray[Any, Any]
Estimate = Literal["biased", "unbiased"]
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, in units of the mean squared distance between two images."""


def mmd_loss(
    source: Any, target: Any, *, bandwidths: Sequence[float] = BANDWIDTHS, estimate: Estimate = "biased"
) -> tf.Tensor:
    """Return the squared maximum mean discrepancy between two samples.

    The kernel is the mean of several Gaussian kernels, `exp(-|x - y|^2 / (b s))`: b from `bandwidths`, s the
    mean squared distance between two different images of both samples, constant for the gradient.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.
        bandwidths: The positive kernel bandwidths.
        estimate: `biased` is the distance between the samples, at least 0, and 0 if they are identical.
            `unbiased` estimates that between the distributions; it is negative about half of the time if
            these are equal, and 0 if a batch is a single image.

    Returns:
        Scalar float32.

    Reference:
        Long et al. 2015, arXiv:1502.02791, section 3 (DAN), with equal instead of trained kernel weights. The
        estimates are those of Gretton et al. 2012, JMLR 13, equations 5 and 3, over all pairs, while DAN uses
        a linear-time subset.
    """
    return joint_mmd_loss([source], [target], bandwidths=bandwidths, estimate=estimate)


def joint_mmd_loss(
    source: Sequence[Any],
    target: Sequence[Any],
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    estimate: Estimate = "biased",
) -> tf.Tensor:
    """Return the squared discrepancy between two joint distributions, for example of features and predictions.

    The kernel is the product of the kernels of the parts, each as in `mmd_loss`.

    Args:
        source, target: Parts in the same order, each `[batch, width]` float32, for example features and
            probabilities.
        bandwidths, estimate: As in `mmd_loss`.

    Returns:
        Scalar float32.

    Reference:
        Long et al. 2017, arXiv:1605.06636, section 4 (JAN, the joint maximum mean discrepancy).
    """
    kernel = 1.0
    for parts in zip(source, target, strict=True):
        rows = tf.concat([tf.cast(part, tf.float32) for part in parts], 0)
        kernel *= _gaussians(rows, bandwidths)
    return _discrepancy(kernel, tf.shape(source[0])[0], estimate)


def _gaussians(rows: tf.Tensor, bandwidths: Sequence[float]) -> tf.Tensor:
    """Return the mean of the kernels between all rows, `[rows, rows]` float32 in [0, 1]."""
    squares = tf.reduce_sum(rows**2, -1)
    products = tf.matmul(rows, rows, transpose_b=True)
    # Rounding may give a row a slightly negative distance from itself.
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
    """Return `values` unchanged; their gradient is multiplied by `-strength`.

    Args:
        values: A float32 tensor of any shape.
        strength: Scalar; 0 stops the gradient.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 4.2 (gradient reversal layer).
    """
    strength = tf.cast(strength, tf.float32)

    @tf.custom_gradient
    def identity(inputs: tf.Tensor) -> Any:
        return tf.identity(inputs), lambda upstream: -strength * upstream

    return identity(tf.convert_to_tensor(values))


def reversal_strength(progress: Any, steepness: float = 10.0) -> tf.Tensor:
    """Return the strength of the reversed gradient, which increases from 0 to almost 1.

    Args:
        progress: 0 at the first step, 1 at the end.
        steepness: How fast the strength increases; 10 in the paper.

    Returns:
        `2 / (1 + exp(-steepness * progress)) - 1`, float32.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 5.2 (lambda_p, gamma = 10).
    """
    return 2.0 / (1.0 + tf.exp(-steepness * tf.cast(progress, tf.float32))) - 1.0


def domain_loss(
    source_logits: Any, target_logits: Any, source_weights: Any = None, target_weights: Any = None
) -> tf.Tensor:
    """Return the cross-entropy of a domain classifier: the mean over the source plus the mean over the target.

    Args:
        source_logits, target_logits: `[batch]` or `[batch, 1]` float32, positive for the source; the batches
            may differ in size.
        source_weights, target_weights: `[batch]` float32, weights of the images, at least 0; only their
            ratios matter. None for equal weights.

    Returns:
        Scalar float32 in nats: `2 log 2` at chance.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, equation 9.
    """
    # The cross-entropy is log(1 + exp(-z)) for the source and log(1 + exp(z)) for the target.
    source = tf.math.softplus(-tf.reshape(tf.cast(source_logits, tf.float32), [-1]))
    target = tf.math.softplus(tf.reshape(tf.cast(target_logits, tf.float32), [-1]))
    return _domain_mean(source, source_weights) + _domain_mean(target, target_weights)


def _domain_mean(values: tf.Tensor, weights: Any) -> tf.Tensor:
    if weights is None:
        return tf.reduce_mean(values)
    weights = tf.cast(weights, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.stop_gradient(tf.reduce_sum(weights)))


def centroid_labels(features: Array, logits: Array, *, rounds: int = 2) -> Array:
    """Return the class with the nearest centroid for each image, by cosine similarity of the features.

    In the first round, a centroid is the mean of all features, weighted by the probability of the class. Then
    it is the mean of the images that were nearest to it. If there are none, the centroid does not change.

    Args:
        features: `[images, features]`.
        logits: `[images, classes]`.
        rounds: Number of assignments to centroids; 2 in the paper.

    Returns:
        `[images]` int64.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equations 4 to 6.
    """
    features = features.astype(np.float64)
    weights = SINGLE_LABEL.probabilities(logits)
    centroids = np.zeros((logits.shape[1], features.shape[1]))
    labels = np.zeros(len(features), np.int64)
    for _ in range(rounds):
        masses = weights.sum(axis=0)
        is_used = masses > 0
        centroids[is_used] = (weights.T @ features)[is_used] / masses[is_used, None]
        labels = (_directions(features) @ _directions(centroids).T).argmax(axis=1)
        weights = np.eye(logits.shape[1])[labels]
    return labels


def _directions(rows: Array) -> Array:
    """Return rows of length 1; a row of zeros does not change."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def coral_loss(source: Any, target: Any) -> tf.Tensor:
    """Return the distance between the covariances of two sets of features.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.

    Returns:
        Scalar float32, `|C_source - C_target|^2 / (4 d^2)` with the Frobenius norm and the number of features
        d. It is 0 for equal covariances, and if a batch is a single image, which has no covariance.

    Reference:
        Sun & Saenko 2016, arXiv:1607.01719, equations 1 to 3.
    """
    source, target = (tf.cast(values, tf.float32) for values in (source, target))
    gap = _covariance(source) - _covariance(target)
    num_features = tf.cast(tf.shape(source)[1], tf.float32)
    smaller = tf.minimum(tf.shape(source)[0], tf.shape(target)[0])
    return tf.cast(smaller > 1, tf.float32) * tf.reduce_sum(gap**2) / (4.0 * num_features**2)


def _covariance(features: tf.Tensor) -> tf.Tensor:
    """Return the unbiased covariance of the columns, `[features, features]` float32; 0 for a single row."""
    count = tf.cast(tf.shape(features)[0], tf.float32)
    centered = features - tf.reduce_mean(features, 0)
    return tf.math.divide_no_nan(tf.matmul(centered, centered, transpose_a=True), count - 1.0)


def margin_disparity_loss(
    source_logits: Any, source_second: Any, target_logits: Any, target_second: Any, *, margin: float = 4.0
) -> tf.Tensor:
    """Return the loss that a second head minimizes and the features maximize.

    `margin * mean(-log p'_s[y_s]) + mean(-log(1 - p'_t[y_t]))`: p' is the probability of the second head, y
    the class that the first head predicts, without gradient.

    Args:
        source_logits, target_logits: `[batch, classes]` float32 of the first head.
        source_second, target_second: The same of the second head.
        margin: Factor of the source term; its logarithm is the margin.

    Returns:
        Scalar float32, at least 0: minus the margin disparity discrepancy of the paper.

    Reference:
        Zhang et al. 2019, arXiv:1904.05801, section 5 (the adversarial algorithm, with the modified
        cross-entropy on the target).
    """
    source_logs = _log_probability(source_second, source_logits)
    target_logs = _log_probability(target_second, target_logits)
    # 1 - p by expm1 is accurate if p is close to 0. If p is close to 1, the minimum keeps the logarithm finite.
    complement = tf.maximum(-tf.math.expm1(target_logs), 1e-6)
    return -margin * tf.reduce_mean(source_logs) - tf.reduce_mean(tf.math.log(complement))


def _log_probability(second: Any, first: Any) -> tf.Tensor:
    """Return the second head's log-probability of the class that the first head predicts: `[batch]`."""
    second = tf.cast(second, tf.float32)
    predicted = tf.one_hot(tf.argmax(first, -1), tf.shape(second)[1])
    return tf.reduce_sum(predicted * tf.nn.log_softmax(second), -1)


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

    It is smallest if all classes are predicted equally often, regardless of their frequency in the batch.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equation 3 (SHOT).
    """
    mean = tf.reduce_mean(tf.nn.softmax(tf.cast(logits, tf.float32)), 0)
    return tf.reduce_sum(tf.math.xlogy(mean, mean))


def multilinear_map(features: Any, probabilities: Any) -> tf.Tensor:
    """Return the products of all features and class probabilities: `[batch, features * classes]` float32.

    Args:
        features: `[batch, features]` float32.
        probabilities: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (multilinear conditioning).
    """
    features, probabilities = (tf.cast(values, tf.float32) for values in (features, probabilities))
    products = features[:, :, None] * probabilities[:, None, :]
    return tf.reshape(products, [-1, features.shape[1] * probabilities.shape[1]])


class RandomMultilinearMap:
    """A random projection of `multilinear_map` that preserves inner products on average.

    `(R_f f) * (R_g g) / sqrt(width)`. The entries of both matrices are normally distributed and not trained.

    Args:
        num_features, num_classes: Widths of the two inputs.
        width: Width of the output.
        seed: Seed of the matrices.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (randomized multilinear conditioning).
    """

    def __init__(self, num_features: int, num_classes: int, *, width: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._feature_matrix = generator.standard_normal((num_features, width)).astype(np.float32)
        self._class_matrix = generator.standard_normal((num_classes, width)).astype(np.float32)

    def __call__(self, features: Any, probabilities: Any) -> tf.Tensor:
        """Return `[batch, width]` float32."""
        width = self._feature_matrix.shape[1]
        mapped = tf.matmul(features, self._feature_matrix) * tf.matmul(probabilities, self._class_matrix)
        return mapped / width**0.5


def certainty_weights(logits: Any) -> tf.Tensor:
    """Return `1 + exp(-H)` per image, H the entropy of its prediction: `[batch]` float32, 1 to 2.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (entropy conditioning).
    """
    return 1.0 + tf.exp(-entropy(logits))


def class_confusion_loss(logits: Any, *, temperature: float = 2.5) -> tf.Tensor:
    """Return the minimum class confusion loss of a batch.

    With probabilities `P = softmax(logits / temperature)`, `[batch, classes]`, and weights `w = 1 + exp(-H)`
    per image, which sum to the batch size and are constant for the gradient, the confusion of two classes is
    `C = P^T diag(w) P`. Its rows are normalized to a sum of 1, and the sum of the off-diagonal entries is
    divided by the number of classes.

    Args:
        logits: `[batch, classes]` float32; a batch should hold more images than there are classes.
        temperature: Temperature, above 0.

    Returns:
        Scalar float32, 0 (every prediction is a single class) to below 1.

    Reference:
        Jin et al. 2020, arXiv:1912.03699, section 3 (probability rescaling, uncertainty reweighting, category
        normalization).
    """
    logits = tf.cast(logits, tf.float32) / temperature
    probabilities = tf.nn.softmax(logits)
    weights = tf.stop_gradient(certainty_weights(logits))
    weights = weights / tf.reduce_mean(weights)
    confusion = tf.matmul(probabilities, weights[:, None] * probabilities, transpose_a=True)
    confusion = tf.math.divide_no_nan(confusion, tf.reduce_sum(confusion, -1, keepdims=True))
    num_classes = tf.cast(tf.shape(logits)[1], tf.float32)
    return (tf.reduce_sum(confusion) - tf.linalg.trace(confusion)) / num_classes


def pseudo_label_loss(
    logits: Any, *, teacher: Any = None, threshold: float = 0.95
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the cross-entropy against confident predictions.

    Args:
        logits: `[batch, classes]` float32 that are trained.
        teacher: `[batch, classes]` float32 logits that define the labels, without gradient, for example of a
            weaker view of the same images; None for `logits`.
        threshold: Images with a smaller maximum probability are ignored, 0 to 1.

    Returns:
        Scalar float32 in nats, the sum over the images above the threshold divided by the batch size; and the
        fraction of these images, scalar float32.

    Reference:
        Sohn et al. 2020, arXiv:2001.07685, equation 4.
    """
    logits = tf.cast(logits, tf.float32)
    teacher = logits if teacher is None else tf.cast(teacher, tf.float32)
    probabilities = tf.stop_gradient(tf.nn.softmax(teacher))
    is_confident = tf.cast(tf.reduce_max(probabilities, -1) >= threshold, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(probabilities, -1), logits)
    return tf.reduce_mean(is_confident * losses), tf.reduce_mean(is_confident)
