"""Each program of docs/programs.md runs as printed, on smaller images and with random weights."""

import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()
PROGRAMS = dict(re.findall(r"\n## ([^\n]+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL))
SMALLER = {
    "160": "32",
    "epochs=5": "epochs=1",
    "EPOCHS = 10": "EPOCHS = 1",
    "max_trials=10": "max_trials=1",
    'keras.applications.MobileNetV2(\n    include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3), pooling="avg"\n)': (
        "keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(8, 3, strides=2, name='first'), "
        "keras.layers.BatchNormalization(), keras.layers.Conv2D(8, 3, strides=2), "
        "keras.layers.GlobalAveragePooling2D()])"
    ),
    '"mobilenet_v2",': '"small_cnn", weights="none",',
    'augment="photograph"': 'augment=["random_flip"]',
    'Phase("head", epochs=1, learning_rate=1e-3': 'Phase("head", epochs=1, trainable="all"',
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a program in a folder with 24 photos and 24 images of two hospitals."""
    generator = np.random.default_rng(7)
    for folder in ("photos/cat", "photos/dog", "hospital_a/benign", "hospital_a/malignant", "hospital_b"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 90 if folder.endswith(("cat", "benign")) else 200, (40, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)

    def run(title):
        program = PROGRAMS[title]
        for text, replacement in SMALLER.items():
            program = program.replace(text, replacement)
        script = tmp_path / "program.py"  # AutoGraph needs the source code in a file
        script.write_text(program)
        return runpy.run_path(str(script))

    return run


def test_the_replacements_of_the_test_apply_to_the_page():
    page = PAGE
    for text, replacement in SMALLER.items():
        assert text in page
        page = page.replace(text, replacement)
    assert len(PROGRAMS) == 4


@pytest.mark.slow
def test_own_model_and_data_with_model_fit(run, tmp_path):
    names = run("Own model, own data, `model.fit`")
    model = names["model"]
    assert names["scores"]["all"]["count"] == 4
    (network,) = (layer for layer in model.layers if layer.name.startswith("sequential"))
    assert [variable.trainable for variable in network.weights[:2]] == [False, False]
    assert len(model.trainable_variables) == 4  # the last convolution and the head
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_a_backbone_of_kerashub(run, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.VGGBackbone([1, 1, 1], [8, 16, 16])
    backbone.save_to_preset(str(tmp_path / "efficientnet_lite0"))
    names = run("A KerasHub backbone")
    assert names["history"].phases[-1].monitor == "val_f1"
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_losses_of_domain_adaptation_in_a_custom_train_step(run):
    names = run("CORAL and DANN in your own `train_step`")
    assert set(names["adapted"].history) == {"classification", "coral", "dann"}
    assert np.isfinite(list(names["adapted"].history.values())).all()
    assert names["scores"]["test"]["count"] > 0


@pytest.mark.slow
def test_a_search_with_keras_tuner(run):
    pytest.importorskip("keras_tuner")
    tuner = run("Search with KerasTuner")["tuner"]
    (trial,) = tuner.oracle.get_best_trials()
    assert trial.score > 0
    assert set(trial.hyperparameters.values) == {"dropout", "top_fraction"}
