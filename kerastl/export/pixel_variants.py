"""Variants of decoded images: what a network receives if images are decoded or scaled in another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.data.decode import FULL_WINDOW, decode_image, resize_image
from kerastl.export.manifest import Manifest

Images = npt.NDArray[Any]

RESIZES: dict[str, dict[str, Any]] = {
    "images are resized with nearest-neighbor interpolation": {"method": "nearest"},
    "images are resized bilinearly without antialiasing": {"method": "bilinear"},
    "images are resized bicubically": {"method": "bicubic"},
    "images are resized bicubically with antialiasing": {"method": "bicubic", "antialias": True},
    "images are resized by area averaging": {"method": "area"},
    "images are stretched to the size of the input": {"resize": "stretch"},
    "images are padded with black to keep their aspect ratio": {"resize": "pad"},
    "images are cropped to their center to keep their aspect ratio": {"resize": "crop"},
}
NO_WINDOW = "the window is not applied"


def pixel_variants(encoded: Sequence[bytes], images: Images, manifest: Manifest) -> dict[str, Images]:
    """Return images as a faulty program would decode them, by the description of the fault.

    Args:
        encoded: Whole image files.
        images: The same images, decoded as the manifest states: `[n, height, width, 3]` float32 in [0, 255].
        manifest: The manifest of an export.
    """
    size, max_pixels = manifest.image_size_px, manifest.max_pixels
    resizes = {text: options for text, options in RESIZES.items() if options.get("resize") != manifest.resize}
    resized: dict[str, list[Images]] = {name: [] for name in (*resizes, NO_WINDOW)}
    # File by file: all decoded images together could fill the memory.
    for content in encoded:
        image = decode_image(content, window=manifest.window, max_pixels=max_pixels)
        for name, options in resizes.items():
            resized[name].append(resize_image(image, size, **{"resize": manifest.resize} | options).numpy())
        image = decode_image(content, window=FULL_WINDOW, max_pixels=max_pixels)
        resized[NO_WINDOW].append(resize_image(image, size, manifest.resize).numpy())
    return {
        "the color channels are in the order BGR": images[..., ::-1],
        "the pixels are in [0, 1] instead of [0, 255]": images / 255,
        "the pixels are in [-1, 1] instead of [0, 255]": images / 127.5 - 1,
        "the pixels are divided by 255 twice": images * 255,
        "the images are mirrored": images[:, :, ::-1],
        "the images are upside down": images[:, ::-1],
        **({"rows and columns are swapped": images.swapaxes(1, 2)} if size[0] == size[1] else {}),
        **{name: np.stack(variant) for name, variant in resized.items()},
    }
