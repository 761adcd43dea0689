"""Decode the files of a run for a network that takes decoded pictures, as training did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kerastl.data.convert import UnreadableError, read_picture
from kerastl.data.decode import Sized, decoded


def pixels_of(files: Iterable[Path], sized: Sized) -> Iterator[npt.NDArray[np.float32]]:
    """Yield `[size, size, 3]` float32 for each file that gives a picture; others are passed over."""
    import tensorflow as tf

    for file in files:
        try:
            yield decoded([read_picture(file, max_pixels=sized.max_pixels)], sized)[0]
        except (UnreadableError, tf.errors.InvalidArgumentError):
            continue
