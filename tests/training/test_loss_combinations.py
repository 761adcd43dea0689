"""All combinations of class weights, focal loss, label smoothing and mixing, compared with a formula in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase, write_images
from memory_dataset import MemoryDataset

from kerastl.augment import build_mixing
from kerastl.training import ClassificationStep
from kerastl.training.loop import classification_step
from kerastl.training.losses import balanced_weights

CLASSES = 3
WEIGHTS = np.array([0.5, 2.0, 3.0])
EYE = np.eye(CLASSES, dtype=np.float32)
OF_ONE = list(itertools.product([0.0, 0.2], [None, WEIGHTS], [0.0, 1.5]))
COMBINATIONS = [(*settings, mixed) for settings in OF_ONE for mixed in (False, True)]


def documented(logits, rows, weights, smoothing, gamma):
    """Return the loss by the formula in docs/training.md, in float64."""
    logits, rows = np.asarray(logits, np.float64), np.asarray(rows, np.float64)
    weights = np.ones(rows.shape[1]) if weights is None else np.asarray(weights, np.float64)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    total = 0.0
    for p, y in zip(chances, rows, strict=True):
        v = sum(y[c] * weights[c] for c in range(len(y)))
        if v == 0:
            continue
        for c in range(len(y)):
            target = (1 - smoothing) * y[c] * weights[c] / v + smoothing / len(y)
            total -= v * target * (1 - p[c]) ** gamma * np.log(p[c])
    return total / len(rows)


def drawn_batch(*, mixed):
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 2, (8, CLASSES)).astype(np.float32)
    first, second = generator.integers(0, CLASSES, (2, 8))
    share = generator.uniform(0, 1, (8, 1)).astype(np.float32) if mixed else np.float32(1)
    return logits, share * EYE[first] + (1 - share) * EYE[second], first, second, share


def step_of(smoothing, weights, gamma):
    return ClassificationStep(CLASSES, label_smoothing=smoothing, class_weights=weights, focal_gamma=gamma)


def losses_of(step, logits, labels):
    batch = {"train": (None, tf.constant(labels), None)}
    return step.losses(lambda images, training: logits, batch, tf.constant(0.0))


@pytest.mark.parametrize(("smoothing", "weights", "gamma", "mixed"), COMBINATIONS)
def test_loss_and_gradient_equal_the_formula(smoothing, weights, gamma, mixed):
    logits, rows, first, *_ = drawn_batch(mixed=mixed)
    labels = rows if mixed else first.astype(np.int32)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = losses_of(step_of(smoothing, weights, gamma), variable, labels)["loss"]
    assert float(loss) == pytest.approx(documented(logits, rows, weights, smoothing, gamma), rel=1e-5)
    slopes = np.asarray(tape.gradient(loss, variable))
    for index in np.ndindex(2, CLASSES):
        change = np.zeros(logits.shape)
        change[index] = 1e-5
        ends = [documented(logits + by * change, rows, weights, smoothing, gamma) for by in (1, -1)]
        assert slopes[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5)


@pytest.mark.parametrize(("smoothing", "weights", "gamma"), OF_ONE)
def test_loss_of_a_mixed_image_is_the_mix_of_the_losses_of_its_parts(smoothing, weights, gamma):
    """Its weight is the mean of the class weights, weighted by the label."""
    logits, rows, first, second, share = drawn_batch(mixed=True)
    step = step_of(smoothing, weights, gamma)
    for row in range(len(rows)):
        single = logits[row : row + 1]
        alone = [
            float(losses_of(step, single, labels[row : row + 1].astype(np.int32))["loss"])
            for labels in (first, second)
        ]
        by = float(share[row, 0])
        mixed = float(losses_of(step, single, rows[row : row + 1])["loss"])
        assert mixed == pytest.approx(by * alone[0] + (1 - by) * alone[1], rel=1e-4)


@pytest.mark.parametrize(
    "mixing", ["mix_up", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cut_mix", "fourier_mix"))]
)
def test_mixing_works_with_all_loss_options(tmp_path, mixing):
    """Balanced weights are computed before mixing."""
    names = ("dark", "light")
    records = write_images(tmp_path, 13, names)
    source = MemoryDataset(
        records, class_names=names, image_size_px=32, batch_size=13, seed=3,
        mix=build_mixing([{"name": mixing}], image_size_px=32, num_classes=2),
    )  # fmt: skip
    phase = plain_phase("p", 1, class_weights="balanced", label_smoothing=0.1, focal_gamma=2.0)
    (batch,) = source.indexed_batches(0)
    logits = np.random.default_rng(0).normal(0, 2, (13, 2)).astype(np.float32)
    step = classification_step(phase, source)
    loss = step.losses(lambda images, training: logits, {"train": batch}, tf.constant(0.0))["loss"]
    assert 0 < np.asarray(batch[1]).min(axis=1).max() < 1  # some are mixed
    weights = np.array([13 / (2 * 7), 13 / (2 * 6)])
    np.testing.assert_allclose(balanced_weights(source.labels, 2), weights, rtol=1e-6)
    assert float(loss) == pytest.approx(documented(logits, batch[1], weights, 0.1, 2.0), rel=1e-5)


def test_loss_is_divided_by_the_number_of_images():
    """Balanced weights have mean 1 over all images, not over each batch."""
    logits = np.zeros((2, CLASSES), np.float32)
    loss = losses_of(step_of(0.0, WEIGHTS, 0.0), logits, np.array([2, 2], np.int32))["loss"]
    assert float(loss) == pytest.approx(3.0 * np.log(3), rel=1e-6)


def test_class_without_training_images_has_weight_zero():
    assert balanced_weights(np.array([0, 0, 2], np.int32), 3).tolist() == [0.75, 0.0, 1.5]
    logits, rows, *_ = drawn_batch(mixed=True)
    rows[0] = EYE[1]
    weights = np.array([0.75, 0.0, 1.5])
    loss = losses_of(step_of(0.1, weights, 2.0), logits, rows)["loss"]
    assert float(loss) == pytest.approx(documented(logits, rows, weights, 0.1, 2.0), rel=1e-5)
