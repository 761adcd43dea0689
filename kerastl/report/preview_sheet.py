"""The preview as one PNG: pictures pasted pixel by pixel, words beside them."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.augment.preview import Block, Pixels

DPI = 100
CELL_PX, GAP_PX, MARGIN_PX, LEFT_PX = 112, 4, 16, 116
LINE_PX = 15
"""Height of a line of small text."""
HEAD_PX = 34
"""Height of a block's title."""
WORD_PX = 6.6
"""Width of a letter of small text, rather too much than too little."""
TALLEST_PX = 60_000
"""matplotlib draws up to 65,535 pixels; higher sheets get smaller pictures."""
SMALLEST_CELL_PX = 24
SHEET_INK, SOFT = "#1c2330", "#5d6675"


def draw_sheet(blocks: Sequence[Block], names: Sequence[str], *, title: str, foot: str) -> bytes:
    """Return all blocks below one another as PNG.

    Args:
        blocks: what is shown.
        names: of the rows, the same in every block.
        title: stands at the top.
        foot: stands at the bottom.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    placed = _placed(blocks)
    columns = max(len(block.columns) for block in blocks)
    width = max(LEFT_PX + columns * (placed[0].cell + GAP_PX) + MARGIN_PX, 480)
    height = HEAD_PX + MARGIN_PX + sum(one.height for one in placed) + 2 * LINE_PX
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    canvas = np.full((height, width, 3), 255, np.uint8)
    pen = _Pen(figure, width, height)
    pen.write(MARGIN_PX, MARGIN_PX + 14, _cut(title, width), size=12, weight="bold")
    top = HEAD_PX + MARGIN_PX
    for one in placed:
        one.draw(canvas, pen, top, names)
        top += one.height
    pen.write(MARGIN_PX, height - LINE_PX, foot, size=8, color=SOFT)
    figure.figimage(canvas, 0, 0, origin="upper")
    png = io.BytesIO()
    with warnings.catch_warnings():
        # A class may be named in a script that matplotlib's own font lacks: boxes stand for its letters.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*", category=UserWarning)
        figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()


class _Pen:
    """Writes text at pixels counted from the top left."""

    def __init__(self, figure: Any, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def write(self, left: float, middle: float, words: str, **style: Any) -> None:
        style = {"size": 8, "color": SHEET_INK, "va": "center", "ha": "left"} | style
        # A class named `$x$` is no formula.
        self._figure.text(
            left / self._width, 1 - middle / self._height, words, parse_math=False, **style
        )


@dataclass(frozen=True)
class _Placed:
    """A block and the room it takes, in pixels."""

    block: Block
    cell: int

    @property
    def heads(self) -> list[list[str]]:
        return [self._wrapped(words) for words in self.block.columns]

    @property
    def head_height(self) -> int:
        note = LINE_PX if self.block.note else 0
        return HEAD_PX + note + LINE_PX * max(map(len, self.heads)) + GAP_PX

    @property
    def row_height(self) -> int:
        lines = [len(self._wrapped(words)) for row in self.block.captions for words in row]
        return self.cell + GAP_PX + LINE_PX * max(lines, default=0)

    @property
    def height(self) -> int:
        return self.head_height + len(self.block.pictures) * self.row_height + MARGIN_PX

    def _wrapped(self, words: str) -> list[str]:
        return textwrap.wrap(words, max(6, int(self.cell / WORD_PX)))

    def _left(self, column: int) -> int:
        return LEFT_PX + column * (self.cell + GAP_PX)

    def draw(self, canvas: Pixels, pen: _Pen, top: int, names: Sequence[str]) -> None:
        block, width = self.block, canvas.shape[1]
        title = f"{block.title}: {block.strength}" if block.strength else block.title
        pen.write(MARGIN_PX, top + HEAD_PX / 2, _cut(title, width), size=10, weight="bold")
        if block.note:
            pen.write(MARGIN_PX, top + HEAD_PX, _cut(block.note, width), color=SOFT)
        below = top + self.head_height
        for column, lines in enumerate(self.heads):
            for number, words in enumerate(reversed(lines)):
                middle = below - GAP_PX - LINE_PX * (number + 0.5)
                pen.write(self._left(column), middle, words, color=SOFT)
        for row, pictures in enumerate(block.pictures):
            self._draw_row(canvas, pen, below + row * self.row_height, names[row], pictures, row)

    def _draw_row(
        self, canvas: Pixels, pen: _Pen, top: int, name: str, pictures: Pixels, row: int
    ) -> None:
        pen.write(MARGIN_PX, top + self.cell / 2, _cut(name, LEFT_PX - MARGIN_PX), size=8)
        for column, picture in enumerate(pictures):
            left = self._left(column)
            canvas[top : top + self.cell, left : left + self.cell] = _resized(picture, self.cell)
            if self.block.captions:
                for number, words in enumerate(self._wrapped(self.block.captions[row][column])):
                    pen.write(left, top + self.cell + LINE_PX * (number + 0.6), words)


def _placed(blocks: Sequence[Block]) -> list[_Placed]:
    """Return the blocks with cells as large as the tallest sheet allows."""
    cell = CELL_PX
    while True:
        placed = [_Placed(block, cell) for block in blocks]
        if sum(one.height for one in placed) < TALLEST_PX or cell <= SMALLEST_CELL_PX:
            return placed
        cell = max(SMALLEST_CELL_PX, int(cell * 0.8))


def _cut(words: str, width_px: float) -> str:
    """Return words that are no wider than so many pixels of small text."""
    most = max(4, int(width_px / WORD_PX))
    return words if len(words) <= most else words[: most - 3] + "..."


def _resized(picture: Pixels, side: int) -> Pixels:
    """Return `[side, side, 3]` uint8: smooth when it shrinks, whole pixels when it grows."""
    from PIL import Image

    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
    grows = side > image.width
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(image.resize((side, side), method))
