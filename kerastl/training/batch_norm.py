"""Exact BatchNorm statistics of a set of images, in place of a moving average.

After a short phase, a moving average with momentum 0.999 is still close to its initial value, and a network with random
weights predicts a constant for many epochs. Statistics of one pass over the data do not depend on the initial value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.training.freeze import (
    HEAD_INPUT,
    Array,
    batch_norm_layers,
    copy_of,
    has_table,
    override_attribute,
)
from kerastl.training.step import trace
from kerastl.training.train_step import read_batches

MAX_KEPT_BYTES = 256 * 2**20
"""Images of a dataset are kept for the next estimate if they take at most this many bytes as float32."""


def build_statistics_estimator(model: keras.Model) -> Callable[[ImageDataset], None]:
    """Return a function that sets the running statistics of a model to those of a dataset.

    Each layer sees images that are normalized with the statistics of their own batch, as in training. The mean is the
    average over batches. The variance is the mean of the batch variances plus the variance of the batch means.
    The images have the order, augmentation and mixing of epoch 0. If they take at most 256 MiB and do not change from pass
    to pass, all calls share one pass.

    Args:
        model: A functional classifier. A BatchNorm layer that has `trainable = False` now is never changed.

    Reference:
        Li et al. 2016, arXiv:1603.04779 (statistics of a domain); Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2
        (population statistics).
    """
    layers = [layer for layer in batch_norm_layers(model) if layer.trainable]
    features = keras.Model(model.inputs[0], model.get_layer(HEAD_INPUT).output) if has_table(model) else model

    # The first call traces while the momentum is 0, which becomes a constant of the graph.
    forward = trace(lambda images: features(images, training=True), features)

    def statistics_of_batch(images: Any) -> list[tuple[Array, Array]]:
        forward(images)
        return [(copy_of(layer.moving_mean), copy_of(layer.moving_variance)) for layer in layers]

    kept: WeakKeyDictionary[ImageDataset, list[Any]] = WeakKeyDictionary()

    def images_of(dataset: ImageDataset) -> Iterable[Any]:
        # Other images can differ from pass to pass: those of a tf.data.Dataset or of a user's own augmentation.
        can_keep = dataset.has_fingerprint and _num_bytes(dataset) <= MAX_KEPT_BYTES
        if can_keep and dataset in kept:
            return kept[dataset]
        batches = (images for images, _, _ in read_batches(dataset, 0))
        return kept.setdefault(dataset, list(batches)) if can_keep else batches

    def estimate(dataset: ImageDataset) -> None:
        # Without momentum, the running statistics are those of the last batch.
        with override_attribute(layers, "momentum", 0.0):
            batches = [(float(images.shape[0]), statistics_of_batch(images)) for images in images_of(dataset)]
        counts = np.asarray([count for count, _ in batches])
        weights = (counts / counts.sum())[:, None]
        for layer, of_layer in zip(layers, zip(*(rows for _, rows in batches), strict=True), strict=True):
            means, variances = (np.stack(values).astype(np.float64) for values in zip(*of_layer, strict=True))
            mean = (weights * means).sum(axis=0)
            variance = (weights * (variances + (means - mean) ** 2)).sum(axis=0)
            layer.moving_mean.assign(mean.astype(np.float32))
            layer.moving_variance.assign(variance.astype(np.float32))

    return estimate


def _num_bytes(dataset: ImageDataset) -> int:
    """Return the size of all images of a dataset as float32."""
    return 4 * 3 * dataset.num_examples * math.prod(dataset.image_size_px)
