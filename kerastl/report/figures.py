"""Figures of the pages as SVG and PNG, with the same bytes for the same content."""

from __future__ import annotations

import base64
import io
import math
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastl.data.convert import convert_to_png, format_to_convert, read_content
from kerastl.runs import atomic_path, write_atomic

if TYPE_CHECKING:
    from PIL.Image import Image as Image

    from kerastl.augment.preview import Block, Pixels
    from kerastl.runs.schemas import DecisionCurve, Reliability
    from kerastl.training import LearningRateTest

NO_CURVE = {"phase", "epoch", "learning_rate"}
INK = "#7a828e"
"""A gray that is legible on light and dark backgrounds."""
COLORS = ("#2f6fde", "#e07b1a", "#1f9d6b", "#a65bd4", "#c9405b", "#7a828e")


def curve_charts(history: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (title, SVG data URL) of the losses and of the scores by epoch.

    Args:
        history: Rows of `history.jsonl`. A missing value leaves a gap.
    """
    names = sorted({name for row in history for name in row} - NO_CURVE)
    numeric = [
        name for name in names if all(isinstance(row.get(name), int | float | None) for row in history)
    ]
    losses = [name for name in numeric if name.endswith("loss")]
    scores = [name for name in numeric if not name.endswith("loss")]
    charts = [("Loss by epoch", losses), ("Scores by epoch", scores)]
    return [(title, _history_chart(history, names)) for title, names in charts if names]


def _history_chart(history: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    figure, axes = new_axes(6.0, 3.4)
    for color, name in zip(cycle(COLORS), names, strict=False):
        values = [math.nan if row.get(name) is None else row[name] for row in history]
        # The marker shows single points between gaps.
        line = "-" if name.startswith("val_") else "--"
        axes.plot(
            range(1, len(history) + 1), values, line, marker=".", color=color, linewidth=1.6, label=name
        )
    _mark_phases(axes, history)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish_chart(figure, axes, "epoch")


def new_axes(width: float, height: float, dpi: float | None = None) -> tuple[Any, Any]:
    """Return a new figure of a size in inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    return figure, figure.add_subplot()


def _finish_chart(figure: Any, axes: Any, x_label: str, y_label: str = "") -> str:
    """Add the legend and the labels to a chart, and return it as a data URL."""
    style(axes)
    for text in axes.legend(frameon=False, fontsize=9, labelcolor=INK).get_texts():
        text.set_parse_math(False)
    axes.set_xlabel("\n".join(textwrap.wrap(x_label, 50)[:2]), color=INK, parse_math=False)
    axes.set_ylabel(y_label, color=INK)
    return svg_url(figure)


def svg_url(figure: Any) -> str:
    """Return a matplotlib figure as an SVG data URL."""
    import matplotlib

    image = io.BytesIO()
    # The salt makes the ids in the SVG a function of its content.
    with matplotlib.rc_context({"svg.hashsalt": "kerastl", "svg.fonttype": "none"}):
        figure.savefig(image, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _data_url("svg+xml", image.getvalue())


def _mark_phases(axes: Any, history: Sequence[dict[str, Any]]) -> None:
    """Shade every other phase and write its name at the top."""
    first = 1
    phases = [(str(name), len(list(rows))) for name, rows in groupby(history, lambda row: row.get("phase"))]
    for index, (name, count) in enumerate(phases):
        if index % 2:
            axes.axvspan(first - 0.5, first + count - 0.5, color=INK, alpha=0.12, linewidth=0)
        axes.text(
            (first + first + count - 1) / 2, 1.02, name[:24], transform=axes.get_xaxis_transform(),
            ha="center", va="bottom", fontsize=9, color=INK, parse_math=False,
        )  # fmt: skip
        first += count
    axes.set_xlim(0.5, max(first - 0.5, 1.5))


def style(axes: Any, ink: str = INK) -> None:
    """Draw axes and grid in one color. The default is legible on light and dark backgrounds."""
    axes.tick_params(colors=ink, labelsize=9)
    axes.grid(axis="y", color=ink, alpha=0.25, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)


def reliability_chart(reliability: Reliability) -> str | None:
    """Return the reliability curves of a split as a data URL; None without data."""
    curves = reliability.overall
    present = {"without the temperature": curves.uncalibrated, "with the temperature": curves.calibrated}
    if not any(present.values()):
        return None

    figure, axes = new_axes(5.0, 4.0)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle=":")
    for color, (name, bins) in zip(COLORS, present.items(), strict=False):
        if bins:
            predicted, values = [point.predicted for point in bins], [point.observed.value for point in bins]
            axes.plot(predicted, values, marker="o", markersize=4, color=color, linewidth=1.6, label=name)
    known = [point for point in curves.uncalibrated if point.observed.low is not None]
    axes.vlines(
        [point.predicted for point in known],
        [point.observed.low for point in known],
        [point.observed.high for point in known],
        color=COLORS[0], alpha=0.35, linewidth=2.5,
    )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return _finish_chart(figure, axes, reliability.of, "observed fraction")


def decision_chart(curves: DecisionCurve) -> str | None:
    """Return the decision curve (net benefit by threshold) of a split as a data URL; None without data."""
    curve = curves.overall
    if curve is None:
        return None
    known = [
        (at, point.low, point.high)
        for at, point in zip(curve.at, curve.model, strict=True)
        if point.low is not None
    ]
    highest = [curve.all[0].value, *(point.high or point.value for point in curve.model)]
    top = max(0.05, *(value for value in highest if value is not None))

    figure, axes = new_axes(5.0, 4.0)
    if known:
        axes.fill_between(*zip(*known, strict=True), color=COLORS[0], alpha=0.18, linewidth=0)
    model, treat_all = ([point.value for point in points] for points in (curve.model, curve.all))
    axes.plot(curve.at, model, color=COLORS[0], linewidth=1.8, label="model")
    axes.plot(curve.at, treat_all, color=COLORS[1], linewidth=1.4, linestyle="--", label="treat all")
    axes.axhline(0, color=INK, linewidth=1.2, linestyle=":", label="treat none")
    axes.set_xlim(0, 1)
    # "Treat all" decreases without bound; far below zero it is of no interest.
    axes.set_ylim(-0.35 * top, 1.12 * top)
    return _finish_chart(figure, axes, f"threshold probability of {curves.positive}", "net benefit per image")


FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SIDE_PX = 160
HIGHEST = 65535.0


def thumbnail(file: Path, *, window: tuple[float, float] | None, max_pixels: int) -> str | None:
    """Return a PNG data URL of at most 160 px per side, or None if the file cannot be read as an image.

    Args:
        file: An encoded image.
        window: (low, high) in stored values of 16-bit grayscale, or None for 0 to 65535.
        max_pixels: Images with more pixels are not decoded.
    """
    from PIL import Image, ImageOps

    try:
        # Pillow warns about decompression bombs; such files are skipped.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            content = read_content(file, max_pixels=max_pixels)
            if kind := format_to_convert(content):
                content = convert_to_png(content, kind, max_pixels=max_pixels)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                if opened.width * opened.height > max_pixels:
                    return None
                image = _eight_bit(ImageOps.exif_transpose(opened), window)
            image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    except Exception:  # Pillow raises many kinds of errors on damaged files
        return None
    return png_url(image)


def png_url(image: Image) -> str:
    """Return an image as a PNG data URL."""
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return _data_url("png", png.getvalue())


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _eight_bit(image: Image, window: tuple[float, float] | None) -> Image:
    from PIL import Image

    if image.mode.startswith("I"):
        low, high = window or (0.0, HIGHEST)
        levels = (np.asarray(image, np.float64) - low) / (high - low)
        return Image.fromarray(np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8))
    if image.has_transparency_data:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(under, over).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


