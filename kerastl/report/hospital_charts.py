"""The reliability curve and the decision curve as SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from kerastl.report.charts import COLOURS, INK, style, svg_url

AS_TOLD, SCALED = "as told", "with the temperature"


def reliability_chart(content: Mapping[str, Any]) -> str | None:
    """Return how often what was told came true, as a data: URL; None where there is nothing to draw.

    Args:
        content: `reliability` of one split of `scores.json`.
    """
    curves = content.get("overall") or {}
    told = [
        (name, curves[key])
        for name, key in ((AS_TOLD, "as_told"), (SCALED, "scaled"))
        if curves.get(key)
    ]
    if not told:
        return None

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle=":")
        for colour, (name, bins) in zip(COLOURS, told, strict=False):
            _points(axes, bins, name, colour, with_intervals=name == AS_TOLD)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)

    return _clinical_chart(draw, _wrapped(content.get("of", "probability")), "share that came true")


def _points(
    axes: Any, bins: Sequence[Mapping[str, Any]], name: str, colour: str, *, with_intervals: bool
) -> None:
    """Draw one point a bin, with the interval of the share where there is one."""
    told = [one["told"] for one in bins]
    true = [one["true"]["value"] for one in bins]
    axes.plot(told, true, marker="o", markersize=4, color=colour, linewidth=1.6, label=name)
    if with_intervals:
        known = [one for one in bins if one["true"]["low"] is not None]
        axes.vlines(
            [one["told"] for one in known],
            [one["true"]["low"] for one in known],
            [one["true"]["high"] for one in known],
            color=colour, alpha=0.35, linewidth=2.5,
        )  # fmt: skip


def decision_chart(content: Mapping[str, Any]) -> str | None:
    """Return the net benefit of acting on the answers, as a data: URL; None where there is nothing to draw.

    Args:
        content: `decision_curve` of one split of `scores.json`.
    """
    curve = content.get("overall")
    if not curve:
        return None
    at, positive = curve["at"], content.get("positive")

    def draw(axes: Any) -> None:
        model = [one["value"] for one in curve["model"]]
        known = [place for place, one in enumerate(curve["model"]) if one["low"] is not None]
        axes.fill_between(
            [at[place] for place in known],
            [curve["model"][place]["low"] for place in known],
            [curve["model"][place]["high"] for place in known],
            color=COLOURS[0], alpha=0.18, linewidth=0,
        )  # fmt: skip
        axes.plot(at, model, color=COLOURS[0], linewidth=1.8, label="the model")
        everybody = [one["value"] for one in curve["all"]]
        axes.plot(at, everybody, color=COLOURS[1], linewidth=1.4, linestyle="--", label="treat all")
        axes.axhline(0, color=INK, linewidth=1.2, linestyle=":", label="treat none")
        top = max([0.05, everybody[0], *(one["high"] or one["value"] for one in curve["model"])])
        axes.set_xlim(0, 1)
        # Treating all falls without end: what lies far below treating none needs no room.
        axes.set_ylim(-0.35 * top, 1.12 * top)

    return _clinical_chart(
        draw, _wrapped(f"threshold probability of {positive}"), "net benefit a picture"
    )


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(str(text), 50)[:2])


def _clinical_chart(draw: Any, across: str, up: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # The salt makes the ids in the SVG a function of its content, not of chance.
    with matplotlib.rc_context({"svg.hashsalt": "kerastl", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.0, 4.0), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        style(axes)
        axes.set_xlabel(across, color=INK, parse_math=False)
        axes.set_ylabel(up, color=INK)
        return svg_url(figure)
