"""Contract checks for augmentation operations and mixings."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.augment import build_mixing, build_policy
from kerastl.errors import RequestError
from kerastl.options import StrictModel

SIZE_PX = (19, 23)
"""Not multiples of a vector size, so that the remainder of a row is tested; and not square."""
Array = np.ndarray[Any, Any]
LARGEST_GAP = 0.01
THRESHOLD_SHARE = 0.001
RANDOM = re.compile(r"Random|Rng|Multinomial|Stateful(Uniform|Standard|Truncated|Binomial)|Shuffle")


def check_augmentation(name: str) -> None:
    """Check that an operation fulfills the contract of augmentations.

    - Equal seeds give equal bytes, alone and in batches of any size; another seed gives another image.
    - Size, type and range are kept, without NaN, for gray, black and white images, too.
    - Strength 0 and probability 0 change no byte; probability 0.5 changes about half of the images.
    - The compiled operation equals the layer within 0.01 of 255, except for 0.1% of the values (thresholds).
    - Grayscale images are accepted, or refused by an operation with `NEEDS_COLOR`.
    - Its graph has no stateful random operation.
    - Its options are a `StrictModel`, so that they can be checked without TensorFlow.

    Args:
        name: Name of the operation.

    Raises:
        AssertionError: If a check fails.
    """
    strong = registry.module("operation", name).at_strength(0.9)
    options = strong.model_copy(update={"apply_probability": 1.0})
    policy = _policy(name, options, exact=False)
    images = _images(27)
    images[2] = images[2].mean(axis=-1, keepdims=True)
    seeds = np.random.default_rng(5).integers(0, 2**31, (len(images), 2)).astype(np.int32)
    batch = policy(images, seeds).numpy()
    for size in (1, 9):
        starts = range(0, len(images), size)
        parts = [policy(images[i : i + size], seeds[i : i + size]).numpy() for i in starts]
        equal = np.concatenate(parts).tobytes() == batch.tobytes()
        assert equal, f"{name}: batches of {size} change the bytes"
    _check_pixels(name, batch, images)
    sometimes = _policy(name, options.model_copy(update={"apply_probability": 0.5}))
    same = np.array_equal(sometimes(images, seeds), sometimes(images, seeds + 1))
    assert not same, f"{name}: another seed gives the same images"
    assert not stateful_random_operations(policy), f"{name}: a stateful random operation"
    assert isinstance(options, StrictModel), f"{name}: Options is not a StrictModel"
    _check_strength_zero(name, images, seeds)
    _check_exact(name, options, images, seeds, batch)
    _check_probability(name, options)
    _check_gray(name, options)


def _policy(name: str, options: Any, *, exact: bool = True, channels: Literal[1, 3] = 3) -> Any:
    return build_policy([(name, options)], image_size_px=SIZE_PX, exact=exact, channels=channels)


def _images(count: int) -> Array:
    images = np.random.default_rng(0).uniform(0, 255, (count, *SIZE_PX, 3)).astype(np.float32)
    images[0], images[1] = 0.0, 255.0
    return images


def _check_pixels(name: str, changed: Array, images: Array) -> None:
    """Check the shape, the type and the range of changed images."""
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all(), f"{name}: NaN or infinity"
    assert changed.min() >= 0, f"{name}: below 0"
    assert changed.max() <= 255, f"{name}: above 255"


def _check_strength_zero(name: str, images: Any, seeds: Any) -> None:
    policy = _policy(name, registry.module("operation", name).at_strength(0.0), exact=False)
    assert np.array_equal(policy(images, seeds), images), f"{name}: strength 0 changes images"


def _check_exact(name: str, options: Any, images: Any, seeds: Any, compiled: Any) -> None:
    share = (np.abs(_policy(name, options)(images, seeds).numpy() - compiled) > LARGEST_GAP).mean()
    assert share <= THRESHOLD_SHARE, f"{name}: {share:.2%} of the values differ if compiled"


def _check_probability(name: str, options: Any) -> None:
    images = np.repeat(_images(3)[2:], 200, axis=0)
    seeds = np.stack([np.arange(200), np.zeros(200)], axis=1).astype(np.int32)

    def changed(probability: float) -> float:
        """Return the fraction of images that change."""
        policy = _policy(name, options.model_copy(update={"apply_probability": probability}))
        return float((policy(images, seeds).numpy() != images).any(axis=(1, 2, 3)).mean())

    assert changed(0.0) == 0.0, f"{name}: probability 0 changes images"
    # Five standard errors for 200 images are 0.18; a flip changes half of the images.
    share = changed(0.5) / changed(1.0)
    assert abs(share - 0.5) < 0.2, f"{name}: probability 0.5 does not change half of the images"


def _check_gray(name: str, options: Any) -> None:
    needs_color = getattr(registry.module("operation", name), "NEEDS_COLOR", False)
    try:
        policy = _policy(name, options, channels=1)
    except RequestError:
        assert needs_color, f"{name}: refuses grayscale images without NEEDS_COLOR"
        return
    assert not needs_color
    gray = _images(27)[..., :1]
    seeds = np.ones((len(gray), 2), np.int32)
    assert policy(gray, seeds).numpy().shape == gray.shape


def stateful_random_operations(policy: Any) -> list[str]:
    """Return the stateful random operations in the graph of a policy."""
    images, seeds = tf.zeros([2, *SIZE_PX, 3]), tf.zeros([2, 2], tf.int32)
    graph = tf.function(policy).get_concrete_function(images, seeds).graph.as_graph_def()
    functions = [node for function in graph.library.function for node in function.node_def]
    names = [node.op for node in (*graph.node, *functions)]
    return [name for name in names if RANDOM.search(name) and not name.startswith("Stateless")]


COUNT = 12
"""Batch size; each image has its own class, so that its label identifies its partner."""


def check_mixing(name: str) -> None:
    """Check that a mixing fulfills the contract of mixings.

    - Equal batches give equal bytes in any order of their rows; other seeds give other images.
    - Size, type and range are kept, and label rows sum to exactly 1.
    - Images and labels agree: for constant images, the mean level is that of the label weights.
    - A single image, `alpha` 0 and probability 0 are unchanged to the byte.
    - Grayscale images and empty batches are accepted.
    - Its graph has no stateful random operation.
    - Its options are a `StrictModel` with defaults, so that they can be checked without TensorFlow.

    Args:
        name: Name of the mixing.

    Raises:
        AssertionError: If a check fails.
    """
    kind: Any = registry.options_of("mixing", name)
    assert issubclass(kind, StrictModel), f"{name}: Options is not a StrictModel"
    options = kind(alpha=1.0)
    mixing = _build(name, options)
    images, labels, seeds = _batch()
    mixed, rows = (part.numpy() for part in mixing(images, labels, seeds))
    _check_pixels(name, mixed, images)
    again = [part.numpy().tobytes() for part in mixing(images, labels, seeds)]
    assert again == [mixed.tobytes(), rows.tobytes()], f"{name}: is not reproducible"
    reversed_images, reversed_rows = mixing(images[::-1], labels[::-1], seeds[::-1])
    assert np.array_equal(reversed_images[::-1], mixed), f"{name}: the order of the rows matters"
    assert np.array_equal(reversed_rows[::-1], rows)
    is_same = np.array_equal(mixing(images, labels, seeds + 1)[1], rows)
    assert not is_same, f"{name}: another seed gives the same labels"
    assert rows.dtype == np.float32
    assert (rows.sum(axis=1) == 1).all(), f"{name}: a label does not sum to 1"
    _check_agreement(name, options)
    _check_identity(name, options)
    operations = stateful_random_operations(
        lambda images, seeds: mixing(images, tf.zeros(tf.shape(seeds)[:1], tf.int32), seeds)
    )
    assert not operations, f"{name}: a stateful random operation"


def _build(name: str, options: Any, channels: int = 3) -> Any:
    return build_mixing([(name, options)], image_size_px=SIZE_PX, channels=channels, num_classes=COUNT)


def _batch() -> tuple[Any, Any, Any]:
    seeds = np.random.default_rng(1).integers(-(2**31), 2**31 - 1, (COUNT, 2)).astype(np.int32)
    return _images(COUNT), np.arange(COUNT, dtype=np.int32), seeds


def _check_agreement(name: str, options: Any) -> None:
    _, labels, seeds = _batch()
    levels = np.linspace(0, 255, COUNT, dtype=np.float32)
    flat = np.broadcast_to(levels[:, None, None, None], (COUNT, *SIZE_PX, 1))
    mixed, rows = _build(name, options, channels=1)(flat, labels, seeds)
    means = mixed.numpy().mean(axis=(1, 2, 3), dtype=np.float64)
    gap = np.abs(means - rows.numpy().astype(np.float64) @ levels).max()
    assert gap < 1e-3, f"{name}: images and labels differ by {gap:.3f} of 255"


def _check_identity(name: str, options: Any) -> None:
    images, labels, seeds = _batch()
    truth = np.eye(COUNT, dtype=np.float32)
    for change in ({"alpha": 0.0}, {"apply_probability": 0.0}):
        identity = options.model_copy(update=change)
        mixed, rows = _build(name, identity)(images, labels, seeds)
        assert mixed.numpy().tobytes() == images.tobytes(), f"{name}: {identity} changes images"
        assert rows.numpy().tobytes() == truth.tobytes(), f"{name}: {identity} changes labels"
    mixed, rows = _build(name, options)(images[3:4], labels[3:4], seeds[3:4])
    assert mixed.numpy().tobytes() == images[3:4].tobytes(), f"{name}: mixes an image with itself"
    assert rows.numpy().tobytes() == truth[3:4].tobytes()
    mixed, rows = _build(name, options)(images[:0], labels[:0], seeds[:0])
    assert (len(mixed), len(rows)) == (0, 0)
