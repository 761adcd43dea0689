"""What methods that change pictures make of them, beside pictures of both domains: `style_preview.png` of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.augment.preview import Block, Pixels
from kerastl.report.preview_sheet import draw_sheet
from kerastl.report.thumbnails import png_url_of
from kerastl.runs import write_atomic

SHEET = "style_preview.png"


def write_style_sheet(
    run_folder: Path, source: Any, target: Any, changed: Mapping[str, Any]
) -> None:
    """Write the sheet of a run; an earlier one is replaced.

    Args:
        run_folder: where it goes.
        source, target: `[rows, size, size, 3]` in [0, 255], row by row the pairs that are shown.
        changed: by head of the column, what a method makes of `source` or `target`; likewise.
    """
    columns = {"source": source, "target": target, **changed}
    shown = [np.round(np.clip(np.asarray(one), 0, 255)) for one in columns.values()]
    pictures: Pixels = np.stack(shown, axis=1).astype(np.uint8)
    heads = tuple(columns)
    block = Block("What the methods learn from", "", "", heads, pictures)
    sheet = draw_sheet(
        [block], [f"pair {row + 1}" for row in range(len(pictures))],
        title="Training pictures of both domains, and what the methods make of them",
        foot="Training pairs each source picture with another target picture in each epoch.",
    )  # fmt: skip
    write_atomic(run_folder / SHEET, sheet)


def style_sheet_url(run_folder: Path) -> str:
    """Return the sheet of a run as a `data:` address; empty where there is none."""
    file = run_folder / SHEET
    return png_url_of(file.read_bytes()) if file.is_file() else ""
