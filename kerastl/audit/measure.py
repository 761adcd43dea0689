"""What one operation at one strength does to held-out images, by judges that know more or less of it."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kerastl import registry

Array = np.ndarray[Any, Any]

FOLDS = 5
WEAKNESS = 30.0
"""scikit-learn's C, the inverse of the L2 penalty, on features whose parts each have variance 1 in total."""
COMPONENTS = 160
"""Principal components that a judge sees at most; a few hundred images fill no more."""
MOST_STEPS = 300
"""Enough to converge. Stopped at 100 steps, judges that learnt a harmless mirror took 15 % of boots for sneakers that
they tell apart when trained to the end: what looks like a moved label was a judge that had not finished learning."""
SMALLEST_SPREAD = 1e-6
"""Features that vary less than this share of the widest one are constant but for rounding."""


@dataclass(frozen=True)
class Jury:
    """Untouched images as features, divided into folds that keep groups whole.

    Args:
        features: `[n, width]` float32.
        labels: `[n]` int64, 0 to classes - 1, each present in at least two groups.
        groups: `[n]` int64.
        widths: of the parts of the features; each part weighs the same whatever its width.
        seed: of the folds.
    """

    features: Array
    labels: Array
    groups: Array
    widths: tuple[int, ...]
    seed: int

    @cached_property
    def folds(self) -> list[tuple[Array, Array]]:
        """(rows to learn from, rows to judge); every row is judged once."""
        from sklearn.model_selection import StratifiedGroupKFold

        fewest = min(len(np.unique(self.groups[self.labels == label])) for label in np.unique(self.labels))
        splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=self.seed)
        return list(splitter.split(self.features, self.labels, self.groups))

    def train(self, seen: Sequence[Array], changed_classes: Collection[int]) -> list[Judge]:
        """Train a judge a fold on untouched images, and on changed ones of some classes.

        Args:
            seen: changed versions of all images, `[n, width]` each.
            changed_classes: whose changed images are learnt from, under their own label; the other
                classes are learnt from untouched images only.
        """
        judges = []
        for learnt, _ in self.folds:
            rows = learnt[np.isin(self.labels[learnt], list(changed_classes))]
            features = [self.features[learnt], *(version[rows] for version in seen)]
            labels = [self.labels[learnt], *(self.labels[rows] for _ in seen)]
            untouched = self.features[learnt]
            judges.append(Judge(np.concatenate(features), np.concatenate(labels), untouched, self.widths))
        return judges

    def ask(self, judges: Sequence[Judge], version: Array) -> Array:
        """Have every image judged by the one judge that saw neither it nor its group.

        Args:
            judges: one a fold, from `train`.
            version: of all images, untouched or changed: `[n, width]`.

        Returns:
            `[n, classes]` float64 probabilities; 0 for a class that a fold learnt nothing of.
        """
        answers = np.zeros((len(self.labels), len(np.unique(self.labels))))
        for judge, (_, held_out) in zip(judges, self.folds, strict=True):
            answers[np.ix_(held_out, judge.classes)] = judge(version[held_out])
        return answers


def scaling(untouched: Array, widths: Sequence[int]) -> tuple[Array, Array]:
    """Return what to subtract from features and what to multiply them by, from untouched images.

    Each feature gets variance 1 over the width of its part, so that parts weigh alike.
    """
    mean, spread = untouched.mean(axis=0), untouched.std(axis=0)
    constant = spread <= SMALLEST_SPREAD * max(float(spread.max()), 1e-12)
    share = np.concatenate([np.full(width, width**-0.5) for width in widths])
    return mean, np.where(constant, 0.0, share / np.where(constant, 1.0, spread))


class Judge:
    """Standardized principal components and a logistic regression with L2 penalty, classes weighted alike."""

    def __init__(self, features: Array, labels: Array, untouched: Array, widths: Sequence[int]) -> None:
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        self._mean, self._scale = scaling(untouched, widths)
        scaled = (features - self._mean) * self._scale
        components = min(COMPONENTS, len(scaled) - 1, scaled.shape[1])
        self._axes = PCA(components, svd_solver="randomized", random_state=0, iterated_power=3)
        scores = self._axes.fit_transform(scaled)
        self._model = LogisticRegression(C=WEAKNESS, class_weight="balanced", max_iter=MOST_STEPS)
        with warnings.catch_warnings():
            # The last digits do not matter to a judge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(scores, labels)
        self.classes: Array = self._model.classes_

    def __call__(self, features: Array) -> Array:
        """Return probabilities `[n, classes]`."""
        scores = self._axes.transform((features - self._mean) * self._scale)
        found: Array = self._model.predict_proba(scores)
        return found


