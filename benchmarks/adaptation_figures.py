"""Summaries and tables of the adaptation benchmark: gaps, regret and counts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

MIN_GAP = 0.01
SOURCE_ONLY = "source_only"
Result = Mapping[str, Any]
"""Result of a tool in one case: `values` by method, and `chosen`."""


def gap_closed(result: Result) -> float | None:
    """Return the fraction of the gap between source only and the best method that the selection closes. None if the gap is below `MIN_GAP`."""
    values = result["values"]
    gap = max(values.values()) - values[SOURCE_ONLY]
    if gap < MIN_GAP:
        return None
    return float((values[result["chosen"]] - values[SOURCE_ONLY]) / gap)


def regret(result: Result) -> float:
    """Return the difference between the best method by labels and the selected method."""
    values = result["values"]
    return float(max(values.values()) - values[result["chosen"]])


def is_below_source_only(result: Result) -> bool:
    """Return whether the value of the selected method is below source only."""
    return bool(result["values"][result["chosen"]] < result["values"][SOURCE_ONLY])


def is_worse(result: Result) -> bool | None:
    """Return whether the selected method is worse than source only beyond its interval. None if the tool reports no interval."""
    return result["outcome"] == "worse" if "outcome" in result else None


def summarize(results: Sequence[Result]) -> dict[str, Any]:
    """Summarize the results of one tool over all cases.

    Returns:
        Medians of `choice`, `source_only`, `oracle`, `regret` and `closed` (None if no case has a gap), and counts: `cases`,
        `lower`, `worse` (None if the tool reports no interval), `chosen`, and for kerastl `verdicts` and `guards`.
    """
    closed = [part for part in map(gap_closed, results) if part is not None]
    worse = [is_worse(result) for result in results]
    totals = {
        "cases": len(results),
        "choice": statistics.median(result["values"][result["chosen"]] for result in results),
        "source_only": statistics.median(result["values"][SOURCE_ONLY] for result in results),
        "oracle": statistics.median(max(result["values"].values()) for result in results),
        "regret": statistics.median(map(regret, results)),
        "closed": statistics.median(closed) if closed else None,
        "lower": sum(map(is_below_source_only, results)),
        "worse": None if None in worse else sum(map(bool, worse)),
        "chosen": dict(Counter(result["chosen"] for result in results)),
    }
    if all("verdict" in result for result in results):
        totals["verdicts"] = dict(Counter(result["verdict"] for result in results))
        totals["guards"] = dict(Counter(guard for result in results for guard in result["guards"]))
    return totals


def best_single(results: Sequence[Result]) -> tuple[str, float | None]:
    """Return the method with the greatest median of the gap closed, if selected in all cases, and this median.

    If no case has a gap, return the first method by name.
    """
    closed_by_method: dict[str, float | None] = {}
    for name in sorted(results[0]["values"]):
        parts = [gap_closed({**result, "chosen": name}) for result in results]
        known = [part for part in parts if part is not None]
        closed_by_method[name] = statistics.median(known) if known else None
    best = max(
        closed_by_method, key=lambda name: -1.0 if closed_by_method[name] is None else closed_by_method[name]
    )
    return best, closed_by_method[best]


def format_range(values: Sequence[float]) -> str:
    """Return the median, with minimum and maximum in parentheses."""
    middle = f"{statistics.median(values):.3f}"
    return f"{middle} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else middle


def methods_table(task: str, tools: Mapping[str, Sequence[Result]]) -> list[str]:
    """Return a Markdown table of one task with a row per method and a column per tool. The last rows are the selected and the best method."""
    names: list[str] = []
    for results in tools.values():
        names += [name for name in results[0]["values"] if name not in names]
    lines = [f"| {task} | " + " | ".join(tools) + " |", "|---|" + "---|" * len(tools)]
    for name in sorted(names, key=lambda name: (name != SOURCE_ONLY, name)):
        cells = [
            format_range([result["values"][name] for result in results])
            if name in results[0]["values"]
            else ""
            for results in tools.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    chosen = [
        format_range([result["values"][result["chosen"]] for result in all_]) for all_ in tools.values()
    ]
    best = [format_range([max(result["values"].values()) for result in all_]) for all_ in tools.values()]
    lines.append("| **selected without labels** | " + " | ".join(chosen) + " |")
    return [*lines, "| best by labels | " + " | ".join(best) + " |"]


def choices_table(title: str, tools: Mapping[str, Sequence[Result]]) -> list[str]:
    """Return a Markdown table of the quality of the selection of each tool."""
    lines = [
        f"| {title} | cases | gap closed, median | regret, median | below source only | worse beyond its interval | selected |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, results in tools.items():
        totals = summarize(results)
        closed = "no gap" if totals["closed"] is None else f"{totals['closed']:.2f}"
        worse = "no interval" if totals["worse"] is None else f"{totals['worse']}"
        chosen = ", ".join(f"{method} {count}" for method, count in totals["chosen"].items())
        lines.append(
            f"| {name} | {totals['cases']} | {closed} | {totals['regret']:.3f} | {totals['lower']} | {worse} | {chosen} |"
        )
    return lines