DPI = 100
CELL_PX, GAP_PX, MARGIN_PX, LEFT_PX = 112, 4, 16, 116
LINE_PX = 15
"""Height of a line of small text."""
HEAD_PX = 34
"""Height of the title of a block."""
WORD_PX = 6.6
"""Upper estimate of the width of a letter of small text."""
TALLEST_PX = 60_000
"""matplotlib draws up to 65,535 pixels; taller sheets get smaller images."""
SMALLEST_CELL_PX = 24
SHEET_INK, SOFT = "#1c2330", "#5d6675"


def draw_sheet(blocks: Sequence[Block], names: Sequence[str], *, title: str, foot: str) -> bytes:
    """Return all blocks, one below the other, as PNG bytes.

    Args:
        blocks: Images with titles.
        names: Names of the rows, the same in every block.
        title: Text at the top.
        foot: Text at the bottom.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    placed = _placed(blocks)
    columns = max(len(block.columns) for block in blocks)
    width = max(LEFT_PX + columns * (placed[0].cell + GAP_PX) + MARGIN_PX, 480)
    height = HEAD_PX + MARGIN_PX + sum(block.height for block in placed) + 2 * LINE_PX
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    canvas = np.full((height, width, 3), 255, np.uint8)
    pen = _Pen(figure, width, height)
    pen.write(MARGIN_PX, MARGIN_PX + 14, _cut(title, width), size=12, weight="bold")
    top = HEAD_PX + MARGIN_PX
    for block in placed:
        block.draw(canvas, pen, top, names)
        top += block.height
    pen.write(MARGIN_PX, height - LINE_PX, foot, size=8, color=SOFT)
    figure.figimage(canvas, 0, 0, origin="upper")
    png = io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib's font lacks some scripts and draws boxes for their letters.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*", category=UserWarning)
        figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()


class _Pen:
    """Writes text at pixel coordinates from the top left."""

    def __init__(self, figure: Any, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def write(self, left: float, middle: float, words: str, **style: Any) -> None:
        style = {"size": 8, "color": SHEET_INK, "va": "center", "ha": "left"} | style
        # A class named `$x$` is not a formula.
        self._figure.text(left / self._width, 1 - middle / self._height, words, parse_math=False, **style)


@dataclass(frozen=True)
class _Placed:
    """A block and its layout in pixels."""

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
        return self.head_height + len(self.block.images) * self.row_height + MARGIN_PX

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
        for row, images in enumerate(block.images):
            self._draw_row(canvas, pen, below + row * self.row_height, names[row], images, row)

    def _draw_row(self, canvas: Pixels, pen: _Pen, top: int, name: str, images: Pixels, row: int) -> None:
        pen.write(MARGIN_PX, top + self.cell / 2, _cut(name, LEFT_PX - MARGIN_PX), size=8)
        for column, image in enumerate(images):
            left = self._left(column)
            shown = _resized(image, self.cell)
            canvas[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
            if self.block.captions:
                for number, words in enumerate(self._wrapped(self.block.captions[row][column])):
                    pen.write(left, top + self.cell + LINE_PX * (number + 0.6), words)


def _placed(blocks: Sequence[Block]) -> list[_Placed]:
    """Return the blocks with the largest cells that fit on a sheet."""
    cell = CELL_PX
    while True:
        placed = [_Placed(block, cell) for block in blocks]
        if sum(block.height for block in placed) < TALLEST_PX or cell <= SMALLEST_CELL_PX:
            return placed
        cell = max(SMALLEST_CELL_PX, int(cell * 0.8))


def _cut(words: str, width_px: float) -> str:
    """Shorten a text to a width in pixels of small text."""
    most = max(4, int(width_px / WORD_PX))
    return words if len(words) <= most else words[: most - 3] + "..."


def _resized(pixels: Pixels, side: int) -> Pixels:
    """Return `[height, width, 3]` uint8, the longer at most `side`: smooth if reduced, with visible pixels if enlarged."""
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    grows = side > max(image.size)
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(ImageOps.contain(image, (side, side), method))


SHEET = "style_preview.png"


def write_style_sheet(run_folder: Path, source: Any, target: Any, changed: Mapping[str, Any]) -> None:
    """Write a PNG of training images of both domains and their styled versions into a run folder.

    Args:
        run_folder: The run folder.
        source, target: `[rows, height, width, 3]` in [0, 255], one pair per row.
        changed: Column title to styled images of the same shape.
    """
    from kerastl.augment.preview import Block, to_pixels  # imports TensorFlow

    columns = {"source": source, "target": target, **changed}
    images = to_pixels(list(columns.values()))
    block = Block("Images that the methods are trained on", "", "", tuple(columns), images)
    sheet = draw_sheet(
        [block], [f"pair {row + 1}" for row in range(len(images))],
        title="Training images of both domains, and their styled versions",
        foot="Training pairs each source image with a different target image in each epoch.",
    )  # fmt: skip
    write_atomic(run_folder / SHEET, sheet)


def style_sheet_url(run_folder: Path) -> str:
    """Return the style preview of a run as a data URL, or an empty text."""
    file = run_folder / SHEET
    return _data_url("png", file.read_bytes()) if file.is_file() else ""


def write_page(file: Path, template: str, **content: Any) -> Path:
    """Write a page from a template, and return its path."""
    write_atomic(file, render(template, **content))
    return file


def render(template: str, *, filters: Mapping[str, Callable[..., str]] | None = None, **content: Any) -> str:
    """Return the text of a template. Invisible characters in the content are escaped and, in a page, HTML."""
    environment = _environment(template.endswith(".html"), tuple((filters or {}).items()))
    text: str = environment.get_template(template).render(content)
    return text


@lru_cache(maxsize=8)
def _environment(is_page: bool, filters: tuple[tuple[str, Callable[..., str]], ...]) -> Any:
    """Return the Jinja environment, which compiles each template once."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=is_page,
        finalize=escape_invisible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


