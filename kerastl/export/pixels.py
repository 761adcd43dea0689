"""Decode files for a network that takes decoded pictures, as training did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kerastl.data.reading import read_picture
from kerastl.data.unreadable import UnreadableError


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
    """Return `[n, size, size, 3]` float32 in [0, 255] for at least one whole file.

    Raises:
        tf.errors.InvalidArgumentError: a picture cannot be decoded.
    """
    import tensorflow as tf

    from kerastl.data.decode import load_image

    loaded = [
        load_image(
            tf.constant(picture), image_size_px=sized.image_size_px, window=sized.window,
            max_pixels=sized.max_pixels,
        ).numpy()
        for picture in encoded
    ]  # fmt: skip
    return np.stack(loaded)


def pixels_of(files: Iterable[Path], sized: Sized) -> Iterator[npt.NDArray[np.float32]]:
    """Yield `[size, size, 3]` float32 for each file that gives a picture; others are passed over."""
    import tensorflow as tf

    for file in files:
        try:
            yield decoded([read_picture(file, max_pixels=sized.max_pixels)], sized)[0]
        except (UnreadableError, tf.errors.InvalidArgumentError):
            continue
