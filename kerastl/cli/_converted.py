"""What a converted export tells on the screen: what it takes, how large it is, and what quantizing cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCORES = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}


def converted_lines(folder: Path) -> Iterator[str]:
    """Yield lines about an export that was converted; none about others."""
    from kerastl.export.manifest import read_manifest

    manifest = read_manifest(folder)
    told = manifest.conversion
    if told is None:
        return
    size = manifest.image_size_px
    yield (
        f"It takes decoded pictures: {told['input']['name']} [n, {size}, {size}, 3] float32, RGB, 0 to 255. Decoding, "
        "window and resizing are the caller's; kerastl predict does them."
    )
    threshold = manifest.how.threshold
    if threshold is not None:
        yield (
            f"It answers probabilities only: that {threshold.positive!r} is predicted by its threshold is for the caller "
            "to do, see manifest.json."
        )
    yield f"{told['bytes']:,} bytes" + (
        f", {told['float32_bytes']:,} in float32" if told.get("quantize") else ""
    )
    if told.get("quantize"):
        yield from _cost(told)


def _cost(told: dict[str, Any]) -> Iterator[str]:
    calibration = told["calibration"]
    if calibration is not None:
        classes = ", ".join(f"{name} {count}" for name, count in calibration["classes"].items())
        yield f"Calibrated on {calibration['pictures']} training pictures: {classes}"
    if not told["cost"]:
        yield "What quantizing cost was not measured: no test picture of the run can be opened."
    for split, cost in told["cost"].items():
        scores = "; ".join(
            f"{word} {_figure(cost[name]['before'])} to {_figure(cost[name]['after'])}"
            for name, word in SCORES.items()
        )
        yield (
            f"{told['quantize']} on {cost['pictures']:,} pictures of {split}: {scores}; labels that differ: "
            f"{cost['labels_differ']}; largest difference of a probability: {cost['largest_difference']:.2g}"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
