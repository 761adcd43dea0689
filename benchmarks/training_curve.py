"""Table and plot of the training duration by number of images or epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

POINTS = {"images": (1_000, 10_000, 100_000), "epochs": (1, 3, 10, 30)}
QUICK = {"images": (50, 100), "epochs": (1, 3)}

Rows = Mapping[str, Mapping[int, float]]
"""`{peer: {images or epochs: seconds}}`."""


def print_curve(axis: str, rows: Rows) -> None:
    """Print a Markdown table with a row per peer and a column per point. The last column is the slope between the last two points.

    Args:
        axis: `images` or `epochs`.
        rows: Seconds by peer and point. Missing points are allowed.
    """
    points = sorted({point for row in rows.values() for point in row})
    each = {"images": "1,000 more", "epochs": "one more epoch"}[axis]
    print("| seconds | " + " | ".join(f"{point:,} {axis}" for point in points) + f" | {each} |")
    print("|---" * (len(points) + 2) + "|")
    for name, row in rows.items():
        cells = [f"{row[point]:.1f}" if point in row else "-" for point in points]
        print(f"| {name} | " + " | ".join(cells) + f" | {_slope(axis, row):.2f} |", flush=True)


def _slope(axis: str, row: Mapping[int, float]) -> float:
    """Return the seconds per 1,000 more images, or per additional epoch, between the last two points."""
    points = sorted(row)
    if len(points) < 2:
        return float("nan")
    before, last = points[-2:]
    return (row[last] - row[before]) / (last - before) * (1000 if axis == "images" else 1)


def draw_curve(axis: str, rows: Rows, path: Path, *, title: str) -> None:
    """Plot seconds over images or epochs on logarithmic axes, and write a PNG file."""
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
    """Return the points from an option such as `10,100`, or the default."""
    if words:
        return sorted(map(int, words.split(",")))
    return (QUICK if quick else POINTS)[axis]
