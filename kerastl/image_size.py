"""The size of the images that a model takes: (height, width) in pixels, everywhere inside the package.

In recipes, arguments and JSON files, a single integer is the side length of a square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

MAX_SIZE_PX = 4096
"""The largest height and width."""
Size = tuple[int, int]
"""(height, width) in pixels."""
Resize = Literal["stretch", "pad", "crop"]
"""How an image with a different aspect ratio is resized; see `kerastl.data.decode.resize_image`."""
RESIZE_RULES: dict[Resize, str] = {
    "stretch": "Height and width are scaled separately, without keeping the aspect ratio.",
    "pad": "The aspect ratio is kept: the whole image is shown in the center, on black.",
    "crop": "The aspect ratio is kept: the center of the image is shown, and the rest is cut off.",
}
"""Descriptions of the rules for readers of an export."""


def as_size(image_size_px: int | Sequence[int]) -> Size:
    """Return (height, width) of a side length or of a pair `[height, width]`."""
    if isinstance(image_size_px, int):
        return image_size_px, image_size_px
    height, width = image_size_px
    return height, width


def plain_size(size: Size) -> int | Size:
    """Return a size as recipes and JSON files contain it: the side length of a square, or (height, width)."""
    return size[0] if size[0] == size[1] else size


def format_size(size: Size, unit: str = "px") -> str:
    """Return a size as text, such as `96 x 96 px` or `96 x 128 px (height x width)`."""
    height, width = size
    return f"{height} x {width} {unit}" + (" (height x width)" if height != width else "")
