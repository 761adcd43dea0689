"""Variants of decoded images: what a network receives if images are decoded or scaled in another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl.data.decode import FULL_WINDOW, decode_image
from kerastl.export.manifest import Manifest

Images = npt.NDArray[Any]


def pixel_variants(encoded: Sequence[bytes], images: Images, manifest: Manifest) -> dict[str, Images]:
    """Return images as a faulty program would decode them, by the description of the fault.

    Args:
        encoded: Whole image files.
        images: The same images, decoded as the manifest states: `[n, size, size, 3]` float32 in [0, 255].
        manifest: The manifest of an export.
    """
    size, max_pixels = manifest.image_size_px, manifest.max_pixels

    def resized(window: tuple[float, float] | None = manifest.window, **options: Any) -> Images:
        whole = (decode_image(content, window=window, max_pixels=max_pixels) for content in encoded)
        return np.stack([tf.image.resize(image, [size, size], **options).numpy() for image in whole])

    return {
        "the color channels are in the order BGR": images[..., ::-1],
        "the pixels are in [0, 1] instead of [0, 255]": images / 255,
        "the pixels are in [-1, 1] instead of [0, 255]": images / 127.5 - 1,
        "the pixels are divided by 255 twice": images * 255,
        "the images are mirrored": images[:, :, ::-1],
        "the images are upside down": images[:, ::-1],
        "rows and columns are swapped": images.swapaxes(1, 2),
        "images are resized with nearest": resized(method="nearest"),
        "images are resized bilinearly without antialiasing": resized(),
        "images are resized bicubically": resized(method="bicubic"),
        "images are resized bicubically with antialiasing": resized(method="bicubic", antialias=True),
        "images are resized by the mean of areas": resized(method="area"),
        "the window is not applied": resized(FULL_WINDOW, antialias=True),
    }
