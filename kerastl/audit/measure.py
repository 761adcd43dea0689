"""What one operation at one strength does to held-out pictures, by judges that know more or less of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kerastl.audit.inference import Excess, excess
from kerastl.audit.judges import Judge, Jury
from kerastl.audit.neighbours import Neighbourhood

Array = np.ndarray[Any, Any]

TAKEN_MARGIN = 0.05
"""Share of a class's pictures that must be taken for another class, beyond those that are anyway."""
FINER_MARGIN = 0.01
"""The same for the finer questions of a second look."""
SAME = 1e-6
"""Features nearer than this to the untouched ones, relative to their size, are unchanged."""
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Pair:
    """Pictures of one class that are taken for another.

    Args:
        source, target: classes.
        untouched: share of the source's untouched pictures taken for the target, 0 to 1.
        naive: rise of that share for changed pictures, by judges that saw untouched pictures only.
        taught: the same by judges that learnt the operation on every class.
        taught_again: as `taught` on fresh draws; None: not asked.
        taught_some: the same of both classes taken for each other, tested against no rise; None: not asked.
        other_taught: by judges that learnt it on every class but the target; None: not asked.
        among: rise of the share that lies among untouched pictures of the target; None: not asked.
        among_many: the same figure, tested against the larger margin; None: not asked.
        still_told: how well taught judges tell changed pictures of the two classes apart, as a share of how
            well naive ones tell untouched pictures: 1 as well, 0 not at all.
        still_told_upper: one-sided 95 % bound above it.
    """

    source: int
    target: int
    untouched: float
    naive: Excess
    taught: Excess
    still_told: float
    still_told_upper: float
    taught_again: Excess | None = None
    taught_some: Excess | None = None
    other_taught: Excess | None = None
    among: Excess | None = None
    among_many: Excess | None = None


CLASS_FIGURES = (
    "agreement",
    "agreement_changed",
    "agreement_learnt",
    "agreement_learnt_untouched",
    "margin_lost",
)
"""Of each class: share judged right untouched; changed; changed, by judges that learnt the operation; untouched, by
those; and the fall of the margin, the log odds of the right class against the likeliest other one."""


@dataclass(frozen=True)
class Measurement:
    """One trial.

    Args:
        unchanged: the operation leaves these pictures as they are.
        classes: for each class, `CLASS_FIGURES` as (value, low, high), a 95 % interval; low and high are None for
            too few groups.
        pairs: all ordered pairs of classes.
    """

    unchanged: bool
    classes: list[dict[str, tuple[float, float | None, float | None]]]
    pairs: list[Pair]


