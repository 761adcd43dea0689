"""What is told of the cases of the benchmark of adaptation: gaps, regret, tables. Nothing is run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

LEAST_GAP = 0.01
PLAIN = "source_only"
Answer = Mapping[str, Any]
"""What a tool answered in one case: `values` by method, and `chosen`."""


def gap_closed(answer: Answer) -> float | None:
    """Return the part of the gap between source only and the best method that the choice closes; None where there is no gap of a point."""
    values = answer["values"]
    gap = max(values.values()) - values[PLAIN]
    if gap < LEAST_GAP:
        return None
    return float((values[answer["chosen"]] - values[PLAIN]) / gap)


def regret(answer: Answer) -> float:
    """Return by how much the best method, had labels been there, beats the choice."""
    values = answer["values"]
    return float(max(values.values()) - values[answer["chosen"]])


def is_lower(answer: Answer) -> bool:
    """Tell whether the choice is below source only, by however little."""
    return bool(answer["values"][answer["chosen"]] < answer["values"][PLAIN])


def is_worse(answer: Answer) -> bool | None:
    """Tell whether the choice is worse than source only beyond its interval; None where the tool gives no interval."""
    return answer["outcome"] == "worse" if "outcome" in answer else None


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what one tool came to over cases.

    Returns:
        Medians of `choice`, `source_only`, `oracle`, `regret` and `closed` (None: no case has a gap), and counts: `cases`,
        `lower`, `worse` (None: the tool gives no interval), `chosen`, and for ours `verdicts` and `guards`.
    """
    closed = [part for part in map(gap_closed, answers) if part is not None]
    worse = [is_worse(one) for one in answers]
    told = {
        "cases": len(answers),
        "choice": statistics.median(one["values"][one["chosen"]] for one in answers),
        "source_only": statistics.median(one["values"][PLAIN] for one in answers),
        "oracle": statistics.median(max(one["values"].values()) for one in answers),
        "regret": statistics.median(map(regret, answers)),
        "closed": statistics.median(closed) if closed else None,
        "lower": sum(map(is_lower, answers)),
        "worse": None if None in worse else sum(map(bool, worse)),
        "chosen": dict(Counter(one["chosen"] for one in answers)),
    }
    if all("verdict" in one for one in answers):
        told["verdicts"] = dict(Counter(one["verdict"] for one in answers))
        told["guards"] = dict(Counter(guard for one in answers for guard in one["guards"]))
    return told


def best_single(answers: Sequence[Answer]) -> tuple[str, float | None]:
    """Return the method whose median gap closed over cases is the greatest, as if it had been chosen in all, and that part.

    The first of them all by name where no case has a gap.
    """
    found: dict[str, float | None] = {}
    for name in sorted(answers[0]["values"]):
        parts = [gap_closed({**one, "chosen": name}) for one in answers]
        known = [part for part in parts if part is not None]
        found[name] = statistics.median(known) if known else None
    best = max(found, key=lambda name: -1.0 if found[name] is None else found[name])
    return best, found[best]


def spread(values: Sequence[float]) -> str:
    """Return the median, and in brackets the least and the greatest."""
    middle = f"{statistics.median(values):.3f}"
    return f"{middle} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else middle


def methods_table(task: str, tools: Mapping[str, Sequence[Answer]]) -> list[str]:
    """Return a Markdown table of a task: a row a method, a column a tool; the choice and the best of each last."""
    names: list[str] = []
    for answers in tools.values():
        names += [name for name in answers[0]["values"] if name not in names]
    lines = [f"| {task} | " + " | ".join(tools) + " |", "|---|" + "---|" * len(tools)]
    for name in sorted(names, key=lambda name: (name != PLAIN, name)):
        cells = [
            spread([one["values"][name] for one in answers]) if name in answers[0]["values"] else ""
            for answers in tools.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    chosen = [spread([one["values"][one["chosen"]] for one in all_]) for all_ in tools.values()]
    best = [spread([max(one["values"].values()) for one in all_]) for all_ in tools.values()]
    lines.append("| **chosen without labels** | " + " | ".join(chosen) + " |")
    return [*lines, "| the best, by labels | " + " | ".join(best) + " |"]


def choices_table(title: str, tools: Mapping[str, Sequence[Answer]]) -> list[str]:
    """Return a Markdown table of how well each tool chooses."""
    lines = [
        f"| {title} | cases | gap closed, median | regret, median | below source only | worse beyond its interval | chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, answers in tools.items():
        told = summary(answers)
        closed = "no gap" if told["closed"] is None else f"{told['closed']:.2f}"
        worse = "no interval" if told["worse"] is None else f"{told['worse']}"
        chosen = ", ".join(f"{one} {count}" for one, count in told["chosen"].items())
        lines.append(
            f"| {name} | {told['cases']} | {closed} | {told['regret']:.3f} | {told['lower']} | {worse} | {chosen} |"
        )
    return lines
