"""The preview of an augmentation, as `preview.html` and as `preview.png`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl.report.figures import SIDE_PX, draw_sheet, png_url, write_page
from kerastl.runs import write_atomic

if TYPE_CHECKING:
    from kerastl.augment.preview import Block, Pixels

PAGE, SHEET = "preview.html", "preview.png"
CONFIDENTIAL = "Contains images of the data and is as confidential as the data."


@dataclass(frozen=True)
class PreviewImage:
    """An image of the data.

    Args:
        path: Relative to the data folder.
        class_name: Its class, or `unlabeled`.
    """

    path: str
    class_name: str


def write_preview(
    folder: Path, blocks: Sequence[Block], shown: Sequence[PreviewImage], *, title: str, notes: Sequence[str]
) -> Path:
    """Write the page and the image into an existing folder.

    Args:
        folder: The folder.
        blocks: Augmented images; their rows are the images `shown`.
        shown: The images in the rows.
        title: Title of the page.
        notes: Lines below the title.

    Returns:
        The path of the page. Both files contain images of the data.
    """
    write_atomic(
        folder / SHEET,
        draw_sheet(blocks, [image.class_name for image in shown], title=title, foot=CONFIDENTIAL),
    )
    return write_page(
        folder / PAGE,
        "preview.html",
        title=title,
        notes=notes,
        confidential=CONFIDENTIAL,
        blocks=[_preview_section(block, shown) for block in blocks],
    )


def _preview_section(block: Block, shown: Sequence[PreviewImage]) -> dict[str, Any]:
    captions = block.captions or [("",) * len(block.columns)] * len(shown)
    rows = [
        (image, list(zip(map(data_url, versions), texts, strict=True)))
        for image, versions, texts in zip(shown, block.images, captions, strict=True)
    ]
    return {"block": block, "rows": rows}


def data_url(pixels: Pixels) -> str:
    """Return a PNG data URL of at most 160 px per side.

    Args:
        pixels: `[height, width, channels]` uint8, 0 to 255; 1 or 3 channels.
    """
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return png_url(image)
