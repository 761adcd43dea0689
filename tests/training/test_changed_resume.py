"""Resuming a training with phases, objects or images that differ from those at its start is refused."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from array_dataset import ArrayDataset, make_images, plain_phase
from keras import losses, metrics, optimizers
from stopping import Stop

import kerastl
from kerastl.errors import RequestError
from kerastl.recipe import Phase, diff_values
from kerastl.training import fit
from kerastl.training.checkpoint import describe_training


def small_model(name="logits"):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((32, 32, 3))
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name=name)(hidden))


def squared_error(labels, logits):
    return keras.ops.mean(keras.ops.square(labels - logits), axis=-1)


def absolute_error(labels, logits):
    return keras.ops.mean(keras.ops.abs(labels - logits), axis=-1)


class Unserializable(losses.Loss):
    """A loss whose config contains an object without a config, whose text is its address in memory."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale, self.helper = scale, object()

    def call(self, y_true, y_pred):
        return self.scale * squared_error(y_true, y_pred)

    def get_config(self):
        return {"scale": self.scale, "helper": self.helper, "name": self.name}


smoothed = functools.partial(losses.categorical_crossentropy, from_logits=True)


def objects(name):
    """Return new objects on each call, as another process has them. None returns those of all names."""
    known = {
        "plain": {},
        "smooth": {"loss": losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)},
        "cross_entropy": {"loss": losses.CategoricalCrossentropy(from_logits=True)},
        "squared": {"loss": squared_error},
        "absolute": {"loss": absolute_error},
        "partial": {"loss": functools.partial(smoothed, label_smoothing=0.1)},
        "other partial": {"loss": functools.partial(smoothed, label_smoothing=0.2)},
        "unserializable": {"loss": Unserializable()},
        "scaled": {"loss": Unserializable(2.0)},
        "adam": {"optimizer": optimizers.Adam(0.01)},
        "slower adam": {"optimizer": optimizers.Adam(0.001)},
        "sgd": {"optimizer": optimizers.SGD(0.01)},
        "auc": {"metrics": [metrics.AUC(name="own")]},
        "fine auc": {"metrics": [metrics.AUC(name="own", num_thresholds=50)]},
    }
    return known[name] if name else known


PAIRS = [
    ("plain", "cross_entropy", "phases[0].loss: added {class: CategoricalCrossentropy"),
    ("cross_entropy", "plain", "phases[0].loss: removed {class: CategoricalCrossentropy"),
    ("cross_entropy", "smooth", "phases[0].loss.config.label_smoothing: changed from 0.0 to 0.1"),
    ("squared", "absolute", "phases[0].loss.class: changed from squared_error to absolute_error"),
    ("partial", "other partial", "phases[0].loss.config.args: changed from"),
    ("unserializable", "scaled", "phases[0].loss.config.scale: changed from 1.0 to 2.0"),
    ("adam", "slower adam", "phases[0].optimizer.config.learning_rate: changed from 0.00999"),
    ("adam", "sgd", "phases[0].optimizer.class: changed from Adam to SGD"),
    ("plain", "sgd", "phases[0].optimizer: changed from adam to {class: SGD"),
    ("auc", "plain", "phases[0].metrics: removed"),
    ("auc", "fine auc", "phases[0].metrics[0].config.num_thresholds: changed from 200 to 50"),
]


def differences(before, after):
    """Return the differences of two trainings, each described as in its own process."""
    model = small_model()
    plans = [describe_training(model, [Phase("a", 1, **objects)], {}) for objects in (before, after)]
    return diff_values(*plans)


@pytest.mark.parametrize(("before", "after", "difference"), PAIRS)
def test_another_loss_metric_or_optimizer_is_a_difference(before, after, difference):
    lines = differences(objects(before), objects(after))
    assert sum(line.startswith(difference) for line in lines) == 1, lines


@pytest.mark.parametrize("name", objects(None))
def test_equal_objects_are_not_a_difference(name):
    assert differences(objects(name), objects(name)) == []


@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("batch_size", 4, "train.source.batch_size: changed from 8 to 4"),
        ("seed", 5, "train.source.seed: changed from 0 to 5"),
        ("resize", "pad", "train.source.resize: changed from stretch to pad"),
        ("augmented", True, "train.source.augmented: changed from false to true"),
        ("labels", np.zeros(3), "train.source.num_examples: changed from 16 to 3"),
        ("images", np.zeros((16, 8, 9, 3)), "train.source.image_size_px[1]: changed from 32 to 9"),
        ("class_names", ("light", "dark"), "train.source.class_names[0]: added light"),
    ],
)
def test_images_with_other_settings_are_a_difference(name, value, difference):
    plans = []
    for changes in ({}, {name: value}):
        dataset = dataclasses.replace(ArrayDataset(*make_images(16)), **changes)
        plans.append(describe_training(small_model(), [], {"train": {"source": dataset}}))
    assert difference in diff_values(*plans)


@pytest.mark.slow
def test_a_policy_of_augmentation_is_a_difference():
    images, labels = make_images(4)
    sets = [
        kerastl.data.ArrayDataset(images, labels, class_names=("a", "b"), augment=name)
        for name in ("light", "strong")
    ]
    first, second = (describe_training(small_model(), [], {"train": {"source": dataset}}) for dataset in sets)
    assert [line.partition(":")[0] for line in diff_values(first, second)] == ["train.source.augment"]


def test_a_training_is_resumed_only_with_the_phases_objects_and_images_that_it_was_started_with(tmp_path):
    images, labels = make_images(16)
    val = ArrayDataset(*make_images(8, seed=1), shuffle=False)

    def run(*, batch_size=8, epochs=1, name="logits", **options):
        phases = [plain_phase("a", 1, **objects("smooth")), plain_phase("b", epochs)]
        train = ArrayDataset(images, labels, batch_size=batch_size)
        return fit(small_model(name), train, val=val, **{"phases": phases} | options, checkpoints=tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run(callbacks=[Stop(1)])
    other = [plain_phase("a", 1, **objects("cross_entropy")), plain_phase("b", 1)]
    with pytest.raises(RequestError) as refused:
        run(phases=other, epochs=1, resume=True)
    assert str(refused.value) == (
        f"{tmp_path} cannot be resumed:\n  phases[0].loss.config.label_smoothing: changed from 0.1 to 0.0\n"
        "Undo the changes, or start again in a new folder with resume=False."
    )
    with pytest.raises(
        RequestError, match=r"phases\[1\].epochs: changed from 1 to 3\n  train.source.batch_size: changed"
    ):
        run(epochs=3, batch_size=4, resume=True)
    with pytest.raises(RequestError, match=r"weights\[0\]: changed from logits/kernel to dense/kernel"):
        run(name="dense", resume=True)
    assert [row["phase"] for row in run(resume=True).rows] == ["a", "b"]
