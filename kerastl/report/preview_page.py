"""Write a preview of augmentation: `preview.html`, which loads nothing, and `preview.png`, the same as one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.augment.preview import Block, Pixels
from kerastl.report.figures import SIDE_PX, draw_sheet, png_url
from kerastl.report.run_report import environment
from kerastl.runs import write_atomic

PAGE, SHEET = "preview.html", "preview.png"
CONFIDENTIAL = "Holds images of the data, and is as confidential as they are."


@dataclass(frozen=True)
class Shown:
    """One image of the data, as it is told of.

    Args:
        path: relative to the data's folder.
        class_name: `unlabelled` where there is none.
    """

    path: str
    class_name: str


def write_preview(
    folder: Path, blocks: Sequence[Block], shown: Sequence[Shown], *, title: str, notes: Sequence[str]
) -> Path:
    """Write the page and the sheet into a folder that exists.

    Args:
        folder: where.
        blocks: what is shown, in this order; their rows are the images `shown`.
        shown: what the rows are.
        title: heads the page.
        notes: one line each, below the title.

    Returns:
        The page. Both files hold images of the data.
    """
    write_atomic(
        folder / SHEET, draw_sheet(blocks, [one.class_name for one in shown], title=title, foot=CONFIDENTIAL)
    )
    write_atomic(folder / PAGE, render_preview(blocks, shown, title=title, notes=notes))
    return folder / PAGE


def render_preview(
    blocks: Sequence[Block], shown: Sequence[Shown], *, title: str, notes: Sequence[str]
) -> str:
    """Return the page as HTML; every name in it is escaped."""
    page: str = (
        environment()
        .get_template("preview.html")
        .render(
            title=title,
            notes=notes,
            confidential=CONFIDENTIAL,
            blocks=[_told(block, shown) for block in blocks],
        )
    )
    return page


def _told(block: Block, shown: Sequence[Shown]) -> dict[str, Any]:
    captions = block.captions or [("",) * len(block.columns)] * len(shown)
    rows = [
        (one, list(zip(map(data_url, images), words, strict=True)))
        for one, images, words in zip(shown, block.images, captions, strict=True)
    ]
    return {"block": block, "rows": rows}


def data_url(pixels: Pixels) -> str:
    """Return a PNG of at most 160 px a side as a data: URL.

    Args:
        pixels: `[height, width, channels]` uint8, 0 to 255; 1 or 3 channels.
    """
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return png_url(image)
