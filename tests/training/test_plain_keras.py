"""A trained model is a plain Keras model: `keras.saving.load_model` needs neither kerastl nor custom objects."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from array_dataset import ArrayDataset, make_images, plain_phase

from kerastl.models import build_backbone, build_model
from kerastl.recipe import TopFraction
from kerastl.training import fit

LOAD = """
import sys
import numpy as np

sys.modules["kerastl"] = None  # importing it fails
import keras

images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    np.save(path + ".npy", model(images, training=False))
    print(type(model.optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.SGD))
"""
ADAM = {"l2_sp": 0.1, "layer_decay": 0.5, "class_weights": "balanced"}
ADAMW = {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 1.0, "accumulate": 2}
SGD = {"optimizer": "sgd", "precision": "mixed_bfloat16", "ema": 0.9, "schedule": "cosine"}


def trained(name, options, callbacks=(), **of_backbone):
    backbone = build_backbone(name, weights="none", image_size_px=32, seed=1, **of_backbone)
    model = build_model(backbone, class_names=("dark", "light"), seed=1)
    phases = [
        plain_phase("head", epochs=1),
        plain_phase("last", epochs=2, trainable=TopFraction(top_fraction=0.3), **options),
    ]
    fit(model, ArrayDataset(*make_images(16)), phases=phases, callbacks=callbacks)
    return model


class PredictionsOfEachEpoch(keras.callbacks.Callback):
    def __init__(self, images):
        super().__init__()
        self.images, self.predictions = images, []

    def on_epoch_end(self, epoch, logs=None):
        self.predictions.append(np.asarray(self.model(self.images, training=False)))


def check_in_a_new_process(folder, expected, images):
    """Check that a new process without kerastl loads the models and predicts the same logits."""
    np.save(folder / "images.npy", images)
    paths = [str(folder / f"{name}.keras") for name in expected]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder / "images.npy"), *paths],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * len(paths)
    for path, before in zip(paths, expected.values(), strict=True):
        assert np.ptp(before) > 0
        np.testing.assert_array_equal(before, np.load(f"{path}.npy"))


@pytest.mark.slow
def test_a_new_process_without_kerastl_loads_a_model_and_the_checkpoints_of_its_epochs(tmp_path):
    images = make_images(6)[0]
    during = PredictionsOfEachEpoch(images)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "epoch_{epoch}.keras")
    model = trained("small_cnn", ADAM, [checkpoint, during])
    model.save(tmp_path / "adam.keras")
    expected = {f"epoch_{epoch}": predictions for epoch, predictions in enumerate(during.predictions, 1)}
    expected["adam"] = np.asarray(model(images, training=False))
    check_in_a_new_process(tmp_path, expected, images)


@pytest.mark.slow
def test_a_new_process_without_kerastl_loads_models_of_other_optimizers_and_backbones(tmp_path):
    images, expected = make_images(6)[0], {}
    for name, model in {
        "adamw": trained("small_cnn", ADAMW),
        "sgd": trained("small_cnn", SGD),
        "mobilenet_v2": trained("mobilenet_v2", ADAM, alpha=0.35),
    }.items():
        model.save(tmp_path / f"{name}.keras")
        expected[name] = np.asarray(model(images, training=False))
    check_in_a_new_process(tmp_path, expected, images)


@pytest.mark.slow
def test_a_callback_sets_the_learning_rate_of_the_training():
    """The optimizer of the callbacks shares its learning rate with the one that updates the weights."""
    stop = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch else rate)
    during = PredictionsOfEachEpoch(make_images(6)[0])
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    model = build_model(backbone, class_names=("dark", "light"), seed=1)
    start = np.asarray(model(during.images, training=False))
    phase = plain_phase("head", epochs=2, keep="last")
    fit(model, ArrayDataset(*make_images(16)), phases=[phase], callbacks=[stop, during])
    first, second = during.predictions
    assert (first != start).any()
    np.testing.assert_array_equal(first, second)