BREAKS = "\n\r\t"
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Characters that Persian, Hindi and emoji sequences need."""
HIDDEN = ("Cc", "Cf", "Cs")


def escape_invisible(value: Any) -> Any:
    """Replace invisible characters of a text by escapes such as `\\u202e`; other values are returned unchanged.

    It is the `finalize` function of the templates, which is applied before HTML escaping.
    """
    if not isinstance(value, str) or value.isprintable():
        return value
    hidden = {ord(letter): ascii(letter)[1:-1] for letter in set(value) if _is_hidden(letter)}
    return value.translate(hidden)  # keeps Markup as Markup


def _is_hidden(letter: str) -> bool:
    return letter not in BREAKS + JOINERS and unicodedata.category(letter) in HIDDEN


RULES = {
    "valley": "at two thirds of the longest decrease",
    "steepest": "at the steepest decrease",
    "minimum_tenth": "a tenth of the rate at the minimum",
}
TERMINAL_COLORS = ("#2f6fde", "#e07b1a", "#1f9d6b")
WIDTH, HEIGHT = 64, 12
WARMUP_STEPS = 9
"""Steps at the start, where the smoothed loss averages few batches."""


def write_rates(path: Path, tests: Sequence[LearningRateTest], *, title: str, rate: float) -> None:
    """Plot the loss against the learning rate, one curve per test, with the suggestions of each rule.

    Args:
        path: New PNG file.
        tests: One per seed.
        title: Title of the figure.
        rate: Learning rate of the recipe, a dotted line.
    """
    figure, axes = new_axes(8.0, 4.5, dpi=120)
    for test in tests:
        axes.plot(test.rates, test.smoothed, color="#7a828e", linewidth=1.4)
    for color, (rule, description) in zip(TERMINAL_COLORS, RULES.items(), strict=True):
        conclusive = [test for test in tests if test.suggestions]
        rates = [test.suggestions[rule] for test in conclusive]
        losses = [
            np.interp(suggested, test.rates, test.smoothed)
            for suggested, test in zip(rates, conclusive, strict=True)
        ]
        axes.plot(rates, losses, "o", color=color, label=f"{rule.replace('_', ' ')}: {description}", zorder=3)
    axes.axvline(rate, color="#c9405b", linestyle=":", linewidth=1.4, label="rate of the recipe")
    axes.set_xscale("log")
    axes.set_ylim(*_loss_limits(tests))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.set_title(title, parse_math=False)
    axes.grid(color="#7a828e", alpha=0.25, linewidth=0.7)
    axes.legend(fontsize=9, edgecolor="none", framealpha=0.85)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _loss_limits(tests: Sequence[LearningRateTest]) -> tuple[float, float]:
    """Return axis limits that show the loss before it diverges."""
    settled = [test.smoothed[WARMUP_STEPS:] or test.smoothed for test in tests]
    low = min(min(losses) for losses in settled)
    high = max(max(losses[: int(np.argmin(losses)) + 1]) for losses in settled)
    margin = max(high - low, 1e-6)
    return low - 0.1 * margin, high + 0.4 * margin


def curve_in_characters(test: LearningRateTest) -> list[str]:
    """Return lines of text that plot the loss of one test against the logarithm of its rate."""
    rates: Any = np.geomspace(test.rates[0], test.rates[-1], WIDTH)
    losses = np.interp(np.log(rates), np.log(test.rates), test.smoothed)
    low, high = _loss_limits([test])
    rows = np.clip((HEIGHT - 1) * (high - losses) / (high - low), 0, HEIGHT - 1).round().astype(int)
    lines = [
        f"{high - (high - low) * row / (HEIGHT - 1):9.3f} │"
        + "".join("•" if at == row else " " for at in rows)
        for row in range(HEIGHT)
    ]
    axis = f"{'':9} └{'─' * WIDTH}"
    ends = f"{test.rates[0]:.0e}".ljust(WIDTH - 6) + f"{test.rates[-1]:.0e}"
    return [line.rstrip() for line in [*lines, axis, f"{'':11}{ends}"]]
