"""Training on mixed images: the loss, a complete training with the real pipeline, and resuming it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase, write_images
from memory_dataset import MemoryDataset
from stopping import snapshots

from kerastl.augment import build_mixing, build_policy
from kerastl.data import Record
from kerastl.errors import RequestError
from kerastl.tasks import SINGLE_LABEL
from kerastl.training import ClassificationStep, fit

CLASSES = ("dark", "light")
PHASES = [
    plain_phase("all", epochs=4, trainable="all", batch_norm="trainable", keep="last"),
    plain_phase("head", epochs=1, learning_rate=1e-3, class_weights="balanced", label_smoothing=0.1),
]


@pytest.fixture
def records(tmp_path):
    return write_images(tmp_path, 29, CLASSES)


def dataset(records, *mixings, **options):
    mix = None
    if mixings:
        chosen = [{"name": name} for name in mixings]
        mix = build_mixing(chosen, image_size_px=32, num_classes=2)
    return MemoryDataset(
        records, class_names=CLASSES, image_size_px=32, batch_size=7, seed=3, mix=mix,
        augment=build_policy([{"name": "random_flip"}], image_size_px=32), **options,
    )  # fmt: skip


def network():
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
    return build_model(backbone, class_names=CLASSES, dropout=0.2, seed=3)


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]


def everything(source, epoch, **options):
    return [[part.numpy() for part in batch] for batch in source.indexed_batches(epoch, **options)]


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 3.0]])
def test_the_loss_of_mixed_images_is_the_mix_of_the_losses_of_their_parts(label_smoothing, class_weights):
    """NumPy reference: the loss of each part for its own class, weighted and smoothed separately."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (8, 3)).astype(np.float32)
    first, second = generator.integers(0, 3, (2, 8))
    share = generator.uniform(0, 1, 8).astype(np.float32)
    share[0] = 1.0
    eye = np.eye(3, dtype=np.float32)
    rows = share[:, None] * eye[first] + (1 - share)[:, None] * eye[second]

    def alone(labels):
        target = eye[labels] * (1 - label_smoothing) + label_smoothing / 3
        weights = np.ones(3) if class_weights is None else np.asarray(class_weights)
        return -weights[labels] * (target * log_softmax(logits)).sum(axis=1)

    step = ClassificationStep(3, label_smoothing=label_smoothing, class_weights=class_weights)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        batch = {"train": (None, tf.constant(rows), None)}
        losses = step.losses(lambda images, training: variable, batch, tf.constant(0.0))
    expected = share * alone(first) + (1 - share) * alone(second)
    assert float(losses["loss"]) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(losses["accuracy"]) == np.mean(logits.argmax(axis=1) == rows.argmax(axis=1))
    change = generator.normal(0, 1, logits.shape)
    slope = (np.asarray(tape.gradient(losses["loss"], variable)) * change).sum()
    ends = []
    for by in (1e-3, -1e-3):
        variable.assign((logits + by * change).astype(np.float32))
        ends.append(float(step.losses(lambda i, training: variable, batch, 0.0)["loss"]))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-3, abs=2e-3)


def test_one_hot_rows_have_the_loss_of_their_class_numbers_to_the_byte():
    generator = np.random.default_rng(1)
    logits = tf.constant(generator.normal(0, 3, (64, 5)), tf.float32)
    labels = tf.constant(generator.integers(0, 5, 64), tf.int32)
    step = ClassificationStep(5, label_smoothing=0.1, class_weights=[0.3, 0.7, 1.0, 1.3, 1.9])
    by_number, by_row = (
        step.losses(lambda images, training: logits, {"train": (None, given, None)}, 0.0)
        for given in (labels, tf.one_hot(labels, 5))
    )
    assert {name: float(value) for name, value in by_number.items()} == {
        name: float(value) for name, value in by_row.items()
    }
    np.testing.assert_array_equal(
        SINGLE_LABEL.loss(labels, logits), SINGLE_LABEL.loss(tf.one_hot(labels, 5), logits)
    )


@pytest.mark.slow
def test_mixing_follows_the_policy_and_does_not_depend_on_the_first_step(records):
    plain, source = dataset(records), dataset(records, "mix_up", "cut_mix")
    assert (plain.mixes, source.mixes) == (False, True)
    whole, unmixed = everything(source, 1), everything(plain, 1)
    assert [len(batch[1]) for batch in whole] == [7, 7, 7, 7, 1]
    for before, (images, rows, indices) in zip(unmixed, whole, strict=True):
        np.testing.assert_array_equal(before[2], indices)
        np.testing.assert_array_equal(rows.sum(axis=1), 1)
        assert set(np.nonzero(rows)[1]) <= set(before[1])
        # The part that remains of an image is the output of the policy.
        assert (images == before[0]).any(axis=(1, 2, 3)).sum() >= len(images) / 4
    np.testing.assert_array_equal(whole[-1][0], unmixed[-1][0])
    rest = everything(source, 1, first_step=2)
    for ours, theirs in zip(rest, whole[2:], strict=True):
        assert [part.tobytes() for part in ours] == [part.tobytes() for part in theirs]
    one_call = dataset(records, "mix_up", "cut_mix", parallel_calls=1)
    for ours, theirs in zip(everything(one_call, 1), whole, strict=True):
        assert [part.tobytes() for part in ours] == [part.tobytes() for part in theirs]


@pytest.mark.slow
def test_a_shard_mixes_its_own_rows(records):
    source = dataset(records, "fourier_mix")
    parts = [everything(source, 0, shard=(index, 2)) for index in range(2)]
    assert [len(part[-1][1]) for part in parts] == [1, 0]
    assert parts[1][-1][1].shape == (0, 2)
    for part in parts:
        for images, rows, _ in part:
            assert images.dtype == rows.dtype == np.float32
            np.testing.assert_array_equal(rows.sum(axis=1), np.ones(len(rows)))


def test_unlabeled_images_are_not_mixed(records):
    unlabelled = [*records, Record("x.png", records[0].file, None)]
    dataset(unlabelled)
    with pytest.raises(RequestError, match="1 of 30"):
        dataset(unlabelled, "mix_up")


def test_a_mixed_validation_set_is_refused(records):
    with pytest.raises(RequestError, match="validation"):
        fit(network(), dataset(records), val=dataset(records, "mix_up"), phases=PHASES)


@pytest.mark.slow
def test_training_with_cut_mix_converges_and_resumes_with_equal_bytes(records, tmp_path):
    """A resumed run draws the same partners and rectangles as the uninterrupted run."""
    val = MemoryDataset(records, class_names=CLASSES, image_size_px=32, batch_size=8, shuffle=False)
    whole, resumed, checkpoints = network(), network(), tmp_path / "whole"
    given = {"val": val, "phases": PHASES}
    history = fit(
        whole, dataset(records, "cut_mix"), checkpoints=checkpoints,
        on_epoch=snapshots(checkpoints), **given,
    )  # fmt: skip
    assert max(row["val_accuracy"] for row in history.rows) > 0.9
    again = fit(
        resumed, dataset(records, "cut_mix"), checkpoints=tmp_path / "whole-2", resume=True,
        **given,
    )  # fmt: skip
    assert again == history
    assert weights_of(resumed) == weights_of(whole)
    plain = network()
    fit(plain, dataset(records), **given)
    assert weights_of(plain) != weights_of(whole)
