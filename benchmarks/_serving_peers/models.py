"""The models of the serving benchmark: one network, exported by kerastl in three ways and by Keras."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

NAME, SIZE_PX, NUM_CLASSES = "mobilenet_v2", 224, 10
CLASS_NAMES = tuple(f"class {number}" for number in range(NUM_CLASSES))
NUM_IMAGES = 32


def build_network() -> tuple[Any, str]:
    """Return MobileNetV2 with a head of ten classes and the name of its weights: ImageNet weights if they are cached, else random."""
    from kerastl.models import build_backbone, build_model, locate_weights

    weights = "imagenet" if locate_weights(NAME, image_size_px=SIZE_PX) else "none"
    backbone = build_backbone(NAME, weights=weights, image_size_px=SIZE_PX)
    return build_model(backbone, class_names=CLASS_NAMES), "random" if weights == "none" else weights


def write_models(folder: Path) -> tuple[dict[str, Path], str]:
    """Export the network. Return the folders by name and the name of the weights.

    `folded` is the output of `kerastl export`, `unfolded` is the same without BatchNorm folding, `bfloat16` is folded and
    computed in bfloat16, and `keras` is the output of `model.export()`.
    """
    import keras

    from kerastl.data.decode import MAX_PIXELS
    from kerastl.evaluation import Trained
    from kerastl.export import export_saved_model
    from kerastl.export.endpoints import ServedModel
    from kerastl.models import fold_batch_norm

    model, weights = build_network()

    def write_archive(name: str, served_model: keras.Model) -> Path:
        archive = keras.export.ExportArchive()
        archive.track(served_model)
        served = ServedModel(Trained(CLASS_NAMES, (SIZE_PX, SIZE_PX), None, MAX_PIXELS, served_model))
        endpoint, takes = served.endpoints()["serving_default"]
        archive.add_endpoint("serving_default", endpoint, input_signature=[takes])
        archive.write_out(str(folder / name), verbose=False)
        return folder / name

    settings = {"class_names": CLASS_NAMES, "image_size_px": SIZE_PX}
    folders = {"folded": export_saved_model(model, folder / "folded", **settings)}
    folders["unfolded"] = write_archive("unfolded", model)
    folders["bfloat16"] = write_archive("bfloat16", fold_batch_norm(model, "bfloat16"))
    model.export(str(folder / "keras"), verbose=False)
    return folders | {"keras": folder / "keras"}, weights


def write_images(folder: Path) -> list[Path]:
    """Write crops of scikit-learn's two photographs as JPEG files of 500 x 375 pixels, a common size in ImageNet."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng(0)
    paths = []
    for number in range(NUM_IMAGES):
        photo = Image.fromarray(photos[number % 2])
        width = int(random.integers(160, 600))
        height = width * 3 // 4 if width * 3 // 4 < photo.height else photo.height
        left = int(random.integers(0, photo.width - width + 1))
        top = int(random.integers(0, photo.height - height + 1))
        piece = photo.crop((left, top, left + width, top + height)).resize((500, 375))
        file = io.BytesIO()
        piece.save(file, "JPEG", quality=90)
        paths.append(folder / f"{number:02d}.jpg")
        paths[-1].write_bytes(file.getvalue())
    return paths
