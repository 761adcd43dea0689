"""The determinism check compares two passes over the same images."""

import keras
import numpy as np
import pytest
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError
from kerastl.evaluation import compare_passes, decode_twice, predict
from kerastl.models import check_classifier


@pytest.fixture
def dataset(tmp_path):
    records = []
    for row in range(7):
        file = tmp_path / f"{row}.png"
        Image.new("RGB", (8, 8), (30 * row, 0, 0)).save(file)
        records.append(Record(file.name, file, "dark" if row < 3 else "light", split="val"))
    return MemoryDataset(records, class_names=("dark", "light"), image_size_px=8, batch_size=3, shuffle=False)


def run_passes(model, dataset):
    paths = [record.path for record in dataset.records]
    return compare_passes(model, decode_twice(dataset), paths, batch_size=dataset.batch_size)


class Counted(keras.layers.Layer):
    """A stateful layer that adds the number of calls so far, one per batch."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.calls


class AlwaysNoisy(keras.layers.GaussianNoise):
    """Noise that ignores `training=False`."""

    def call(self, x, training=False):
        return super().call(x, training=True)


def build_model(layer):
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    features = layer(pooled) if layer else pooled
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(features)))


def test_deterministic_model_gives_equal_passes(dataset):
    model = build_model(None)
    report, logits = run_passes(model, dataset)
    assert (report["images"], report["differ"], report["largest_difference"]) == (7, 0, 0.0)
    assert report["faults"] == []
    assert len(set(report["sha256"])) == 1
    assert logits.tobytes() == predict(model, dataset).logits.tobytes()
    brighter = [weight * 1.5 for weight in model.get_weights()]
    model.set_weights(brighter)
    assert run_passes(model, dataset)[0]["sha256"] != report["sha256"]


@pytest.mark.parametrize("layer", [Counted, lambda: AlwaysNoisy(1.0, seed=3)], ids=["state", "noise"])
def test_stateful_or_random_layer_is_a_fault_with_the_image(dataset, layer):
    report, _ = run_passes(build_model(layer()), dataset)
    assert report["differ"] == 7
    assert report["sha256"][0] != report["sha256"][1]
    (fault,) = report["faults"]
    assert "0.png" in fault
    assert "7 of 7 images have different logits" in fault


def test_largest_difference_equals_that_of_two_passes(dataset):
    model = build_model(Counted())
    start = model.get_weights()
    first, second = (
        np.concatenate([model(images, training=False) for images, _ in dataset.batches(0)]) for _ in range(2)
    )
    model.set_weights(start)
    report, _ = run_passes(model, dataset)
    assert report["largest_difference"] == pytest.approx(np.abs(first - second).max(), rel=1e-6)


@pytest.mark.parametrize("layer", [Counted, lambda: AlwaysNoisy(1.0, seed=3)], ids=["state", "noise"])
def test_stateful_and_random_models_are_found_by_a_second_call(layer):
    with pytest.raises(RequestError, match="different outputs for the same images"):
        check_classifier(build_model(layer()), is_probed=True)


def test_different_decoded_pixels_are_a_fault(dataset):
    image_dataset = ImageDataset(
        dataset.records, class_names=dataset.class_names, image_size_px=8, batch_size=3
    )
    first, second = decode_twice(image_dataset)
    assert first.tobytes() == second.tobytes()
    changed = second.copy()
    changed[4, 0, 0] += 1
    paths = [record.path for record in dataset.records]
    report, _ = compare_passes(build_model(None), (first, changed), paths, batch_size=3)
    assert "1 of 7 images have different pixels" in report["faults"][0]
    assert "4.png" in report["faults"][0]
