"""The points of a curve over the number of labels, and what they come to over the seeds. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

FINE_TUNE, ADAPT_THEN_FINE_TUNE, SCRATCH = WAYS = ("fine_tune", "adapt_then_fine_tune", "scratch")
"""The ways of getting a model for B."""
UNCHANGED, WITHOUT_LABELS = FINE_TUNE, ADAPT_THEN_FINE_TUNE
"""The ways whose points without any label are A's own model, and the model adapted without labels."""
KEPT = "source_only"
"""What is chosen where nothing is to be learnt from B."""
FEWEST_SEEDS = 2
Outcome = Literal["above", "below", "cannot tell"]


@dataclass(frozen=True)
class Point:
    """What one run came to on B's test.

    Args:
        way: of getting a model for B.
        groups_per_class: labelled groups of each class; 0: no label of B.
        groups, pictures: labelled in all.
        seed: of the run.
        value, low, high: of the metric, with the interval of patients; None where there is none.
        reason: why one of them is None; empty where none is.
        run: its folder, relative to the curve's.
    """

    way: str
    groups_per_class: int
    groups: int
    pictures: int
    seed: int
    value: float | None
    low: float | None
    high: float | None
    reason: str
    run: str


@dataclass(frozen=True)
class Level:
    """Points that differ in the seed alone.

    Args:
        values: at least one, ascending.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle over the seeds."""
        return float(median(self.values))

    @property
    def least(self) -> float:
        """The lowest."""
        return self.values[0]

    @property
    def greatest(self) -> float:
        """The highest."""
        return self.values[-1]

    @property
    def spread(self) -> float:
        """From the lowest to the highest."""
        return self.greatest - self.least

    @property
    def text(self) -> str:
        """`0.812 (0.790 to 0.841)`, or the value alone where there is one seed."""
        if len(self.values) < FEWEST_SEEDS:
            return f"{self.median:.3f}"
        return f"{self.median:.3f} ({self.least:.3f} to {self.greatest:.3f})"


def compared(first: Level, second: Level) -> Outcome:
    """Tell whether `first` lies above or below `second`: in all seeds of both, or it cannot be told."""
    if min(len(first.values), len(second.values)) < FEWEST_SEEDS:
        return "cannot tell"
    if first.least > second.greatest:
        return "above"
    return "below" if first.greatest < second.least else "cannot tell"


@dataclass(frozen=True)
class Tested:
    """What the models of one seed were judged on, and how that of A was adapted without labels.

    Args:
        seed: of the runs.
        groups, pictures: of B's test.
        adapted_by: the method that was chosen, or taken.
        verdict: of the choice; empty where the recipe names no ways to choose from.
    """

    seed: int
    groups: int
    pictures: int
    adapted_by: str
    verdict: str

    @property
    def kept(self) -> bool:
        """Whether A's model was kept as it is: nothing was learnt from B."""
        return self.adapted_by == KEPT

    @property
    def adaptation(self) -> str:
        """What it was adapted by, for people."""
        if self.kept:
            return f"A's model was kept ({KEPT})"
        return f"{self.adapted_by} {'chosen' if self.verdict else 'taken, not chosen'}"


@dataclass(frozen=True)
class Curve:
    """Score at B by the number of labelled patients.

    Args:
        recipe: its name.
        network: in words.
        metric: `group_auc` or `balanced_accuracy`.
        unit: what is counted: `patient` or `picture`.
        ways: in the order of the legend.
        labels: labelled groups per class, ascending, 0 first.
        seeds: ascending.
        points: of every run.
        tested: one a seed.
        notes: one line each, for the reader.
    """

    recipe: str
    network: str
    metric: str
    unit: str
    ways: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    tested: tuple[Tested, ...]
    notes: tuple[str, ...]

    @property
    def metric_words(self) -> str:
        """The metric, for people."""
        return f"AUC of {self.unit}s" if self.metric == "group_auc" else "balanced accuracy"

    @property
    def chance(self) -> float | None:
        """The score of guessing, where that does not depend on the classes."""
        return 0.5 if self.metric == "group_auc" else None

    def level(self, way: str, groups_per_class: int) -> Level | None:
        """Return what a way came to with so many labels; None where no run of it ended with a value."""
        values = [
            one.value
            for one in self.points
            if (one.way, one.groups_per_class) == (way, groups_per_class) and one.value is not None
        ]
        return Level(tuple(sorted(values))) if values else None

    def levels(self, way: str) -> list[tuple[int, Level]]:
        """Return all of a way, by the number of labels."""
        found = ((number, self.level(way, number)) for number in self.labels)
        return [(number, level) for number, level in found if level is not None]

    def count(self, number: int) -> str:
        """Return `1 patient`, `2 patients`."""
        return f"{number} {self.unit}{'s' if number != 1 else ''}"

    def to_json(self, reading: Sequence[str]) -> dict[str, Any]:
        """Return the content of `curve.json`."""
        return asdict(self) | {"reading": list(reading)}
