"""Write the files with which a converted model is used without kerastl.

They are a README, the class names, the preprocessing as JSON, a generated sample image with its expected output, and
a client.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageOps

from kerastl.data.decode import FULL_WINDOW, decode_image, resize_image
from kerastl.evaluation.trained_model import Trained
from kerastl.export.manifest import Manifest
from kerastl.export.model_card import TEMPLATES, escape_markdown, template_environment
from kerastl.export.postprocess import Postprocessing
from kerastl.export.probe_images import read_probe_images, select_test_images
from kerastl.image_size import Resize, Size, plain_size
from kerastl.runs import json_text, write_atomic, write_json

Floats = npt.NDArray[np.float32]
Predict = Callable[[Floats], Floats]

LABELS = "labels.txt"
PREPROCESS = "preprocess.json"
CLIENT = "client.py"
SAMPLE = "sample.png"
SAMPLE_OUTPUT = "sample.json"
MAX_TEST_IMAGES = 16
"""Each is predicted once per variant of the preprocessing, so a few images take seconds."""
PILLOW_RESIZES: dict[Resize, Callable[..., Image.Image]] = {
    "stretch": Image.Image.resize,
    "pad": ImageOps.pad,
    "crop": ImageOps.fit,
}
OTHER_RULES: dict[Resize, str] = {
    "stretch": "stretched to the size of the input",
    "pad": "the whole image, padded with black",
    "crop": "the central part of the image",
}
"""Resize rules other than that of the model, as variants of the preprocessing."""
SAMPLE_SCALE = 2.5
"""Width of the sample relative to the input of the model: below 2, a resize without antialiasing changes little."""


@dataclass(frozen=True)
class PreprocessingCost:
    """How the probabilities change with a different preprocessing.

    Args:
        variant: The preprocessing, in words.
        sample: The largest difference of a probability for the sample.
        images: The largest difference of a probability for test images of the run; None without images.
        labels_differ: Number of test images whose most probable class differs; None without images.
    """

    variant: str
    sample: float
    images: float | None
    labels_differ: int | None


def write_client_files(
    folder: Path,
    trained: Trained,
    postprocessing: Postprocessing,
    *,
    runtime: ModuleType,
    conversion: dict[str, Any],
    predict: Predict,
) -> None:
    """Write the files next to a converted model.

    Args:
        folder: The version folder.
        trained: The model and its description.
        postprocessing: Temperature and prevalence are part of the converted model; the threshold is only described.
        runtime: The plug-in of the format, with `PACKAGE`, `CLIENT_IMPORT` and `CLIENT_PREDICT`.
        conversion: Input and output, as in the manifest.
        predict: The converted model, from images to probabilities.

    Raises:
        OSError: The disk is full.
    """
    size, names, with_resize = trained.image_size_px, trained.class_names, conversion["with_resize"]
    sample = draw_sample(size, trained.window, trained.max_pixels)
    decoded = _decode(sample, trained).numpy()
    loaded = resize_image(decoded, size, trained.resize).numpy()
    expected = predict(loaded[None])[0]
    pixels = decoded if with_resize else loaded
    encoded: Sequence[bytes] = ()
    if trained.folder is not None:
        files = select_test_images(trained.folder, MAX_TEST_IMAGES)
        encoded = read_probe_images(files, max_pixels=trained.max_pixels).encoded
    values = {
        "class_names": names,
        "image_size_px": size,
        "resize": trained.resize,
        "window": trained.window,
        "format": conversion["format"],
        "runtime": runtime,
        "with_resize": with_resize,
        "postprocessing": postprocessing.describe(names),
        "has_threshold": postprocessing.threshold is not None,
        "num_images": len(encoded),
        "costs": _measure_costs(sample, encoded, trained, predict, with_resize),
    }
    write_atomic(folder / SAMPLE, sample)
    output = {
        "probabilities": dict(zip(names, expected.tolist(), strict=True)),
        # They show whether a difference is due to the preprocessing or to the runtime.
        "input_mean": np.mean(pixels, axis=(0, 1), dtype=np.float64).tolist(),
        "input_standard_deviation": np.std(pixels, axis=(0, 1), dtype=np.float64).tolist(),
    }
    write_json(folder / SAMPLE_OUTPUT, output)
    contents = render_templates("converted", values, "README.md") | derived_files(
        trained, runtime, conversion
    )
    for name, content in contents.items():
        write_atomic(folder / name, content)


def derived_files(
    described: Trained | Manifest, runtime: ModuleType, conversion: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the content of each file that depends only on the description of the model: labels, preprocessing and client.

    Args:
        described: The model or the manifest of its export.
        runtime, conversion: As in `write_client_files`.
    """
    values = {"runtime": runtime, "resize": described.resize, "with_resize": conversion["with_resize"]}
    return {
        LABELS: "".join(f"{name}\n" for name in described.class_names).encode(),
        PREPROCESS: json_text(_preprocessing(described, conversion)).encode(),
        **render_templates("converted", values, CLIENT),
    }


