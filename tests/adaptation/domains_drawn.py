"""Drawn features, images of two domains, and a small classifier."""

from dataclasses import dataclass

import numpy as np

SIZE_PX = 16


def features(count, width=6, seed=0, shift=0.0):
    drawn = np.random.default_rng(seed)
    return (drawn.normal(0, 1, (count, width)) + shift).astype(np.float32)


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def drawn_entropy(logits):
    shares = softmax(logits)
    return -(shares * np.log(shares)).sum(axis=1)


def centroids_by_hand(rows, logits):
    shares, labels = softmax(logits), None
    centroids = [None] * logits.shape[1]
    for _ in range(2):
        for k in range(logits.shape[1]):
            mass = sum(share[k] for share in shares)
            if mass:
                summed = sum(share[k] * row for share, row in zip(shares, rows, strict=True))
                centroids[k] = summed / mass
        labels = []
        for row in rows:
            angles = [1 - row @ centre / np.linalg.norm(row) / np.linalg.norm(centre) for centre in centroids]
            labels.append(int(np.argmin(angles)))
        shares = np.eye(logits.shape[1])[labels]
    return labels


def small_model(num_classes=3, dropout=0.0, seed=1):
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("small_cnn", weights="none", image_size_px=SIZE_PX, seed=seed)
    names = [f"class {number}" for number in range(num_classes)]
    return build_model(backbone, class_names=names, dropout=dropout, seed=seed)


def batch(count, seed=0, num_classes=3, shifted=False):
    import tensorflow as tf

    drawn = np.random.default_rng(seed)
    images = drawn.uniform(0, 255, (count, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    if shifted:
        images = 120 + 0.3 * images
    labels = drawn.integers(0, num_classes, count).astype(np.int32)
    return tf.constant(images), tf.constant(labels), tf.range(count, dtype=tf.int64)


@dataclass
class Datasets:
    """What `on_epoch` asks of a source."""

    images: np.ndarray
    batch_size: int = 4

    @property
    def num_examples(self):
        return len(self.images)

    def indexed_batches(self, epoch, first_step=0, shard=(0, 1)):
        import tensorflow as tf

        # Not in the order of the indices, as in an epoch that is shuffled.
        order = np.random.default_rng(epoch).permutation(len(self.images))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            labels = np.full(len(rows), -1, np.int32)
            yield tf.constant(self.images[rows]), tf.constant(labels), tf.constant(rows)

    plain_batches = indexed_batches


def built(name, **options):
    """The step of a method, for `small_model`."""
    from kerastl.adaptation import build_step

    return build_step(name, options, num_classes=3, num_features=128, seed=4)


def two_batches(source=5, target=3):
    """A batch of each domain; the target's has no labels."""
    import tensorflow as tf

    images, _, indices = batch(target, seed=2, shifted=True)
    return {"source": batch(source, seed=1), "target": (images, tf.fill([target], -1), indices)}


def plain_phase(*args, **options):
    """A `Phase` that freezes BatchNorm, as for pretrained weights, and has no cache, unless the options say otherwise."""
    from kerastl.recipe import Phase

    return Phase(*args, **({"batch_norm": "frozen", "cache": "none"} | options))
