"""BatchNorm statistics, estimated exactly over a set of images instead of by a moving average.

A moving average with momentum 0.999 has forgotten almost nothing of its start after a short phase, so that
a net trained from random weights predicts a constant for many epochs. Two passes over the data do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.training.step import trace
from kerastl.training.train_step import read_batches


def is_statistic(variable: keras.Variable) -> bool:
    """Tell whether a variable is a running mean or variance of a BatchNorm layer."""
    return variable.path.rsplit("/", 1)[-1] in ("moving_mean", "moving_variance")


def build_statistics_estimator(model: keras.Model) -> Callable[[ImageDataset], None]:
    """Return a function that sets the running statistics of a model to those of a source's images.

    Each layer sees images normalised by their own batch, as in training. Means are averaged over batches;
    the variance of all images is the mean of the batches' variances plus the variance of their means.
    The images come in the order, and with the augmentation and mixing, of epoch 0.

    Args:
        model: a flat classifier; a BatchNorm layer with `trainable = False` when the function is first
            called is left as it is, then and later.

    Reference:
        Li et al. 2016, arXiv:1603.04779 (the statistics of a domain); Ioffe & Szegedy 2015,
        arXiv:1502.03167, algorithm 2 (population statistics).
    """
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    features = keras.Model(model.inputs[0], model.get_layer("pooled").output)

    # First called when momenta are 0, which becomes a constant of the graph.
    forward = trace(lambda images: features(images, training=True), features)

    def estimate(source: ImageDataset) -> None:
        momenta = [layer.momentum for layer in layers]
        try:
            for layer in layers:
                layer.momentum = 0.0  # the running statistics then are the last batch's, to be read off
            gathered = _batch_statistics(layers, forward, source)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
        for layer, (means, variances, counts) in zip(layers, gathered, strict=True):
            share = (counts / counts.sum())[:, None]
            mean = (share * means).sum(axis=0)
            variance = (share * (variances + (means - mean) ** 2)).sum(axis=0)
            layer.moving_mean.assign(mean.astype(np.float32))
            layer.moving_variance.assign(variance.astype(np.float32))

    return estimate


def _batch_statistics(
    layers: list[Any], forward: Any, source: ImageDataset
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Return for each layer `[batches, channels]` means and variances and `[batches]` counts, float64."""
    means: list[list[Any]] = [[] for _ in layers]
    variances: list[list[Any]] = [[] for _ in layers]
    counts: list[float] = []
    for images, _, _ in read_batches(source, 0):
        forward(images)
        counts.append(float(images.shape[0]))
        for index, layer in enumerate(layers):
            means[index].append(keras.ops.convert_to_numpy(layer.moving_mean).astype(np.float64))
            variances[index].append(keras.ops.convert_to_numpy(layer.moving_variance).astype(np.float64))
    return [
        (np.stack(mean), np.stack(variance), np.asarray(counts))
        for mean, variance in zip(means, variances, strict=True)
    ]