def render_templates(name: str, values: Mapping[str, Any], file_name: str = "*") -> dict[str, bytes]:
    """Return the content of each file of a folder of templates. Values in Markdown are escaped."""
    files = {}
    for file in sorted((TEMPLATES / name).glob(f"{file_name}.jinja")):
        environment = template_environment(finalize=escape_markdown if ".md" in file.suffixes else None)
        text = environment.get_template(f"{name}/{file.name}").render(values)
        files[file.stem] = text.encode("utf-8", "replace")
    return files


def _preprocessing(trained: Trained | Manifest, conversion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps from an image file to the input of the model, and their settings."""
    return {
        "input": conversion["input"],
        "output": conversion["output"],
        "image_size_px": plain_size(trained.image_size_px),
        "window": list(trained.window or FULL_WINDOW),
        "exif_orientation": "applied",
        "transparency": "composited on white",
        "resize": {
            "by": "model" if conversion["with_resize"] else "caller",
            "method": "bilinear",
            "antialias": True,
            "half_pixel_centers": True,
            "rule": trained.resize,
            "keep_aspect_ratio": trained.resize != "stretch",
            "padding": 0 if trained.resize == "pad" else None,
            "dtype": "float32",
        },
    }


def draw_sample(image_size_px: Size, window: tuple[float, float] | None, max_pixels: int) -> bytes:
    """Return a PNG with bars that become finer to the right and to the bottom, as in a resolution chart.

    Args:
        image_size_px: (height, width) of the model's input in pixels. The sample is larger, with a different aspect
            ratio.
        window: The window of the model. With a window, the sample is 16-bit gray, with values on both sides of it.
        max_pixels: Maximum height times width.
    """
    height, width = (min(int(SAMPLE_SCALE * side), math.isqrt(max_pixels)) for side in image_size_px)
    height, width = max(1, height * 4 // 5), max(2, width)
    across, down = (
        np.arange(width)[None] + np.zeros((height, 1)),
        np.arange(height)[:, None] + np.zeros(width),
    )
    bars = [position**2 // (2 * width) % 2 for position in (across, down)]
    if window is None:
        levels = np.stack([bars[0], 0.75 * bars[1], across / width], axis=-1)
        image = Image.fromarray((255 * levels).astype(np.uint8))
    else:
        low, high = window
        levels = 1.2 * (0.4 * bars[0] + 0.3 * bars[1] + 0.3 * across / width) - 0.1
        stored = np.clip(low + (high - low) * levels, *FULL_WINDOW)
        image = Image.fromarray(stored.astype(np.uint16))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _decode(encoded: bytes, trained: Trained) -> tf.Tensor:
    return decode_image(tf.constant(encoded), window=trained.window, max_pixels=trained.max_pixels)


def preprocessing_variants(
    encoded: bytes, decoded: tf.Tensor, loaded: Floats, trained: Trained, with_resize: bool
) -> dict[str, Floats]:
    """Return the model's input for common ways to prepare an image that differ from training.

    Args:
        encoded: A whole image file that can be decoded.
        decoded: Its pixels.
        loaded: The same image, prepared as in training: `[height, width, 3]` float32 in [0, 255].
        trained: The description of the model.
        with_resize: Whether the model resizes the images. Only ways that differ in values or colors are then returned.
    """
    size, rule = trained.image_size_px, trained.resize
    variants: dict[str, Any] = {}
    if not with_resize:
        rounded = Image.fromarray(np.round(decoded).astype(np.uint8))
        by_pillow = PILLOW_RESIZES[rule](rounded, size[::-1], Image.Resampling.BILINEAR)
        variants = {
            "resized in 8 bits (Pillow's resize of an RGB image)": np.asarray(by_pillow, np.float32),
            "bilinear without antialiasing (OpenCV's INTER_LINEAR)": resize_image(
                decoded, size, rule, method="bilinear"
            ),
            "nearest neighbor": resize_image(decoded, size, rule, method="nearest"),
        }
        variants |= {
            text: resize_image(decoded, size, other) for other, text in OTHER_RULES.items() if other != rule
        }
    variants |= {"values divided by 255": loaded / 255, "BGR instead of RGB": loaded[..., ::-1]}
    if trained.window is not None:
        full = decode_image(tf.constant(encoded), max_pixels=trained.max_pixels)
        variants["16-bit values without the window"] = resize_image(full, size, rule)
    return {name: np.ascontiguousarray(variant, np.float32) for name, variant in variants.items()}


def _measure_costs(
    sample: bytes, encoded: Sequence[bytes], trained: Trained, predict: Predict, with_resize: bool
) -> list[PreprocessingCost]:
    changes: dict[str, list[float]] = {}
    labels: dict[str, list[bool]] = {}
    for image in (sample, *encoded):
        decoded = _decode(image, trained)
        loaded = resize_image(decoded, trained.image_size_px, trained.resize).numpy()
        right = predict(loaded[None])[0]
        variants = preprocessing_variants(image, decoded, loaded, trained, with_resize)
        for variant, pixels in variants.items():
            wrong = predict(pixels[None])[0]
            changes.setdefault(variant, []).append(float(np.abs(wrong - right).max()))
            labels.setdefault(variant, []).append(bool(wrong.argmax() != right.argmax()))
    return [
        PreprocessingCost(
            variant, first, max(others, default=None), sum(labels[variant][1:]) if others else None
        )
        for variant, (first, *others) in changes.items()
    ]
