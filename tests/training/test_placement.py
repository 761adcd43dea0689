"""Augmentation as part of the training step: the same images as in the pipeline, so the same weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sources_drawn import plain_phase, stored

from kerastl.augment import build_mixing, build_policy
from kerastl.data import ImageDataset
from kerastl.models import build_backbone, build_model
from kerastl.training import fit

CLASSES = ("dark", "light")
OPERATIONS = [
    {"name": "random_flip"},
    {"name": "random_rotation", "max_deg": 15.0},
    {"name": "random_contrast", "max_fraction": 0.3},
    {"name": "random_hue", "max_deg": 20.0},
    {"name": "random_cutout", "max_fraction": 0.4, "apply_probability": 0.5},
]
PHASES = [
    plain_phase("all", epochs=2, trainable="all", batch_norm="trainable", keep="last"),
    plain_phase("head", epochs=1, learning_rate=1e-3, keep="last"),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("images"), 29, CLASSES)


def source_of(records, placement, *, mixes=False):
    mix = build_mixing([{"name": "cut_mix"}], image_size_px=32, num_classes=2) if mixes else None
    return ImageDataset(
        records, class_names=CLASSES, image_size_px=32, batch_size=7, seed=3, mix=mix,
        augment=build_policy(OPERATIONS, image_size_px=32), placement=placement,
    )  # fmt: skip


@pytest.mark.parametrize("mixes", [False, True])
def test_the_step_finishes_the_images_that_the_pipeline_would(records, mixes):
    host, device = (source_of(records, one, mixes=mixes) for one in ("host", "device"))

    @tf.function
    def in_a_step(batch, epoch):
        return device.finish(*batch, epoch)

    for first_step in (0, 2):
        ready = list(host.indexed_batches(1, first_step=first_step))
        plain = list(device.plain_batches(1, first_step=first_step))
        assert len(ready) == len(plain) == 5 - first_step
        for expected, batch in zip(ready, plain, strict=True):
            finished = in_a_step(batch, tf.constant(1, tf.int64))
            for one, other in zip(expected, finished, strict=True):
                assert one.numpy().tobytes() == other.numpy().tobytes()
    untouched = np.concatenate([images for images, _, _ in device.plain_batches(1)])
    assert untouched.tobytes() != np.concatenate([b[0] for b in host.batches(1)]).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("mixes", [False, True])
def test_training_ends_with_the_same_weights_wherever_the_augmentation_runs(records, mixes):
    weights = []
    for placement in ("host", "device"):
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
        model = build_model(backbone, class_names=CLASSES, dropout=0.2, seed=3)
        fit(model, source_of(records, placement, mixes=mixes), phases=PHASES)
        weights.append([keras.ops.convert_to_numpy(one).tobytes() for one in model.weights])
    assert weights[0] == weights[1]


def test_the_images_of_an_augmented_epoch_differ_from_those_of_the_next(records):
    source = source_of(records, "device")
    batch = next(iter(source.plain_batches(0)))
    first, second = (source.finish(*batch, tf.constant(epoch, tf.int64))[0] for epoch in (0, 1))
    assert (first.numpy() != second.numpy()).any(axis=(1, 2, 3)).all()
