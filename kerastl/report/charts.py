"""Curves by epoch as SVG: the same bytes for the same history, without matplotlib's global state."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

NO_CURVE = {"phase", "epoch", "learning_rate"}
INK = "#7a828e"
"""A grey that can be read on white and on black alike: the page may be either."""
COLOURS = ("#2f6fde", "#e07b1a", "#1f9d6b", "#a65bd4", "#c9405b", "#7a828e")


def curve_charts(history: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return `(title, SVG as a data: URL)`: losses, and scores; none for an empty history.

    Args:
        history: rows of `history.jsonl`; a value that is missing in a row leaves a gap.
    """
    names = [name for row in history for name in row if name not in NO_CURVE]
    numeric = [name for name in dict.fromkeys(names) if _is_numeric(history, name)]
    losses = sorted(name for name in numeric if name.endswith("loss"))
    scores = sorted(name for name in numeric if not name.endswith("loss"))
    charts = [("Loss by epoch", losses), ("Scores by epoch", scores)]
    return [(title, _history_chart(history, names)) for title, names in charts if names]


def _is_numeric(history: Sequence[dict[str, Any]], name: str) -> bool:
    values = [row[name] for row in history if row.get(name) is not None]
    return all(isinstance(value, int | float) for value in values)


def _history_chart(history: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    epochs = list(range(1, len(history) + 1))
    # The salt makes the ids in the SVG a function of its content, not of chance.
    with matplotlib.rc_context({"svg.hashsalt": "kerastl", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.0, 3.4), layout="constrained")
        axes: Any = figure.add_subplot()
        for colour, name in zip(_colours(names), names, strict=True):
            values = [_history_value(row.get(name)) for row in history]
            # A lone point between gaps has no line to be seen by.
            line = "-" if name.startswith("val_") else "--"
            axes.plot(epochs, values, line, marker=".", color=colour, linewidth=1.6, label=name)
        _mark_phases(axes, history)
        style(axes)
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        return svg_url(figure)


def svg_url(figure: Any) -> str:
    """Return a matplotlib figure as SVG in a data: URL."""
    picture = io.BytesIO()
    figure.savefig(
        picture, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    return "data:image/svg+xml;base64," + base64.b64encode(picture.getvalue()).decode()


def _colours(names: Sequence[str]) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(names))]


def _history_value(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _mark_phases(axes: Any, history: Sequence[dict[str, Any]]) -> None:
    """Shade every other phase and write its name at the top."""
    first = 1
    phases = [
        (str(name), len(list(rows)))
        for name, rows in groupby(history, lambda row: row.get("phase"))
    ]
    for place, (name, count) in enumerate(phases):
        if place % 2:
            axes.axvspan(first - 0.5, first + count - 0.5, color=INK, alpha=0.12, linewidth=0)
        axes.text(
            (first + first + count - 1) / 2, 1.02, name[:24], transform=axes.get_xaxis_transform(),
            ha="center", va="bottom", fontsize=9, color=INK, parse_math=False,
        )  # fmt: skip
        first += count
    axes.set_xlim(0.5, max(first - 0.5, 1.5))


def style(axes: Any) -> None:
    """Draw axes, grid and legend in colours that can be read on white and on black."""
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    legend = axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)
