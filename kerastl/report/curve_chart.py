"""The picture of a curve: score at B against labelled patients per class, one line a way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.report.charts import INK, svg_url
from kerastl.report.curve_points import (
    ADAPT_THEN_FINE_TUNE,
    FINE_TUNE,
    SCRATCH,
    UNCHANGED,
    Curve,
    Level,
)
from kerastl.runs import whole_file

DARK_INK = "#3a4250"
"""Of the PNG, which is always on white."""
# Of the palette by Okabe and Ito, told apart with every colour vision; marker and line differ as well.
LOOKS = {
    FINE_TUNE: ("#0072b2", "o", "-"),
    ADAPT_THEN_FINE_TUNE: ("#d55e00", "s", "--"),
    SCRATCH: ("#009e73", "^", "-."),
}
WORDS = {
    FINE_TUNE: "fine-tuned from A's model",
    ADAPT_THEN_FINE_TUNE: "adapted without labels, then fine-tuned",
    SCRATCH: "from scratch",
}
ROOM = 0.03
"""Above and below the curves, in scores."""


def write_curve_picture(path: Path, curve: Curve) -> None:
    """Write the picture as a PNG on white.

    Args:
        path: where; its folder exists.
        curve: at least one point of it has a value.
    """
    figure = _figure(curve, DARK_INK)
    with whole_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def curve_as_url(curve: Curve) -> str:
    """Return the picture as SVG in a data: URL, to be read on white and on black."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "kerastl", "svg.fonttype": "none"}):
        return svg_url(_figure(curve, INK))


def _figure(curve: Curve, ink: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=120, layout="constrained")
    axes: Any = figure.add_subplot()
    base = curve.level(UNCHANGED, 0)
    if base is not None:
        axes.axhline(
            base.median, color=ink, linestyle=":", linewidth=1.6, label="A's model unchanged"
        )
    for way in curve.ways:
        _draw(axes, curve, way)
    if curve.chance is not None and axes.get_ylim()[0] < curve.chance:
        axes.axhline(curve.chance, color=ink, linewidth=0.8, alpha=0.5)
        axes.text(
            1.0, curve.chance, "guessing", transform=axes.get_yaxis_transform(),
            ha="right", va="bottom", fontsize=8, color=ink,
        )  # fmt: skip
    _style(figure, axes, curve, ink)
    return figure


def _draw(axes: Any, curve: Curve, way: str) -> None:
    levels = curve.levels(way)
    if not levels:
        return
    colour, marker, line = LOOKS[way]
    numbers = [number for number, _ in levels]
    axes.plot(
        numbers, [level.median for _, level in levels], line, marker=marker, color=colour,
        linewidth=2.0, markersize=6, label=WORDS[way], zorder=3,
    )  # fmt: skip
    axes.fill_between(
        numbers, [level.least for _, level in levels], [level.greatest for _, level in levels],
        color=colour, alpha=0.16, linewidth=0,
    )  # fmt: skip
    for number, level in levels:
        axes.plot(
            [number] * len(level.values), level.values, marker, color=colour, markersize=3,
            alpha=0.55, linestyle="none",
        )  # fmt: skip


def _style(figure: Any, axes: Any, curve: Curve, ink: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    # Few patients matter most: the axis gives each doubling the same room, and begins at 0 all the same.
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    axes.set_xlim(-0.12, curve.labels[-1] * 1.12)
    axes.xaxis.set_major_locator(FixedLocator(list(curve.labels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(one) for one in curve.labels])
    axes.set_ylim(*_heights([level for way in curve.ways for _, level in curve.levels(way)]))
    axes.set_xlabel(f"{curve.unit}s of B labelled in each class", color=ink)
    axes.set_ylabel(f"{curve.metric_words} at B", color=ink)
    axes.tick_params(colors=ink, labelsize=9)
    axes.grid(color=ink, alpha=0.2, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    seeds = len(curve.seeds)
    drawn = f"line: median of {seeds} seeds, band: least to greatest" if seeds > 1 else "one seed"
    axes.set_title(drawn, fontsize=9, color=ink, loc="left")
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=ink,
        handlelength=3.2,
    )  # fmt: skip


def _heights(levels: list[Level]) -> tuple[float, float]:
    if not levels:
        return 0.0, 1.0
    low = min(level.least for level in levels)
    high = max(level.greatest for level in levels)
    return max(0.0, low - ROOM), min(1.0 + ROOM / 2, high + ROOM)