NEIGHBOURS = 5
USUAL = 0.9
"""Share of a class's own untouched images that count as lying where the class lies."""


class Neighbourhood:
    """Distances to the untouched images of other groups.

    An image lies among class y when most of its 5 nearest untouched images are of y, and the fifth
    nearest of y is no farther than it is for 90 of 100 untouched images of y. The second half matters:
    an image unlike anything in the data set has nearest neighbours, too.

    Args:
        jury: the untouched images.
    """

    def __init__(self, jury: Jury) -> None:
        self._labels, self._groups = jury.labels, jury.groups
        self._classes = np.unique(jury.labels)
        self._mean, self._scale = scaling(jury.features, jury.widths)
        self._untouched = (jury.features - self._mean) * self._scale
        self._lengths = (self._untouched**2).sum(axis=1)
        _, far = self._votes_and_distances(jury.features)
        reach = [np.quantile(far[self._labels == one, one], USUAL, method="lower") for one in self._classes]
        # A class with too few images in other groups has no place of its own.
        self._reach = np.where(np.isfinite(reach), reach, -1.0)

    def among(self, features: Array) -> Array:
        """Tell for each image among which class it lies.

        Args:
            features: `[n, width]`, versions of the jury's images in its order: those of an image's own
                group do not count as neighbours.

        Returns:
            `[n]` int64: the class, -1 for none.
        """
        votes, far = self._votes_and_distances(features)
        nearest = votes.argmax(axis=1)
        rows = np.arange(len(features))
        return np.where(far[rows, nearest] <= self._reach[nearest], nearest, -1)

    def _votes_and_distances(self, features: Array) -> tuple[Array, Array]:
        """Return votes `[n, classes]` of the nearest, squared distances `[n, classes]` to the fifth of each."""
        moved = (features - self._mean) * self._scale
        squared = (moved**2).sum(axis=1)[:, None] + self._lengths - 2 * moved @ self._untouched.T
        squared[self._groups[:, None] == self._groups] = np.inf
        nearest = np.argpartition(squared, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        votes = np.stack([(self._labels[nearest] == one).sum(axis=1) for one in self._classes], axis=1)
        far = np.full(votes.shape, np.inf)
        for place, one in enumerate(self._classes):
            distances = squared[:, self._labels == one]
            if distances.shape[1] >= NEIGHBOURS:
                far[:, place] = np.partition(distances, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        return votes, far


GRID = 8
"""Cells a side. Networks are trained to overlook brightness and side; averages of 64 cells show both."""
PIXEL_WIDTH = GRID * GRID * 3
ANGLES = 8
FIXED_WIDTHS = (PIXEL_WIDTH, GRID * GRID * ANGLES)


def pixel_grid(images: Array) -> Array:
    """Return the mean colour of each cell of a grid.

    Args:
        images: `[n, size, size, channels]` float32 in [0, 255]; 1 or 3 channels, at least 8 px a side.

    Returns:
        `[n, 192]` float32 in [0, 255]: 8 x 8 cells of red, green, blue, row by row.
    """
    count, height, width, channels = images.shape
    rows, columns = (np.arange(GRID) * side // GRID for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2)
    heights, widths = np.diff(rows, append=height), np.diff(columns, append=width)
    means = sums / (heights[:, None] * widths[None, :])[None, :, :, None]
    if channels == 1:
        means = np.repeat(means, 3, axis=-1)
    flat: Array = means.reshape(count, PIXEL_WIDTH).astype(np.float32)
    return flat


def fixed_features(images: Array) -> Array:
    """Return features that no training made: the pixels, and how strong edges of each direction are.

    The second part is the histogram of oriented gradients without its blocks (Dalal & Triggs 2005,
    doi 10.1109/CVPR.2005.177): for each of 8 x 8 cells the gradients' lengths, summed over 8 directions.

    Args:
        images: as in `pixel_grid`.

    Returns:
        `[n, 704]` float32, the widths of the parts are `FIXED_WIDTHS`.
    """
    grey = images.mean(axis=-1)
    down, right = np.gradient(grey, axis=(1, 2))
    length = np.hypot(down, right)
    turn = np.arctan2(down, right) % (2 * np.pi)
    direction = np.minimum((turn / (2 * np.pi) * ANGLES).astype(np.int64), ANGLES - 1)
    rows, columns = (np.arange(GRID) * side // GRID for side in grey.shape[1:])
    cells = [
        np.add.reduceat(
            np.add.reduceat(np.where(direction == one, length, 0.0), rows, axis=1), columns, axis=2
        )
        for one in range(ANGLES)
    ]
    edges = np.stack(cells, axis=-1).reshape(len(images), -1).astype(np.float32)
    return np.concatenate([pixel_grid(images), edges], axis=1)


STRENGTHS = (0.25, 0.5, 1.0)
PROBABILITY = "apply_probability"


@dataclass(frozen=True)
class Trial:
    """One operation at one strength.

    Args:
        name: of the operation.
        strength: above 0 to 1: of the strongest that makes sense on photographs, or of the recipe's own.
        options: as judged: every image is changed.
        pasted: as a recipe would say it, with its own `apply_probability`.
    """

    name: str
    strength: float
    options: Any
    pasted: Any


def ladder(name: str, strengths: Sequence[float] = STRENGTHS) -> list[Trial]:
    """Return an operation at rising strengths, 1 being the strongest that makes sense on photographs.

    An operation whose strength is how often it is applied has one rung: what it does to an image is the
    same at every strength.

    Raises:
        RequestError: there is no such operation.
    """
    module = registry.module("operation", name)
    rungs = [(strength, module.at_strength(strength)) for strength in strengths]
    return _distinct(name, rungs)


def own_ladder(name: str, options: Any, strengths: Sequence[float] = STRENGTHS) -> list[Trial]:
    """Return an operation at fractions of a recipe's own options, 1 being these options themselves.

    What grows with the strength is what `at_strength` of the operation makes grow; everything else, such as
    the direction of a flip, stays as it is in the recipe.
    """
    module = registry.module("operation", name)
    nothing, full = module.at_strength(0.0), module.at_strength(1.0)
    growing = [
        name
        for name in type(options).model_fields
        if name != PROBABILITY
        and _is_number(getattr(options, name))
        and _is_number(getattr(nothing, name))
        and getattr(nothing, name) != getattr(full, name)
    ]
    rungs = []
    for strength in strengths:
        values = {one: _between(getattr(nothing, one), getattr(options, one), strength) for one in growing}
        rungs.append((strength, options.model_copy(update=values)))
    return _distinct(name, rungs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(start: float, end: float, share: float) -> float:
    value = start + (end - start) * share
    return round(value) if isinstance(start, int) and isinstance(end, int) else value


def _distinct(name: str, rungs: Sequence[tuple[float, Any]]) -> list[Trial]:
    """Judge every image changed; of rungs that are then alike keep the strongest, drop those that do nothing."""
    is_identity = registry.module("operation", name).is_identity
    trials: dict[Any, Trial] = {}
    for strength, pasted in rungs:
        options = pasted.model_copy(update={"apply_probability": 1.0})
        if not is_identity(options):
            trials[options] = Trial(name, strength, options, pasted)
    return sorted(trials.values(), key=lambda trial: trial.strength)


FEWEST_MOVED_GROUPS = 5
"""Groups that must show an effect before it is believed: a normal tail says little about fewer."""

SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Excess:
    """By how much a share of images rose.

    Args:
        value: mean over images, -1 to 1.
        p: of the hypothesis that the true value is at most the margin; 1 where too few groups show it.
        upper: one-sided 95 % bound above the true value.
    """

    value: float
    p: float
    upper: float


def excess(changes: Array, groups: Array, *, margin: float, level: float = 0.95) -> Excess:
    """Test whether a mean of changes lies above a margin, groups drawn, not images.

    A t statistic with the cluster-robust standard error of a mean (Liang & Zeger 1986, doi
    10.1093/biomet/73.1.13, with the factor G / (G - 1)), G - 1 degrees of freedom for G groups. The standard
    error is never taken below that of a share equal to the margin: where no image moved, the observed spread
    is zero and the true one is not.

    Args:
        changes: `[n]`, one an image, -1 to 1: its share of draws that moved, less 1 where it was there untouched.
        groups: `[n]` ints.
        margin: 0 to 1.
        level: of the upper bound.
    """
    from scipy import stats

    count = len(changes)
    _, place = np.unique(groups, return_inverse=True)
    number = int(place.max()) + 1 if count else 0
    if number < 2:
        return Excess(float(changes.mean()) if count else 0.0, 1.0, 1.0)
    value = float(changes.mean())
    sums = np.bincount(place, changes - value)
    variance = number / (number - 1) * float((sums**2).sum()) / count**2
    error = max(variance, margin * (1 - margin) / number, SMALLEST_VARIANCE) ** 0.5
    upper = value + float(stats.t.ppf(level, number - 1)) * error
    moved = int((np.bincount(place, np.maximum(changes, 0.0)) > 0).sum())
    if moved < FEWEST_MOVED_GROUPS:
        return Excess(value, 1.0, upper)
    return Excess(value, float(stats.t.sf((value - margin) / error, number - 1)), upper)


def holm(p_values: Sequence[float], *, level: float) -> list[bool]:
    """Tell which hypotheses fall when the chance of felling any true one is kept below `level`.

    Reference:
        Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = np.argsort(np.asarray(p_values), kind="stable")
    fallen = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - rank):
            break
        fallen[place] = True
    return fallen


TAKEN_MARGIN = 0.05
"""Share of a class's images that must be taken for another class, beyond those that are anyway."""
FINER_MARGIN = 0.01
"""The same for the finer questions of a second look."""
SAME = 1e-6
"""Features nearer than this to the untouched ones, relative to their size, are unchanged."""
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Pair:
    """Images of one class that are taken for another.

    Args:
        source, target: classes.
        untouched: share of the source's untouched images taken for the target, 0 to 1.
        naive: rise of that share for changed images, by judges that saw untouched images only.
        taught: the same by judges that learnt the operation on every class.
        taught_again: as `taught` on fresh draws; None: not asked.
        taught_some: the same of both classes taken for each other, tested against no rise; None: not asked.
        other_taught: by judges that learnt it on every class but the target; None: not asked.
        among: rise of the share that lies among untouched images of the target; None: not asked.
        among_many: the same figure, tested against the larger margin; None: not asked.
        still_told: how well taught judges tell changed images of the two classes apart, as a share of how
            well naive ones tell untouched images: 1 as well, 0 not at all.
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
        unchanged: the operation leaves these images as they are.
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
        jury: untouched images.
        weights: `[resamples, n]`, how often each image is drawn in each bootstrap resample.
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
        """Distances to the untouched images."""
        return Neighbourhood(self.jury)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.groups_of_class)

    @property
    def untouched(self) -> Array:
        """Answers of the naive judges for untouched images: `[n]` int64."""
        answers: Array = self._naive.argmax(axis=1)
        return answers

    def confused(self, source: int, target: int) -> float:
        """Return the share of one class's untouched images that is taken for another."""
        rows = self.jury.labels == source
        return float((self.untouched[rows] == target).mean())

    def told_apart(self, one: int, other: int) -> float:
        """Return how well two classes are told apart untouched: 1 always, 0 by chance or worse."""
        return max(0.0, 1.0 - self.confused(one, other) - self.confused(other, one))

    def measure(self, draws: Sequence[Array]) -> Measurement:
        """Judge changed images.

        Args:
            draws: `[n, width]` each, the features of the jury's images, changed by other random numbers in each.
        """
        jury = self.jury
        size = float(np.abs(jury.features).max()) or 1.0
        if all(np.abs(one - jury.features).max() <= SAME * size for one in draws):
            return Measurement(True, [], [])
        naive = np.stack([jury.ask(self._judges, one) for one in draws])
        taught = jury.train(draws, range(self.classes))
        learnt = np.stack([jury.ask(taught, one) for one in draws])
        again = jury.ask(taught, jury.features)
        return Measurement(False, self._class_figures(naive, learnt, again), self._pairs(naive, learnt))

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
                    [float(edge) for edge in row] for row in np.percentile(means, [2.5, 97.5], axis=0)
                )
            found.append(
                {
                    name: (float(value), low, high)
                    for name, value, low, high in zip(CLASS_FIGURES, values, lows, highs, strict=True)
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

    def rise(self, changed: Array, before: Array, source: int, target: int, margin: float) -> Excess:
        """Test how much more often a class's images are given another class than before."""
        rows = self.jury.labels == source
        moved = (changed[:, rows] == target).mean(axis=0) - (before[rows] == target)
        return excess(moved, self.jury.groups[rows], margin=margin)

    def rise_either_way(self, changed: Array, one: int, other: int) -> Excess:
        """Test how much more often images of two classes are given the other one of the two than untouched.

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
                (answers[:, rows] == target).mean(axis=0), self.jury.groups[rows], margin=TAKEN_MARGIN
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
