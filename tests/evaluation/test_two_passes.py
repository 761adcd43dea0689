"""Two passes over the same pictures: equal for a function of the picture, told apart where a layer is none."""

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.evaluation import predict, two_passes


@pytest.fixture
def new_source(tmp_path):
    records = []
    for row in range(7):
        file = tmp_path / f"{row}.png"
        Image.new("RGB", (8, 8), (30 * row, 0, 0)).save(file)
        records.append(Record(file.name, file, "dark" if row < 3 else "light", split="val"))
    return lambda: ImageDataset(
        records, class_names=("dark", "light"), image_size_px=8, batch_size=3, shuffle=False
    )


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


def test_a_function_of_the_picture_gives_the_same_bytes(new_source):
    model = through(None)
    told = two_passes(model, new_source)
    assert (told["pictures"], told["differ"], told["largest_difference"]) == (7, 0, 0.0)
    assert told["faults"] == []
    assert len(set(told["sha256"])) == 1
    brighter = [weight * 1.5 for weight in model.get_weights()]
    model.set_weights(brighter)
    assert two_passes(model, new_source)["sha256"] != told["sha256"]


@pytest.mark.parametrize(
    "layer", [Counted, lambda: AlwaysNoisy(1.0, seed=3)], ids=["state", "noise"]
)
def test_a_layer_with_a_state_or_a_draw_is_a_fault_that_names_a_picture(new_source, layer):
    told = two_passes(through(layer()), new_source)
    assert told["differ"] == 7
    assert told["sha256"][0] != told["sha256"][1]
    (fault,) = told["faults"]
    assert "0.png" in fault
    assert "7 got other logits" in fault


def test_the_difference_is_that_of_two_calls_of_predict(new_source):
    model = through(Counted())
    start = model.get_weights()
    first, second = (predict(model, new_source()).logits for _ in range(2))
    model.set_weights(start)
    told = two_passes(model, new_source)
    assert told["largest_difference"] == pytest.approx(np.abs(first - second).max(), rel=1e-6)
