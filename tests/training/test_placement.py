"""Augmentation in the training step is equivalent to augmentation in the pipeline."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase, write_images
from memory_dataset import MemoryDataset

from kerastl.augment import build_mixing, build_policy
from kerastl.models import build_backbone, build_model
from kerastl.training import fit

CLASSES = ("dark", "light")
OPERATIONS = [
    {"name": "random_rotation", "max_deg": 15.0},
    {"name": "random_contrast", "max_fraction": 0.3, "apply_probability": 0.5},
]
PHASES = [
    plain_phase("all", epochs=1, trainable="all", batch_norm="trainable", keep="last"),
    plain_phase("head", epochs=1, learning_rate=1e-3, keep="last"),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 29, CLASSES)


def dataset(records, placement):
    mix = build_mixing([{"name": "cut_mix"}], image_size_px=32, num_classes=2)
    return MemoryDataset(
        records, class_names=CLASSES, image_size_px=32, batch_size=7, seed=3, mix=mix,
        augment=build_policy(OPERATIONS, image_size_px=32), placement=placement,
    )  # fmt: skip


@pytest.mark.slow
def test_augmentation_in_the_step_equals_augmentation_in_the_pipeline(records):
    host, device = (dataset(records, placement) for placement in ("host", "device"))

    @tf.function
    def in_a_step(batch, epoch):
        return device.finish(*batch, epoch)

    for first_step in (0, 2):
        ready = list(host.indexed_batches(1, first_step=first_step))
        plain = list(device.plain_batches(1, first_step=first_step))
        assert len(ready) == len(plain) == 5 - first_step
        for expected, batch in zip(ready, plain, strict=True):
            finished = in_a_step(batch, tf.constant(1, tf.int64))
            for expected_tensor, tensor in zip(expected, finished, strict=True):
                assert expected_tensor.numpy().tobytes() == tensor.numpy().tobytes()
    batch = next(iter(device.plain_batches(1)))
    first, second = (device.finish(*batch, tf.constant(epoch, tf.int64))[0] for epoch in (0, 1))
    assert (first.numpy() != second.numpy()).any(axis=(1, 2, 3)).any(), "epochs must differ"
    untouched = np.concatenate([images for images, _, _ in device.plain_batches(1)])
    assert untouched.tobytes() != np.concatenate([b[0] for b in host.batches(1)]).tobytes()


@pytest.mark.slow
def test_training_ends_with_the_same_weights_on_host_and_device(records):
    weights = []
    for placement in ("host", "device"):
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
        model = build_model(backbone, class_names=CLASSES, dropout=0.2, seed=3)
        fit(model, dataset(records, placement), phases=PHASES)
        weights.append([keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights])
    assert weights[0] == weights[1]
