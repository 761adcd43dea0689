"""Exact BatchNorm statistics of a set of images, in place of a moving average.

After a short phase, a moving average with momentum 0.999 is still close to its initial value, and a network with random
weights predicts a constant for many epochs. Statistics of one pass over the data do not depend on the initial value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.training.step import trace
from kerastl.training.train_step import read_batches


def build_statistics_estimator(model: keras.Model) -> Callable[[ImageDataset], None]:
    """Return a function that sets the running statistics of a model to those of a dataset.

    Each layer sees images that are normalized with the statistics of their own batch, as in training. The mean is the
    average over batches. The variance is the mean of the batch variances plus the variance of the batch means.
    The images have the order, augmentation and mixing of epoch 0.

    Args:
        model: A flat classifier. A BatchNorm layer that has `trainable = False` now is never changed.

    Reference:
        Li et al. 2016, arXiv:1603.04779 (statistics of a domain); Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2
        (population statistics).
    """
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    features = keras.Model(model.inputs[0], model.get_layer("pooled").output)

    # The first call traces while the momentum is 0, which becomes a constant of the graph.
    forward = trace(lambda images: features(images, training=True), features)

    def estimate(dataset: ImageDataset) -> None:
        momentums = [layer.momentum for layer in layers]
        try:
            for layer in layers:
                layer.momentum = 0.0  # the running statistics are then those of the last batch
            statistics = _batch_statistics(layers, forward, dataset)
        finally:
            for layer, momentum in zip(layers, momentums, strict=True):
                layer.momentum = momentum
        for layer, (means, variances, counts) in zip(layers, statistics, strict=True):
            weights = (counts / counts.sum())[:, None]
            mean = (weights * means).sum(axis=0)
            variance = (weights * (variances + (means - mean) ** 2)).sum(axis=0)
            layer.moving_mean.assign(mean.astype(np.float32))
            layer.moving_variance.assign(variance.astype(np.float32))

    return estimate


def _batch_statistics(
    layers: list[Any], forward: Any, dataset: ImageDataset
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Return for each layer `[batches, channels]` means and variances and `[batches]` counts, float64."""
    means: list[list[Any]] = [[] for _ in layers]
    variances: list[list[Any]] = [[] for _ in layers]
    counts: list[float] = []
    for images, _, _ in read_batches(dataset, 0):
        forward(images)
        counts.append(float(images.shape[0]))
        for index, layer in enumerate(layers):
            means[index].append(keras.ops.convert_to_numpy(layer.moving_mean).astype(np.float64))
            variances[index].append(keras.ops.convert_to_numpy(layer.moving_variance).astype(np.float64))
    return [
        (np.stack(mean), np.stack(variance), np.asarray(counts))
        for mean, variance in zip(means, variances, strict=True)
    ]
