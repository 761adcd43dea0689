"""Two passes over the same images: equal for a function of the image, different if a layer keeps a state or is random."""

import keras
import numpy as np
import pytest
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.evaluation import compare_passes, decode_twice, predict


@pytest.fixture
def source(tmp_path):
    records = []
    for row in range(7):
        file = tmp_path / f"{row}.png"
        Image.new("RGB", (8, 8), (30 * row, 0, 0)).save(file)
        records.append(Record(file.name, file, "dark" if row < 3 else "light", split="val"))
    return MemoryDataset(records, class_names=("dark", "light"), image_size_px=8, batch_size=3, shuffle=False)


def passes_of(model, source):
    paths = [record.path for record in source.records]
    return compare_passes(model, decode_twice(source), paths, batch_size=source.batch_size)


class Counted(keras.layers.Layer):
    """Adds the number of calls so far, which are one a batch: a state that outlives a pass."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.calls


class AlwaysNoisy(keras.layers.GaussianNoise):
    """Noise that does not heed `training=False`."""

    def call(self, x, training=False):
        return super().call(x, training=True)


def through(layer):
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    kept = layer(pooled) if layer else pooled
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(kept)))


def test_a_function_of_the_image_gives_the_same_bytes(source):
    model = through(None)
    report, logits = passes_of(model, source)
    assert (report["images"], report["differ"], report["largest_difference"]) == (7, 0, 0.0)
    assert report["faults"] == []
    assert len(set(report["sha256"])) == 1
    assert logits.tobytes() == predict(model, source).logits.tobytes()
    brighter = [weight * 1.5 for weight in model.get_weights()]
    model.set_weights(brighter)
    assert passes_of(model, source)[0]["sha256"] != report["sha256"]


@pytest.mark.parametrize("layer", [Counted, lambda: AlwaysNoisy(1.0, seed=3)], ids=["state", "noise"])
def test_a_layer_with_a_state_or_a_random_one_is_a_fault_that_names_an_image(source, layer):
    report, _ = passes_of(through(layer()), source)
    assert report["differ"] == 7
    assert report["sha256"][0] != report["sha256"][1]
    (fault,) = report["faults"]
    assert "0.png" in fault
    assert "7 of 7 images got other logits" in fault


def test_the_difference_is_that_of_two_calls_of_predict(source):
    model = through(Counted())
    start = model.get_weights()
    first, second = (predict(model, source).logits for _ in range(2))
    model.set_weights(start)
    report, _ = passes_of(model, source)
    assert report["largest_difference"] == pytest.approx(np.abs(first - second).max(), rel=1e-6)


def test_an_image_that_is_decoded_to_other_pixels_is_a_fault(source):
    dataset = ImageDataset(source.records, class_names=source.class_names, image_size_px=8, batch_size=3)
    first, second = decode_twice(dataset)
    assert first.tobytes() == second.tobytes()
    changed = second.copy()
    changed[4, 0, 0] += 1
    paths = [record.path for record in source.records]
    report, _ = compare_passes(through(None), (first, changed), paths, batch_size=3)
    assert "1 of 7 images were decoded to other pixels" in report["faults"][0]
    assert "4.png" in report["faults"][0]
