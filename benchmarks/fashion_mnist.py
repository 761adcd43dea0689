"""The test images of Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), from the Debian package dataset-fashion-mnist."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
FOLDER = Path(os.environ.get("KERASTL_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def read_test_images(source: Path = FOLDER) -> tuple[Array, Array]:
    """Return the test images `[10000, 28, 28]` and their labels `[10000]`, both uint8.

    Raises:
        SystemExit: The dataset is not installed.
    """
    if not source.is_dir():
        raise SystemExit(
            f"Fashion-MNIST is not in {source}. Install the Debian package dataset-fashion-mnist, or set KERASTL_FASHION_MNIST."
        )

    def content(name: str, offset: int) -> Array:
        return np.frombuffer(gzip.decompress((source / name).read_bytes()), np.uint8, offset=offset)

    images = content("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, content("t10k-labels-idx1-ubyte.gz", 8)


def write_test_images(
    folder: Path, class_names: Sequence[str], *, per_class: int, source: Path = FOLDER
) -> None:
    """Write the first test images of each class as `{folder}/{class}/{index}.png`.

    Raises:
        SystemExit: The dataset is not installed.
    """
    images, labels = read_test_images(source)
    for label, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for index in np.flatnonzero(labels == label)[:per_class]:
            Image.fromarray(images[index]).save(folder / name / f"{index:05d}.png")
