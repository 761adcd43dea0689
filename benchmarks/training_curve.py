"""How the seconds of a training grow with its images or its epochs: a table and an image of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

POINTS = {"images": (1_000, 10_000, 100_000), "epochs": (1, 3, 10, 30)}
QUICK = {"images": (50, 100), "epochs": (1, 3)}

Rows = Mapping[str, Mapping[int, float]]
"""`{peer: {images or epochs: seconds}}`."""


def print_curve(axis: str, rows: Rows) -> None:
    """Print a table in Markdown: a peer a row, a point a column, and what the last stretch cost.

    Args:
        axis: `images` or `epochs`.
        rows: seconds; a point that a peer did not reach is absent.
    """
    points = sorted({point for row in rows.values() for point in row})
    each = {"images": "1,000 more", "epochs": "one more"}[axis]
    print("| seconds | " + " | ".join(f"{point:,} {axis}" for point in points) + f" | {each} |")
    print("|---" * (len(points) + 2) + "|")
    for name, row in rows.items():
        cells = [f"{row[point]:.1f}" if point in row else "-" for point in points]
        print(f"| {name} | " + " | ".join(cells) + f" | {_slope(axis, row):.2f} |", flush=True)


def _slope(axis: str, row: Mapping[int, float]) -> float:
    """Return the seconds of 1,000 more images, or of one more epoch, between the last two points."""
    points = sorted(row)
    if len(points) < 2:
        return float("nan")
    before, last = points[-2:]
    return (row[last] - row[before]) / (last - before) * (1000 if axis == "images" else 1)


def draw_curve(axis: str, rows: Rows, path: Path, *, title: str) -> None:
    """Draw seconds over images or epochs, both in powers of ten, and write it as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, row in rows.items():
        points = sorted(row)
        axes.plot(points, [row[point] for point in points], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds of training", title=title)
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse_points(axis: str, words: str, *, quick: bool) -> Sequence[int]:
    """Return the points that were asked for, `10,100`, or the usual ones."""
    if words:
        return sorted(map(int, words.split(",")))
    return (QUICK if quick else POINTS)[axis]
