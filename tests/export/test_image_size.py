"""Rectangular input images: exports, clients and refusals use height and width in the right order."""

import dataclasses
from pathlib import Path
from typing import Any

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


def by_pillow(file: Path) -> np.ndarray:
    """Return an image that is upright and opaque, resized in float32 by Pillow."""
    with Image.open(file) as image:
        if image.mode.startswith("I"):
            low, high = WINDOW
            pixels = np.clip((np.asarray(image, np.float32) - low) * 255 / (high - low), 0, 255)
            pixels = np.stack([pixels] * 3, axis=-1)
        else:
            pixels = np.asarray(image.convert("RGB"), np.float32)
    channels = [Image.fromarray(pixels[..., channel].copy()) for channel in range(3)]
    resized = [channel.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR) for channel in channels]
    return np.stack(resized, axis=-1)


@pytest.mark.usefixtures("_in_process")
def test_training_and_serving_read_equal_pixels_in_the_right_order(
    rectangular: Trained, images: list[Path], encoded: list[bytes], tmp_path: Path
) -> None:
    records = [Record(file.name, file) for file in images]
    dataset = ImageDataset(records, class_names=CLASS_NAMES, image_size_px=SIZE, window=WINDOW, shuffle=False)
    ((pixels, _),) = dataset.batches(0)
    assert pixels.shape == (len(images), HEIGHT, WIDTH, 3)
    # The last file is a JPEG, which Pillow decodes with another DCT.
    theirs = np.stack([by_pillow(file) for file in images[:-1]])
    np.testing.assert_allclose(pixels[:-1], theirs, atol=0.01)
    settings = {
        name: getattr(rectangular, name) for name in ("class_names", "image_size_px", "window", "max_pixels")
    }
    export = export_saved_model(rectangular.model, tmp_path / "served", **settings)
    signatures = tf.saved_model.load(str(export)).signatures
    served = signatures["serving_default"](tf.constant(encoded))["probabilities"].numpy()
    assert served == pytest.approx(rectangular.probabilities(encoded), abs=1e-6)
    assert served == pytest.approx(signatures["pixels"](pixels)["probabilities"].numpy(), abs=1e-6)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"30 x 43 pixels \(height x width\), \[n, 30, 43, 3\]"
    ):
        signatures["pixels"](tf.transpose(pixels, [0, 2, 1, 3]))
    assert [
        finding for finding in verify(export, encoded=encoded, expected=None) if finding.passed is False
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("with_resize", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_clients_of_converted_models_resize_to_height_and_width(
    name: str,
    with_resize: bool,
    rectangular: Trained,
    images: list[Path],
    encoded: list[bytes],
    tmp_path: Path,
) -> None:
    need(name)
    folder = write_converted(
        dataclasses.replace(rectangular), tmp_path, name, NO_POSTPROCESSING, with_resize=with_resize
    )
    printed = run_client(folder, folder / "sample.png", *images)
    files: list[Any] = [(folder / "sample.png").read_bytes(), *encoded]
    assert np.array(printed) == pytest.approx(rectangular.probabilities(files), abs=1e-4)
