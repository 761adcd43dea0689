"""Each family of keras.applications: the export in a TensorFlow session predicts as kerastl does, from files and pixels."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from backbone_families import Member, by_family, calibrated, crops, standardize_logits
from PIL import Image

from kerastl.evaluation import Trained
from kerastl.export import export_saved_model
from kerastl.export._probe import ServingSession
from kerastl.models import build_backbone, build_model

CLASS_NAMES = ("cat", "dog", "bird")
WINDOW = (1000.0, 3000.0)
ALLOWED = 1e-4
pytestmark = pytest.mark.slow


def files_of_photos(size: int) -> list[bytes]:
    """Crops of real photographs: JPEG, PNG, WebP, and grey PNG of 16 bits with levels within and beyond the window."""
    kinds = ("JPEG", "PNG", "WEBP", "JPEG")
    encoded = []
    for number, photo in enumerate(crops(size + 13, 8)):
        file = io.BytesIO()
        if number < 4:
            Image.fromarray(photo.astype(np.uint8)).save(file, kinds[number])
        else:
            deep = 600 + 12 * photo.mean(axis=-1) + number
            Image.fromarray(deep.astype(np.uint16)).save(file, "PNG")
        encoded.append(file.getvalue())
    return encoded


def check_parity(model: keras.Model, size: int, folder: Path) -> None:
    settings: dict[str, Any] = {
        "class_names": CLASS_NAMES, "image_size_px": (size, size), "window": WINDOW, "max_pixels": 1_000_000,
    }  # fmt: skip
    files = files_of_photos(size)
    trained = Trained(**settings, model=model)
    images = np.stack([decoded(file, size) for file in files])
    standardize_logits(model, images)
    wanted = trained.probabilities(files)
    assert np.ptp(wanted, axis=0).max() > 0.1
    assert np.ptp(wanted[4:], axis=0).max() > 0.02
    export = export_saved_model(model, folder, **settings)
    with ServingSession(export) as session:
        answers = [
            session.run("serving_default", {"image_bytes": files}),
            session.run("pixels", {"images": images}),
        ]
    for answer in answers:
        gap = float(np.abs(answer["probabilities"] - wanted).max())
        print(f"largest difference {gap:.1e}")
        assert gap < ALLOWED
        named = [name.decode() for name in answer["predicted"]]
        assert named == [CLASS_NAMES[index] for index in wanted.argmax(axis=1)]


def decoded(file: bytes, size: int) -> np.ndarray:
    """Decode with Pillow, window with NumPy; shrink as TensorFlow does."""
    import tensorflow as tf

    image = Image.open(io.BytesIO(file))
    if image.mode.startswith("I"):
        low, high = WINDOW
        grey = (np.asarray(image, np.float64) - low) * 255 / (high - low)
        array = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=-1)
    else:
        array = np.asarray(image.convert("RGB"))
    resized = tf.image.resize(array.astype(np.float32), [size, size], "bilinear", antialias=True)
    return np.clip(resized.numpy(), 0, 255)


@pytest.mark.parametrize("member", by_family())
def test_a_family_gives_the_same_predictions_in_a_session(member: Member, tmp_path: Path) -> None:
    backbone, images, _ = calibrated(member.name)
    check_parity(build_model(backbone, class_names=CLASS_NAMES), images.shape[1], tmp_path)


def test_imagenet_weights_give_the_same_predictions_in_a_session(keras_home: Path, tmp_path: Path) -> None:
    backbone = build_backbone("mobilenet_v2", weights="imagenet", image_size_px=224, alpha=0.35)
    check_parity(build_model(backbone, class_names=CLASS_NAMES), 224, tmp_path)
