"""Random features, images of two domains, and a small classifier."""

from dataclasses import dataclass

import numpy as np

SIZE_PX = 16


def features(count, width=6, seed=0, shift=0.0):
    generator = np.random.default_rng(seed)
    return (generator.normal(0, 1, (count, width)) + shift).astype(np.float32)


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def numpy_entropy(logits):
    probabilities = softmax(logits)
    return -(probabilities * np.log(probabilities)).sum(axis=1)


def reference_centroid_labels(rows, logits):
    weights, labels = softmax(logits), None
    centroids = [None] * logits.shape[1]
    for _ in range(2):
        for k in range(logits.shape[1]):
            mass = sum(weight[k] for weight in weights)
            if mass:
                total = sum(weight[k] * row for weight, row in zip(weights, rows, strict=True))
                centroids[k] = total / mass
        labels = []
        for row in rows:
            distances = [
                1 - row @ centroid / np.linalg.norm(row) / np.linalg.norm(centroid) for centroid in centroids
            ]
            labels.append(int(np.argmin(distances)))
        weights = np.eye(logits.shape[1])[labels]
    return labels


def small_model(num_classes=3, dropout=0.0, seed=1):
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("small_cnn", weights="none", image_size_px=SIZE_PX, seed=seed)
    names = [f"class {number}" for number in range(num_classes)]
    return build_model(backbone, class_names=names, dropout=dropout, seed=seed)


def batch(count, seed=0, num_classes=3, shifted=False):
    import tensorflow as tf

    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 255, (count, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    if shifted:
        images = 120 + 0.3 * images
    labels = generator.integers(0, num_classes, count).astype(np.int32)
    return tf.constant(images), tf.constant(labels), tf.range(count, dtype=tf.int64)


@dataclass
class ArrayDataset:
    """The part of an `ImageDataset` that `on_epoch` uses."""

    images: np.ndarray
    batch_size: int = 4
    has_fingerprint = False

    @property
    def num_examples(self):
        return len(self.images)

    def indexed_batches(self, epoch, first_step=0, shard=(0, 1)):
        import tensorflow as tf

        # Shuffled, like an epoch.
        order = np.random.default_rng(epoch).permutation(len(self.images))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            labels = np.full(len(rows), -1, np.int32)
            yield tf.constant(self.images[rows]), tf.constant(labels), tf.constant(rows)

    plain_batches = indexed_batches


def build_method(name, **options):
    """Return the step of a method for `small_model`."""
    from kerastl.adaptation import build_step

    return build_step(name, options, num_classes=3, num_features=128, seed=4)


def make_batches(source=5, target=3):
    """Return one batch per domain; the target is unlabeled."""
    import tensorflow as tf

    images, _, indices = batch(target, seed=2, shifted=True)
    return {"source": batch(source, seed=1), "target": (images, tf.fill([target], -1), indices)}


def make_phase(*args, **options):
    """Return a `Phase` that freezes BatchNorm and has no cache by default."""
    from kerastl.recipe import Phase

    return Phase(*args, **({"batch_norm": "frozen", "cache": "none"} | options))
