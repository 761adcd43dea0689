"""Maximum mean discrepancy: how far apart the mean embeddings of two samples are, by Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

Estimate = Literal["biased", "unbiased"]
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, in units of the mean squared distance between two of the pictures."""


def mmd_loss(
    source: Any,
    target: Any,
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    estimate: Estimate = "biased",
) -> tf.Tensor:
    """Return the squared maximum mean discrepancy between two samples.

    The kernel is the mean of several Gaussian ones, `exp(-|x - y|^2 / (b s))`: b from `bandwidths`, s the mean squared distance
    between two different pictures of both samples together, held constant for the gradient.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.
        bandwidths: positive.
        estimate: `biased`: the distance of the samples themselves, at least 0, and 0 where they are the same; `unbiased`: of
            the distributions; below 0 about half of the time where these agree, and 0 where a batch is a single picture.

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

    The kernel of two pictures is the product of the kernels of their parts, each as in `mmd_loss`.

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
    within = _kernel_mean(kernel[:count, :count], estimate) + _kernel_mean(
        kernel[count:, count:], estimate
    )
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
