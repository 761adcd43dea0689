"""A small finished run, images with different predictions, and exports that are made once per session."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kerastl.evaluation import Trained, load_trained
from kerastl.export import ExpectedPredictions, expected_predictions, export_run, export_saved_model
from kerastl.export import _probe as probe
from kerastl.export.verification import RunProbe

CLASS_NAMES = ("benign", "<script>alert(1)</script>", "10")
SIZE = 24
WINDOW = (1000.0, 3000.0)
MAX_PIXELS = 40_000


def small_model() -> Any:
    """Convolution, BatchNorm with statistics far from those of a batch, dropout: all that may go wrong."""
    import keras

    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2.0, name="pixels")(image)
    x = keras.layers.Conv2D(8, 5, strides=3, name="stem")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = keras.layers.Dropout(0.4, name="head_dropout")(x)
    model = keras.Model(image, keras.layers.Dense(3, dtype="float32", name="head")(x))
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.linspace(-0.4, 0.4, 8))
    norm.moving_variance.assign(np.linspace(0.2, 1.5, 8))
    return model


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def draw_images(folder: Path) -> list[Path]:
    """Eight images: 16-bit gray, color, a JPEG, of several sizes, in a sub-folder with an odd name."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    files = []
    for number in range(8):
        height, width = 30 + 3 * number, 26 + number
        slope = np.linspace(0, 1, width)[None] * np.ones((height, 1))
        if number < 4:
            grey = 900 + 300 * number + 1500 * slope + random.integers(0, 200, (height, width))
            content, name = png(grey.astype(np.uint16)), f"deep_{number}.png"
        else:
            colour = np.stack([255 * slope, 255 - 255 * slope, 60 * (number - 4) + 0 * slope], -1)
            content, name = png(colour.astype(np.uint8)), f"colour {number}.png"
        if number == 7:
            file = io.BytesIO()
            Image.fromarray(colour.astype(np.uint8)).save(file, "JPEG")
            content, name = file.getvalue(), "photo_7.jpg"
        (folder / name).write_bytes(content)
        files.append(folder / name)
    return files


@pytest.fixture(scope="session")
def model() -> Any:
    return small_model()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_images(tmp_path_factory.mktemp("data") / "in ü")


@pytest.fixture(scope="session")
def encoded(images: list[Path]) -> list[bytes]:
    return [file.read_bytes() for file in images]


def write_run(folder: Path, model: Any, images: list[Path]) -> Path:
    """Write a finished run as far as export, verify and predict read it."""
    folder.mkdir()
    model.save(folder / "model.keras")
    root = images[0].parent.parent
    described = {
        "class_names": list(CLASS_NAMES),
        "image_size_px": SIZE,
        "window": list(WINDOW),
        "max_pixels": MAX_PIXELS,
        "data_root": str(root),
    }
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "recipe.resolved.yaml").write_text("format: 1\n")
    write_rows(folder, [file.relative_to(root).as_posix() for file in images])
    return folder


@pytest.fixture(scope="session")
def finished_run(model: Any, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, read only."""
    return write_run(tmp_path_factory.mktemp("finished") / "run", model, images)


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """The same run, which the test may change."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture(scope="session")
def trained(finished_run: Path) -> Trained:
    """The loaded `finished_run`."""
    return load_trained(finished_run)


@pytest.fixture(scope="session")
def expected(trained: Trained, encoded: list[bytes]) -> ExpectedPredictions:
    """The predictions of `finished_run` for `encoded`."""
    return expected_predictions(trained, encoded)


@pytest.fixture(scope="session")
def exported_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a copy of `finished_run` with an export in a format, which is made once per session."""
    made: dict[str, Path] = {}

    def run_with(name: str) -> Path:
        if name not in made:
            folder = shutil.copytree(finished_run, tmp_path_factory.mktemp(name) / "run")
            export_run(folder, name)
            made[name] = folder
        return made[name]

    return run_with


@pytest.fixture
def run_with_export(exported_run: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of the run with an export in a format that the test may change."""
    return lambda name: shutil.copytree(exported_run(name), tmp_path / "run")


SETTINGS: dict[str, Any] = {
    "class_names": CLASS_NAMES,
    "image_size_px": SIZE,
    "window": WINDOW,
    "max_pixels": MAX_PIXELS,
}


@pytest.fixture(scope="session")
def export(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of `model`, written next to a version 7 of another program. Read only."""
    out = tmp_path_factory.mktemp("served")
    (out / "7").mkdir()
    (out / "7" / "keep").write_text("me")
    return export_saved_model(model, out, **SETTINGS)


@pytest.fixture(scope="session")
def loaded(export: Path) -> Any:
    """The loaded `export`."""
    import tensorflow as tf

    return tf.saved_model.load(str(export))


def write_rows(folder: Path, paths: list[str]) -> None:
    header = ["path", "label", "predicted", "split", "group", "domain"]
    lines = [",".join(header + [f"{kind}_{name}" for kind in ("prob", "logit") for name in CLASS_NAMES])]
    for number, path in enumerate(paths):
        probability = number / (len(paths) + 1)
        lines.append(f"{path},benign,10,test,p{number},a,{probability},{1 - probability},0.0,0.0,0.0,0.0")
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the probe in this process: another one takes seconds to import TensorFlow."""

    @contextmanager
    def started_probe(export: Path, plugin: None, mode: str = "") -> Iterator[RunProbe]:
        def run(files: Any, images: Any) -> tuple[Any, str]:
            try:
                if mode == probe.VARIANTS:
                    return probe.probe_variants(export, "", images), ""
                encoded = [file.tobytes() for file in files]
                outputs = probe.probe_saved_model(export, encoded, images, is_quick=mode == probe.QUICK)
                return json.loads(json.dumps(outputs | {"memory_bytes": 1})), ""
            except Exception as error:  # as the probe does
                return None, str(error)

        yield run

    monkeypatch.setattr("kerastl.export.verification._started_probe", started_probe)