@dataclass
class Court:
    """The judges of one data set.

    Args:
        jury: untouched pictures.
        weights: `[resamples, n]`, how often each picture is drawn in each bootstrap resample.
        groups_of_class: number of groups by class.
    """

    jury: Jury
    weights: Array
    groups_of_class: Sequence[int]
    fewest_groups: int
    _judges: list[Judge] = field(init=False)
    _naive: Array = field(init=False)

    def __post_init__(self) -> None:
        self._judges = self.jury.train([], [])
        self._naive = self.jury.ask(self._judges, self.jury.features)

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """Distances to the untouched pictures."""
        return Neighbourhood(self.jury)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.groups_of_class)

    @property
    def untouched(self) -> Array:
        """Answers of the naive judges for untouched pictures: `[n]` int64."""
        answers: Array = self._naive.argmax(axis=1)
        return answers

    def confused(self, source: int, target: int) -> float:
        """Return the share of one class's untouched pictures that is taken for another."""
        rows = self.jury.labels == source
        return float((self.untouched[rows] == target).mean())

    def told_apart(self, one: int, other: int) -> float:
        """Return how well two classes are told apart untouched: 1 always, 0 by chance or worse."""
        return max(0.0, 1.0 - self.confused(one, other) - self.confused(other, one))

    def measure(self, draws: Sequence[Array]) -> Measurement:
        """Judge changed pictures.

        Args:
            draws: `[n, width]` each, the features of the jury's pictures, changed by other random numbers in each.
        """
        jury = self.jury
        size = float(np.abs(jury.features).max()) or 1.0
        if all(np.abs(one - jury.features).max() <= SAME * size for one in draws):
            return Measurement(True, [], [])
        naive = np.stack([jury.ask(self._judges, one) for one in draws])
        taught = jury.train(draws, range(self.classes))
        learnt = np.stack([jury.ask(taught, one) for one in draws])
        again = jury.ask(taught, jury.features)
        return Measurement(
            False, self._class_figures(naive, learnt, again), self._pairs(naive, learnt)
        )

    def _class_figures(
        self, naive: Array, learnt: Array, again: Array
    ) -> list[dict[str, tuple[float, float | None, float | None]]]:
        labels = self.jury.labels

        def right(answers: Array) -> Array:
            same: Array = (answers.argmax(axis=-1) == labels).astype(np.float64)
            return same

        columns = np.stack(
            [
                right(self._naive), right(naive).mean(axis=0), right(learnt).mean(axis=0), right(again),
                _margins(self._naive, labels) - np.mean([_margins(one, labels) for one in naive], axis=0),
            ],
            axis=1,
        )  # fmt: skip
        found = []
        for one in range(self.classes):
            rows = labels == one
            values = columns[rows].mean(axis=0)
            lows: Sequence[float | None] = [None] * len(values)
            highs = lows
            if self.groups_of_class[one] >= self.fewest_groups:
                weights = self.weights[:, rows]
                drawn = weights.sum(axis=1)
                means = (weights @ columns[rows])[drawn > 0] / drawn[drawn > 0, None]
                lows, highs = (
                    [float(edge) for edge in row]
                    for row in np.percentile(means, [2.5, 97.5], axis=0)
                )
            found.append(
                {
                    name: (float(value), low, high)
                    for name, value, low, high in zip(
                        CLASS_FIGURES, values, lows, highs, strict=True
                    )
                }
            )
        return found

    def _pairs(self, naive: Array, learnt: Array) -> list[Pair]:
        by_naive, by_taught = naive.argmax(axis=-1), learnt.argmax(axis=-1)
        pairs = []
        for source in range(self.classes):
            for target in range(self.classes):
                if source == target:
                    continue
                told = self._still_told(by_taught, source, target)
                pairs.append(
                    Pair(
                        source, target, self.confused(source, target),
                        self.rise(by_naive, self.untouched, source, target, TAKEN_MARGIN),
                        self.rise(by_taught, self.untouched, source, target, TAKEN_MARGIN),
                        *told,
                    )
                )  # fmt: skip
        return pairs

    def rise(
        self, changed: Array, before: Array, source: int, target: int, margin: float
    ) -> Excess:
        """Test how much more often a class's pictures are given another class than before."""
        rows = self.jury.labels == source
        moved = (changed[:, rows] == target).mean(axis=0) - (before[rows] == target)
        return excess(moved, self.jury.groups[rows], margin=margin)

    def rise_either_way(self, changed: Array, one: int, other: int) -> Excess:
        """Test how much more often pictures of two classes are given the other one of the two than untouched.

        What two classes share a taught judge gives to either, so both ways count.
        """
        labels = self.jury.labels
        rows = (labels == one) | (labels == other)
        opposite = np.where(labels[rows] == one, other, one)
        moved = (changed[:, rows] == opposite).mean(axis=0) - (self.untouched[rows] == opposite)
        return excess(moved, self.jury.groups[rows], margin=0.0)

    def _still_told(self, answers: Array, one: int, other: int) -> tuple[float, float]:
        before = self.told_apart(one, other)
        if before <= 0:
            return 0.0, 1.0
        wrong, variance = 0.0, 0.0
        for source, target in ((one, other), (other, one)):
            rows = self.jury.labels == source
            share = excess(
                (answers[:, rows] == target).mean(axis=0),
                self.jury.groups[rows],
                margin=TAKEN_MARGIN,
            )
            wrong += share.value
            variance += (share.upper - share.value) ** 2
        return (1 - wrong) / before, min(1.0, (1 - wrong + variance**0.5) / before)


def _margins(probabilities: Array, labels: Array) -> Array:
    """Return the log odds of the right class against the likeliest other one: `[n]`."""
    logs = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    rows = np.arange(len(labels))
    right = logs[rows, labels]
    logs[rows, labels] = -np.inf
    found: Array = right - logs.max(axis=1)
    return found
