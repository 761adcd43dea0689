"""Rectangular input images: exports, clients and refusals use height and width in the right order."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.evaluation import Trained
from kerastl.export import export_saved_model, verify
from kerastl.export.converted import write_converted
from kerastl.export.postprocess import NO_POSTPROCESSING
from kerastl.image_size import Resize
from tests.data.resize_reference import by_pillow
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, WINDOW
from tests.export.converted_formats import FORMATS, need, run_client

HEIGHT, WIDTH = SIZE = (30, 43)


@pytest.fixture(scope="module")
def rectangular() -> Trained:
    """A model whose logits depend on the position in the image, so that swapped sides change them."""
    keras.utils.set_random_seed(3)
    image = keras.Input((*SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2.0)(image)
    x = keras.layers.Conv2D(4, 5, strides=5)(x)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    return Trained(CLASS_NAMES, SIZE, WINDOW, MAX_PIXELS, model)


def read_by_pillow(file: Path) -> np.ndarray:
    """Return the pixels of an image that is upright and opaque, `[h, w, 3]` float32 in [0, 255]."""
    with Image.open(file) as image:
        if image.mode.startswith("I"):
            low, high = WINDOW
            gray = np.clip((np.asarray(image, np.float32) - low) * 255 / (high - low), 0, 255)
            return np.stack([gray] * 3, axis=-1)
        return np.asarray(image.convert("RGB"), np.float32)


@pytest.mark.parametrize(
    "rule", ["pad", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("stretch", "crop"))]
)
@pytest.mark.usefixtures("_in_process")
def test_training_and_serving_read_equal_pixels_in_the_right_order(
    rule: Resize, rectangular: Trained, images: list[Path], encoded: list[bytes], tmp_path: Path
) -> None:
    trained = dataclasses.replace(rectangular, resize=rule)
    records = [Record(file.name, file) for file in images]
    dataset = ImageDataset(
        records, class_names=CLASS_NAMES, image_size_px=SIZE, resize=rule, window=WINDOW, shuffle=False
    )
    ((pixels, _),) = dataset.batches(0)
    assert pixels.shape == (len(images), HEIGHT, WIDTH, 3)
    # The last file is a JPEG, which Pillow decodes with a different DCT.
    theirs = np.stack([by_pillow(read_by_pillow(file), SIZE, rule) for file in images[:-1]])
    np.testing.assert_allclose(pixels[:-1], theirs, atol=0.01)
    settings = {
        name: getattr(trained, name)
        for name in ("class_names", "image_size_px", "resize", "window", "max_pixels")
    }
    export = export_saved_model(rectangular.model, tmp_path / "served", **settings)
    signatures = tf.saved_model.load(str(export)).signatures
    served = signatures["serving_default"](tf.constant(encoded))["probabilities"].numpy()
    assert served == pytest.approx(trained.probabilities(encoded), abs=1e-6)
    assert served == pytest.approx(signatures["pixels"](pixels)["probabilities"].numpy(), abs=1e-6)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"30 x 43 pixels \(height x width\), \[n, 30, 43, 3\]"
    ):
        signatures["pixels"](tf.transpose(pixels, [0, 2, 1, 3]))
    assert [
        finding for finding in verify(export, encoded=encoded, expected=None) if finding.passed is False
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule", "with_resize"),
    [("onnx", "stretch", False), ("onnx", "pad", False), ("onnx", "crop", False)]
    + [(name, rule, True) for name in FORMATS for rule in ("pad", "crop")],
)
def test_clients_of_converted_models_resize_as_the_run(
    name: str, rule: Resize, with_resize: bool, rectangular: Trained, images: list[Path], encoded: list[bytes],
    tmp_path: Path,
) -> None:  # fmt: skip
    need(name)
    trained = dataclasses.replace(rectangular, resize=rule)
    folder = write_converted(trained, tmp_path, name, NO_POSTPROCESSING, with_resize=with_resize)
    Image.fromarray(np.arange(4 * 700 * 3, dtype=np.uint8).reshape(4, 700, 3)).save(tmp_path / "wide.png")
    files = [folder / "sample.png", tmp_path / "wide.png", *images]
    printed = run_client(folder, *files)
    assert np.array(printed) == pytest.approx(
        trained.probabilities([file.read_bytes() for file in files]), abs=1e-4
    )
