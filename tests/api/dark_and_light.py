"""Images of two classes that a small network separates."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_dark_and_light(folder: Path, count: int) -> Path:
    """Write dark and light images, `count` per class, to subfolders of a folder, and return the folder."""
    generator = np.random.default_rng(0)
    for label, mean in (("dark", 60), ("light", 190)):
        (folder / label).mkdir()
        for number in range(count):
            pixels = np.clip(generator.normal(mean, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder
