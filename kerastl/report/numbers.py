"""From the content of `scores.json` to the rows of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEADLINES = ("group_auc", "balanced_accuracy", "auc", "accuracy")
SPLIT_ORDER = ("target_test", "test", "target_val", "val", "train")
WORDS = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "ece": "ECE",
    "f1": "F1",
    "groups": "groups",
    "group_auc": "AUC by group",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
    "precision": "precision",
    "recall": "recall",
    "support": "pictures",
}
UNBOUNDED = {"log_loss", "support", "pictures", "groups"}


@dataclass(frozen=True)
class Figure:
    """One number with its interval.

    Args:
        value, low, high: None where not known.
        reason: why there is no value or interval; may be empty.
        has_bar: whether it lies between 0 and 1, so that it can be drawn.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str
    has_bar: bool

    @property
    def text(self) -> str:
        """`0.912`, `600`, or a dash."""
        if self.value is None:
            return "\N{EN DASH}"
        if float(self.value).is_integer() and not self.has_bar:
            return f"{self.value:,.0f}"
        return f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        """`0.871 to 0.948`, or nothing."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.3f} to {self.high:.3f}"

    @property
    def left_percent(self) -> float:
        """Where the interval begins on a scale from 0 to 1."""
        return round(100 * min(max(self.low or 0.0, 0.0), 1.0), 1)

    @property
    def width_percent(self) -> float:
        """How long the interval is on that scale."""
        end = 100 * min(max(self.high or 0.0, 0.0), 1.0)
        return round(max(end - self.left_percent, 0.0), 1)

    @property
    def value_percent(self) -> float:
        """Where the value lies on that scale."""
        return round(100 * min(max(self.value or 0.0, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Args:
        columns: names of metrics, in words.
        rows: `(name, figures)`; a figure that a row lacks is a dash.
    """

    columns: list[str]
    rows: list[tuple[str, list[Figure]]]


def figure_of(metrics: Mapping[str, Any], name: str) -> Figure:
    """Return one metric of an M object; a dash where it is missing."""
    found = metrics.get(name)
    entry = found if isinstance(found, Mapping) else {}
    value, low, high = (_float(entry.get(key)) for key in ("value", "low", "high"))
    return Figure(value, low, high, str(entry.get("reason") or ""), _has_bar(name))


def _has_bar(name: str) -> bool:
    return name not in UNBOUNDED and not name.endswith("_difference")


def _float(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def words_of(name: str) -> str:
    """Return a metric's name as people write it."""
    return WORDS.get(name, name.replace("_", " "))


def table_of(rows: Mapping[str, Any]) -> Table:
    """Return a table with a row a name and a column for each metric that any of them has."""
    usable = {name: metrics for name, metrics in rows.items() if isinstance(metrics, Mapping)}
    found = list(dict.fromkeys(metric for metrics in usable.values() for metric in metrics))
    order = [name for name in HEADLINES if name in found]
    order += [name for name in found if name not in order]
    figures = [
        (str(name), [figure_of(metrics, metric) for metric in order])
        for name, metrics in usable.items()
    ]
    return Table([words_of(name) for name in order], figures)


def judged_splits(scores: Mapping[str, Any]) -> list[str]:
    """Return the splits that have scores, the most telling first."""
    found = [name for name, one in scores.items() if isinstance(one, Mapping) and "overall" in one]
    known = [name for name in SPLIT_ORDER if name in found]
    return known + [name for name in found if name not in known]


def headline_of(metrics: Mapping[str, Any]) -> tuple[str, Figure] | None:
    """Return the metric that says most, in words, with its figure."""
    for name in HEADLINES:
        figure = figure_of(metrics, name)
        if figure.value is not None:
            return words_of(name), figure
    return None


def confusion_rows(split: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return `(true class, [(count, share of the row), ...])`; none when there is no such table."""
    names: Sequence[Any] = split.get("class_names") or []
    counts: Sequence[Any] = split.get("confusion") or []
    rows = []
    for name, row in zip(names, counts, strict=False):
        total = sum(row) or 1
        rows.append((str(name), [(int(count), round(count / total, 3)) for count in row]))
    return rows
