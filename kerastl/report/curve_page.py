"""`report.html` of a curve: one file that loads nothing; no path and no patient of the data is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerastl.report.curve_chart import WORDS, curve_as_url
from kerastl.report.curve_points import SCRATCH, UNCHANGED, WITHOUT_LABELS, Curve, Level, Point
from kerastl.report.curve_words import how_adapted
from kerastl.report.page import PAGE, environment
from kerastl.runs import write_atomic


def write_curve_page(folder: Path, curve: Curve, reading: Sequence[str]) -> Path:
    """Write the page of a curve; an earlier one is replaced.

    Args:
        folder: of the curve.
        curve: its points.
        reading: what it means, one sentence a line.

    Returns:
        `report.html`.
    """
    write_atomic(folder / PAGE, render_curve(curve, reading))
    return folder / PAGE


def render_curve(curve: Curve, reading: Sequence[str]) -> str:
    """Return the page as HTML; every name in it is escaped."""
    page: str = (
        environment()
        .get_template("curve.html")
        .render(
            curve=curve,
            reading=reading,
            picture=curve_as_url(curve),
            cards=_cards(curve),
            ways=[(way, WORDS[way]) for way in curve.ways],
            rows=[
                (number, [curve.level(way, number) for way in curve.ways])
                for number in curve.labels
            ],
            points=[(point, _point_figure(point)) for point in curve.points],
        )
    )
    return page


def _cards(curve: Curve) -> list[tuple[str, Level | None]]:
    """Return the figures that are looked for first."""
    last = curve.labels[-1]
    number = f"{curve.count(last)} a class"
    return [
        ("A's model unchanged", curve.level(UNCHANGED, 0)),
        (f"without labels ({how_adapted(curve)})", curve.level(WITHOUT_LABELS, 0)),
        (f"fine-tuned on {number}", curve.level(UNCHANGED, last)),
        (f"from scratch on {number}", curve.level(SCRATCH, last)),
    ]


def _point_figure(point: Point) -> dict[str, Any]:
    if point.value is None:
        return {"value": "\N{EN DASH}", "interval": point.reason}
    has_interval = point.low is not None and point.high is not None
    interval = f"{point.low:.3f} to {point.high:.3f}" if has_interval else point.reason
    return {"value": f"{point.value:.3f}", "interval": interval}
