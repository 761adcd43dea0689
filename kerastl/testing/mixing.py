"""What every mixing must keep true."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.augment import build_mixing
from kerastl.options import StrictModel
from kerastl.testing.augmentation import SIZE_PX, stateful_random_operations

COUNT = 12
"""Pictures of a batch; each has a class of its own, so that its label tells its partner."""


def check_mixing(name: str) -> None:
    """Check one mixing.

    - the same batch gives the same bytes, whatever the order of its rows; other seeds give others;
    - size, type and range are kept, and every row of the labels sums to 1 exactly;
    - pictures and labels agree: of pictures of one level each, the mean level is that of the label;
    - a picture alone, `alpha` 0 and probability 0 change nothing, to the byte;
    - pictures of one channel pass, and an empty batch;
    - no stateful random operation is in the graph;
    - its options are a StrictModel with defaults, so that they can be checked without TensorFlow.

    Args:
        name: of the mixing.

    Raises:
        AssertionError: one of these does not hold.
    """
    kind: Any = registry.options_of("mixing", name)
    assert issubclass(kind, StrictModel), f"{name}: Options is not a StrictModel"
    options = kind(alpha=1.0)
    mixing = _built(name, options)
    images, labels, seeds = _batch()
    mixed, rows = (part.numpy() for part in mixing(images, labels, seeds))
    again = [part.numpy().tobytes() for part in mixing(images, labels, seeds)]
    assert again == [mixed.tobytes(), rows.tobytes()], f"{name}: does not repeat"
    turned, turned_rows = mixing(images[::-1], labels[::-1], seeds[::-1])
    assert np.array_equal(turned[::-1], mixed), f"{name}: the order of the rows matters"
    assert np.array_equal(turned_rows[::-1], rows)
    assert not np.array_equal(mixing(images, labels, seeds + 1)[1], rows), f"{name}: one result"
    assert mixed.shape == images.shape
    assert mixed.dtype == rows.dtype == np.float32
    assert mixed.min() >= 0
    assert mixed.max() <= 255
    assert (rows.sum(axis=1) == 1).all(), f"{name}: a label does not sum to 1"
    _check_agreement(name, options)
    _check_identity(name, options)
    operations = stateful_random_operations(
        lambda images, seeds: mixing(images, tf.zeros(tf.shape(seeds)[:1], tf.int32), seeds)
    )
    assert not operations, f"{name}: a stateful random operation"


def _built(name: str, options: Any, channels: int = 3) -> Any:
    return build_mixing(
        [(name, options)], image_size_px=SIZE_PX, channels=channels, num_classes=COUNT
    )


def _batch() -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (COUNT, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    images[0], images[1] = 0.0, 255.0
    seeds = generator.integers(-(2**31), 2**31 - 1, (COUNT, 2)).astype(np.int32)
    return images, np.arange(COUNT, dtype=np.int32), seeds


def _check_agreement(name: str, options: Any) -> None:
    _, labels, seeds = _batch()
    levels = np.linspace(0, 255, COUNT, dtype=np.float32)
    flat = np.broadcast_to(levels[:, None, None, None], (COUNT, SIZE_PX, SIZE_PX, 1))
    mixed, rows = _built(name, options, channels=1)(flat, labels, seeds)
    means = mixed.numpy().mean(axis=(1, 2, 3), dtype=np.float64)
    gap = np.abs(means - rows.numpy().astype(np.float64) @ levels).max()
    assert gap < 1e-3, f"{name}: pictures and labels differ by {gap:.3f} of 255"


def _check_identity(name: str, options: Any) -> None:
    images, labels, seeds = _batch()
    truth = np.eye(COUNT, dtype=np.float32)
    never = (
        options.model_copy(update={"alpha": 0.0}),
        options.model_copy(update={"apply_probability": 0.0}),
    )
    for nothing in never:
        mixed, rows = _built(name, nothing)(images, labels, seeds)
        assert mixed.numpy().tobytes() == images.tobytes(), f"{name}: {nothing} changes pictures"
        assert rows.numpy().tobytes() == truth.tobytes(), f"{name}: {nothing} changes labels"
    mixed, rows = _built(name, options)(images[3:4], labels[3:4], seeds[3:4])
    assert mixed.numpy().tobytes() == images[3:4].tobytes(), f"{name}: mixes a picture with itself"
    assert rows.numpy().tobytes() == truth[3:4].tobytes()
    mixed, rows = _built(name, options)(images[:0], labels[:0], seeds[:0])
    assert (len(mixed), len(rows)) == (0, 0)
