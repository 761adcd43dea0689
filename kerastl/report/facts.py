"""The facts of a run as text, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from kerastl.console import Facts
from kerastl.errors import pluralize
from kerastl.report.figures import render
from kerastl.report.tables import column_title
from kerastl.runs import Adaptation, Estimate, PhaseSummary, Summary

KINDS = {
    "jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "webp": "WebP", "heic": "HEIC", "avif": "AVIF",
    **{f"animated {kind.lower()}": f"animated {kind} (first frame)" for kind in ("GIF", "WebP", "PNG", "AVIF")},
    "animated heic": "HEIC with several images (main image)",
}  # fmt: skip
MAX_NAME_LENGTH = 60


def printable(name: str) -> str:
    """Return a name from the data without control characters, shortened to fit on one line."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 3]}..."


def format_metric(metric: Estimate | None) -> str:
    """Return `0.912 (0.871 to 0.948)`, or a dash if there is no value."""
    return (metric and metric.text) or "-"


def format_monitor(value: float) -> str:
    """Return a value of the monitored metric, e.g. `0.063`, with two digits if it is small, e.g. `1.4e-05`."""
    return f"{value:.2g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


FILTERS: dict[str, Any] = {
    "by_count": lambda counts: sorted(counts.items(), key=lambda item: (not item[0], -item[1], item[0])),
    "decimal": "{:.3f}".format, "thousands": "{:,}".format, "metric": format_metric, "monitor": format_monitor, "pluralize": pluralize,
    "printable": printable, "title_of": column_title, "plain": lambda split: split.removeprefix("target_").replace("unlabelled", "without labels"),
}  # fmt: skip


def summary_facts(
    summary: Summary,
    *sections: Literal["data", "model", "result"],
    adaptation: Adaptation | None = None,
    planned: Sequence[tuple[Any, int]] = (),
    phases: Collection[PhaseSummary] = (),
) -> Facts:
    """Return facts of a run.

    Args:
        summary: The summary of the run.
        *sections: `data`: what was read; `model`: the backbone; `result`: the weights that were kept, and their score.
        adaptation: The selection and the effect of the adaptation, if the run has one.
        planned: Each phase that will be trained, with the number of its trainable parameters.
        phases: The phases whose outcomes are included.
    """
    text = render(
        "facts.txt.jinja", filters=FILTERS, summary=summary, sections=sections, adaptation=adaptation,
        planned=planned, phases=phases, kinds=KINDS,
    )  # fmt: skip
    lines = [line.partition("\t") for line in text.splitlines()]
    return [(title, content) for title, _, content in lines]
