"""Picture files to pixels, several at a time, by the compiled decoder: what is asked of a model outside of a pipeline. No TensorFlow at import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

MAX_THREADS = 8


class Sized(Protocol):
    """What says how pictures are decoded: a run's description, or an export's manifest."""

    @property
    def image_size_px(self) -> int:
        """Side of the square picture, in pixels."""

    @property
    def window(self) -> tuple[float, float] | None:
        """(low, high) in stored values for 16-bit grey pictures; None: the full range."""

    @property
    def max_pixels(self) -> int:
        """Height times width above which a picture is refused."""


def decoded(encoded: Sequence[bytes], sized: Sized) -> npt.NDArray[np.float32]:
    """Return `[n, size, size, 3]` float32 in [0, 255] for at least one whole file; a TIFF must have been converted.

    Raises:
        tf.errors.InvalidArgumentError: a picture cannot be decoded.
    """
    load = traced_loader(sized.image_size_px, sized.window, sized.max_pixels)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1, len(encoded))) as pool:
        return np.stack([image.numpy() for image in pool.map(load, encoded)])


@lru_cache(maxsize=8)
def traced_loader(image_size_px: int, window: tuple[float, float] | None, max_pixels: int) -> Any:
    """Return `load_image` as a `tf.function` of the content of a file.

    Tracing the decoder takes seconds, so all datasets and models with the same arguments share one function.
    """
    import tensorflow as tf

    from kerastl.data.decode import load_image

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def load(encoded: tf.Tensor) -> tf.Tensor:
        return load_image(
            encoded, image_size_px=image_size_px, window=window, max_pixels=max_pixels
        )

    return load
