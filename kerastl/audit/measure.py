"""The effect of one augmentation at one strength on held-out images, measured by classifiers on frozen features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kerastl import registry
from kerastl.augment.operation_options import is_identity, scaled_options
from kerastl.evaluation.bootstrap import MIN_GROUPS, proportion_interval

Array = np.ndarray[Any, Any]
Interval = dict[str, Any]
"""A `value` with its 95% interval, `low` and `high`, which are None if there are too few groups."""

FOLDS = 5
INVERSE_PENALTY = 30.0
"""scikit-learn's C, the inverse of the L2 penalty, for features whose parts have a total variance of 1 each."""
MAX_COMPONENTS = 160
"""Principal components per classifier; a few hundred images do not span more."""
MAX_ITERATIONS = 300
"""Enough to converge. Classifiers that were stopped at 100 iterations confused 15% of mirrored boots with sneakers,
which they separate when trained to convergence."""
MIN_SPREAD = 1e-6
"""Features that vary less than this fraction of the most variable one are constant except for rounding."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of the original images, divided into folds that never split a group.

    Args:
        features: `[n, width]` float32.
        labels: `[n]` int64 from 0 to classes - 1, each in at least two groups.
        groups: `[n]` int64.
        widths: Widths of the parts of the features. All parts have the same weight.
        seed: Seed of the folds.
    """

    features: Array
    labels: Array
    groups: Array
    widths: tuple[int, ...]
    seed: int

    @cached_property
    def groups_per_class(self) -> list[int]:
        """Number of groups of each class."""
        return [len(np.unique(self.groups[self.labels == label])) for label in np.unique(self.labels)]

    @cached_property
    def folds(self) -> list[tuple[Array, Array]]:
        """(training rows, held-out rows) per fold; each row is held out once."""
        from sklearn.model_selection import StratifiedGroupKFold

        num_folds = min(FOLDS, *self.groups_per_class)
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=self.seed)
        return list(splitter.split(self.features, self.labels, self.groups))

    def train(self, draws: Sequence[Array], augmented_classes: Collection[int]) -> list[Any]:
        """Train one classifier per fold on original images, and on augmented images of some classes.

        Args:
            draws: Features of all images, augmented with different random numbers, `[n, width]` each.
            augmented_classes: Classes whose augmented images are used for training, with their own label.
        """
        classifiers = []
        for train_rows, _ in self.folds:
            rows = train_rows[np.isin(self.labels[train_rows], list(augmented_classes))]
            original = self.features[train_rows]
            features = [original, *(draw[rows] for draw in draws)]
            labels = [self.labels[train_rows], *(self.labels[rows] for _ in draws)]
            classifiers.append(
                fit_classifier(np.concatenate(features), np.concatenate(labels), original, self.widths)
            )
        return classifiers

    def predict(self, classifiers: Sequence[Any], features: Array) -> Array:
        """Predict each image with the classifier that was not trained on its group.

        Args:
            classifiers: One per fold, from `train`.
            features: Of all images, original or augmented: `[n, width]`.

        Returns:
            `[n, classes]` float64 probabilities; 0 for a class that is not in the training rows of a fold.
        """
        probabilities = np.zeros((len(self.labels), len(np.unique(self.labels))))
        for classifier, (_, held_out) in zip(classifiers, self.folds, strict=True):
            probabilities[np.ix_(held_out, classifier.classes_)] = classifier.predict_proba(
                features[held_out]
            )
        return probabilities

    def predict_draws(self, classifiers: Sequence[Any], draws: Sequence[Array]) -> Array:
        """Return the probabilities of `predict` for several versions of the images: `[draws, n, classes]`."""
        return np.stack([self.predict(classifiers, draw) for draw in draws])


def standardizer(features: Array, widths: Sequence[int]) -> Callable[[Array], Array]:
    """Return a function that standardizes features, so that each part of the given features has a total variance of 1."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    constant = spread <= MIN_SPREAD * max(float(spread.max()), 1e-12)
    share = np.concatenate([np.full(width, width**-0.5) for width in widths])
    scale = np.where(constant, 0.0, share / np.where(constant, 1.0, spread))
    return lambda values: (values - mean) * scale


def fit_classifier(features: Array, labels: Array, original: Array, widths: Sequence[int]) -> Any:
    """Fit a logistic regression with L2 penalty and balanced classes on standardized principal components.

    Args:
        features: `[n, width]`, the training features.
        labels: `[n]`.
        original: Features of the original images, which define the standardization.
        widths: Widths of the parts of the features.

    Returns:
        A scikit-learn pipeline.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    components = min(MAX_COMPONENTS, len(features) - 1, features.shape[1])
    classifier = make_pipeline(
        FunctionTransformer(standardizer(original, widths)),
        PCA(components, svd_solver="randomized", random_state=0, iterated_power=3),
        LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=MAX_ITERATIONS),
    )
    with warnings.catch_warnings():
        # The last digits of the coefficients do not matter here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(features, labels)


NEIGHBORS = 5
REACH_QUANTILE = 0.9
"""Fraction of a class's own original images that count as being in the region of the class."""


class NeighborClassifier:
    """Nearest-neighbor classifier on the original images of other groups, with a distance limit per class.

    An image belongs to class y if most of its 5 nearest original images are of y, and the fifth nearest image of y is
    no farther away than for 90% of the original images of y. The limit is needed because an image unlike any other in
    the dataset has nearest neighbors, too.
    """

    def __init__(self, data: FeatureSet) -> None:
        self._labels, self._groups = data.labels, data.groups
        self._classes = np.unique(data.labels)
        self._standardize = standardizer(data.features, data.widths)
        self._original = self._standardize(data.features)
        self._squared_norms = (self._original**2).sum(axis=1)
        _, distances = self._votes_and_distances(data.features)
        reach = [
            np.quantile(distances[self._labels == label, label], REACH_QUANTILE, method="lower")
            for label in self._classes
        ]
        # A class with too few images in other groups has no region.
        self._reach = np.where(np.isfinite(reach), reach, -1.0)

    def predict(self, features: Array) -> Array:
        """Return the class of each image as `[n]` int64, -1 for none.

        Args:
            features: `[n, width]`, versions of the images of the feature set in its order. Images of the same group
                do not count as neighbors.
        """
        votes, distances = self._votes_and_distances(features)
        nearest = votes.argmax(axis=1)
        rows = np.arange(len(features))
        return np.where(distances[rows, nearest] <= self._reach[nearest], nearest, -1)

    def _votes_and_distances(self, features: Array) -> tuple[Array, Array]:
        """Return the votes of the nearest images and the squared distance to the fifth of each class, `[n, classes]`."""
        scaled = self._standardize(features)
        squared = (scaled**2).sum(axis=1)[:, None] + self._squared_norms - 2 * scaled @ self._original.T
        squared[self._groups[:, None] == self._groups] = np.inf
        nearest = np.argpartition(squared, NEIGHBORS - 1, axis=1)[:, :NEIGHBORS]
        votes = np.stack([(self._labels[nearest] == label).sum(axis=1) for label in self._classes], axis=1)
        distances = np.full(votes.shape, np.inf)
        for column, label in enumerate(self._classes):
            of_class = squared[:, self._labels == label]
            if of_class.shape[1] >= NEIGHBORS:
                distances[:, column] = np.partition(of_class, NEIGHBORS - 1, axis=1)[:, NEIGHBORS - 1]
        return votes, distances


GRID = 8
"""Cells per side. Pretrained networks are nearly invariant to brightness and mirroring; means of 64 cells are not."""
PIXEL_WIDTH = GRID * GRID * 3
ANGLES = 8
FIXED_WIDTHS = (PIXEL_WIDTH, GRID * GRID * ANGLES)


def pixel_grid(images: Array) -> Array:
    """Return the mean color of each cell of a grid.

    Args:
        images: `[n, height, width, channels]` float32 in [0, 255]; 1 or 3 channels, at least 8 px per side.

    Returns:
        `[n, 192]` float32 in [0, 255]: 8 x 8 cells of red, green and blue, row by row.
    """
    count, height, width, channels = images.shape
    heights, widths = (np.diff(np.arange(GRID + 1) * side // GRID) for side in (height, width))
    means = _cell_sums(images) / (heights[:, None] * widths[None, :])[None, :, :, None]
    if channels == 1:
        means = np.repeat(means, 3, axis=-1)
    flat: Array = means.reshape(count, PIXEL_WIDTH).astype(np.float32)
    return flat


def _cell_sums(images: Array) -> Array:
    """Return the sums over the cells of the grid: `[n, 8, 8, ...]`."""
    rows, columns = (np.arange(GRID) * side // GRID for side in images.shape[1:3])
    sums: Array = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2)
    return sums


def fixed_features(images: Array) -> Array:
    """Return handcrafted features: mean colors, and the strength of the edges by direction.

    The second part is the histogram of oriented gradients without block normalization (Dalal & Triggs 2005,
    doi 10.1109/CVPR.2005.177): for each of 8 x 8 cells, the gradient magnitudes summed over 8 directions.

    Args:
        images: As in `pixel_grid`.

    Returns:
        `[n, 704]` float32. The widths of the parts are `FIXED_WIDTHS`.
    """
    gray = images.mean(axis=-1)
    down, right = np.gradient(gray, axis=(1, 2))
    magnitude = np.hypot(down, right)
    angle = np.arctan2(down, right) % (2 * np.pi)
    direction = np.minimum((angle / (2 * np.pi) * ANGLES).astype(np.int64), ANGLES - 1)
    cells = [_cell_sums(np.where(direction == index, magnitude, 0.0)) for index in range(ANGLES)]
    edges = np.stack(cells, axis=-1).reshape(len(images), -1).astype(np.float32)
    return np.concatenate([pixel_grid(images), edges], axis=1)


STRENGTHS = (0.25, 0.5, 1.0)
PROBABILITY = "apply_probability"


@dataclass(frozen=True)
class Trial:
    """One operation at one strength.

    Args:
        name: Name of the operation.
        strength: Above 0 to 1, relative to the strongest sensible options for photographs or to those of the recipe.
        options: Options of the audit, with which every image is augmented.
        recipe_options: The same options with the `apply_probability` of a recipe.
    """

    name: str
    strength: float
    options: Any
    recipe_options: Any


def standard_trials(name: str) -> list[Trial]:
    """Return an operation at rising strengths, where 1 is the strongest that is sensible for photographs.

    An operation whose strength is its probability has one trial, because its effect on an image is always the same.

    Raises:
        RequestError: There is no such operation.
    """
    module = registry.module("operation", name)
    return _distinct_trials(name, [(strength, module.at_strength(strength)) for strength in STRENGTHS])


def recipe_trials(name: str, options: Any) -> list[Trial]:
    """Return an operation at fractions of the options of a recipe, where 1 is these options.

    Options that `at_strength` of the operation scales are interpolated; all others, such as the direction of a flip,
    are those of the recipe.
    """
    starts = {
        key: start
        for key, (start, _) in scaled_options(name).items()
        if key != PROBABILITY
        and isinstance(start, int | float)
        and isinstance(getattr(options, key), int | float)
    }
    steps = []
    for strength in STRENGTHS:
        values = {key: _interpolate(start, getattr(options, key), strength) for key, start in starts.items()}
        steps.append((strength, options.model_copy(update=values)))
    return _distinct_trials(name, steps)


def _interpolate(start: float, end: float, fraction: float) -> float:
    value = start + (end - start) * fraction
    return round(value) if isinstance(start, int) and isinstance(end, int) else value


def _distinct_trials(name: str, steps: Sequence[tuple[float, Any]]) -> list[Trial]:
    """Return trials that augment every image, without identities and, of equal ones, only the strongest."""
    trials: dict[Any, Trial] = {}
    for strength, recipe_options in steps:
        options = recipe_options.model_copy(update={PROBABILITY: 1.0})
        if not is_identity(name, options):
            trials[options] = Trial(name, strength, options, recipe_options)
    return sorted(trials.values(), key=lambda trial: trial.strength)


MIN_AFFECTED_GROUPS = 5
"""An effect must be present in this number of groups, because the normal approximation is poor for fewer."""

SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Increase:
    """Increase of a rate over images.

    Args:
        value: Mean over images, -1 to 1.
        p_value: P-value of the hypothesis that the true increase is at most the margin; 1 if too few groups show it.
        upper: One-sided 95% upper bound of the true increase.
    """

    value: float
    p_value: float
    upper: float


def estimate_increase(changes: Array, groups: Array, *, margin: float, level: float = 0.95) -> Increase:
    """Test whether a mean of changes is above a margin, with groups as the sampling unit.

    A t test with the cluster-robust standard error of a mean (Liang & Zeger 1986, doi 10.1093/biomet/73.1.13, with the
    factor G / (G - 1)) and G - 1 degrees of freedom for G groups. The standard error is at least that of a rate equal
    to the margin: if no image is affected, the observed variance is zero, but the true one is not.

    Args:
        changes: `[n]`, one per image, -1 to 1: fraction of draws with the event, minus 1 if it occurs in the original.
        groups: `[n]` ints.
        margin: 0 to 1.
        level: Confidence level of the upper bound.
    """
    from scipy import stats

    count = len(changes)
    _, group_index = np.unique(groups, return_inverse=True)
    num_groups = int(group_index.max()) + 1 if count else 0
    if num_groups < 2:
        return Increase(float(changes.mean()) if count else 0.0, 1.0, 1.0)
    value = float(changes.mean())
    sums = np.bincount(group_index, changes - value)
    variance = num_groups / (num_groups - 1) * float((sums**2).sum()) / count**2
    error = max(variance, margin * (1 - margin) / num_groups, SMALLEST_VARIANCE) ** 0.5
    upper = value + float(stats.t.ppf(level, num_groups - 1)) * error
    affected = int((np.bincount(group_index, np.maximum(changes, 0.0)) > 0).sum())
    if affected < MIN_AFFECTED_GROUPS:
        return Increase(value, 1.0, upper)
    return Increase(value, float(stats.t.sf((value - margin) / error, num_groups - 1)), upper)


def holm(p_values: Sequence[float], *, level: float) -> list[bool]:
    """Return which hypotheses are rejected, with a family-wise error rate of at most `level`.

    Reference:
        Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = np.argsort(np.asarray(p_values), kind="stable")
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


CONFUSION_MARGIN = 0.05
"""Increase of the fraction of a class's images that are predicted as another class, up to which it is tolerated."""
FINE_MARGIN = 0.01
"""The same for the follow-up tests."""
UNCHANGED_TOLERANCE = 1e-6
"""Features that differ less than this from the original ones, relative to their size, are unchanged."""
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Pair:
    """Images of one class that are predicted as another class.

    Args:
        source, target: The two classes.
        original_rate: Fraction of the source's original images that are predicted as the target, 0 to 1.
        plain: Increase of this fraction for augmented images, by classifiers trained on original images.
        augmented: The same, by classifiers trained on augmented images of all classes.
        separability_ratio: How well classifiers trained on augmented images separate augmented images of the two
            classes, relative to the separability of the original images: 1 equally well, 0 not at all.
        separability_upper: One-sided 95% upper bound of the ratio.
        augmented_fresh: As `augmented`, on fresh draws. This field and those below are None without a follow-up.
        augmented_mutual: The same for both classes predicted as each other, tested against no increase.
        target_original: By classifiers trained on augmented images of all classes except the target.
        neighbors: Increase of the fraction that is in the region of the target's original images.
        neighbors_many: The same, tested against the larger margin.
    """

    source: int
    target: int
    original_rate: float
    plain: Increase
    augmented: Increase
    separability_ratio: float
    separability_upper: float
    augmented_fresh: Increase | None = None
    augmented_mutual: Increase | None = None
    target_original: Increase | None = None
    neighbors: Increase | None = None
    neighbors_many: Increase | None = None


CLASS_METRICS = (
    "accuracy",
    "accuracy_augmented",
    "accuracy_after_training",
    "accuracy_original_after_training",
    "margin_loss",
)
"""Per class: accuracy on original images; on augmented images; on augmented images and on original images by classifiers
trained on augmented images; and the decrease of the margin, the log odds of the true class against the best other one."""


@dataclass(frozen=True)
class Measurement:
    """The effect of one trial.

    Args:
        unchanged: Whether the operation leaves these images unchanged.
        classes: `CLASS_METRICS` of each class.
        pairs: All ordered pairs of classes.
    """

    unchanged: bool
    classes: list[dict[str, Interval]]
    pairs: list[Pair]


class Committee:
    """The cross-validated classifiers of one dataset.

    Args:
        data: Features of the original images.
        weights: `[resamples, n]`, how often each image occurs in each bootstrap resample.

    Attributes:
        num_classes: Number of classes.
        original_predictions: Predicted classes of the original images: `[n]` int64.
    """

    def __init__(self, data: FeatureSet, weights: Array) -> None:
        self.data, self.weights = data, weights
        self.num_classes = len(data.groups_per_class)
        self._classifiers = data.train([], [])
        self._probabilities = data.predict(self._classifiers, data.features)
        self.original_predictions: Array = self._probabilities.argmax(axis=1)

    @cached_property
    def neighbor_classifier(self) -> NeighborClassifier:
        """The nearest-neighbor classifier on original images."""
        return NeighborClassifier(self.data)

    def confusion_rate(self, source: int, target: int) -> float:
        """Return the fraction of one class's original images that are predicted as another class."""
        rows = self.data.labels == source
        return float((self.original_predictions[rows] == target).mean())

    def separability(self, first: int, second: int) -> float:
        """Return how well the original images of two classes are separated: 1 always, 0 by chance or worse."""
        return max(0.0, 1.0 - self.confusion_rate(first, second) - self.confusion_rate(second, first))

    def measure(self, draws: Sequence[Array]) -> Measurement:
        """Measure the effect of an augmentation.

        Args:
            draws: `[n, width]` each, features of the images augmented with different random numbers.
        """
        data = self.data
        size = float(np.abs(data.features).max()) or 1.0
        if all(np.abs(draw - data.features).max() <= UNCHANGED_TOLERANCE * size for draw in draws):
            return Measurement(True, [], [])
        plain = data.predict_draws(self._classifiers, draws)
        classifiers = data.train(draws, range(self.num_classes))
        augmented = data.predict_draws(classifiers, draws)
        original = data.predict(classifiers, data.features)
        return Measurement(
            False, self._class_metrics(plain, augmented, original), self._pairs(plain, augmented)
        )

    def predict_after_training(self, draws: Sequence[Array], augmented_classes: Sequence[int]) -> Array:
        """Return the classes `[draws, n]` of augmented images by classifiers trained on those of some classes."""
        classifiers = self.data.train(draws, augmented_classes)
        predicted: Array = self.data.predict_draws(classifiers, draws).argmax(axis=-1)
        return predicted

    def _class_metrics(self, plain: Array, augmented: Array, original: Array) -> list[dict[str, Interval]]:
        labels = self.data.labels

        # Each as `[draws, n, classes]`.
        evaluated = (self._probabilities[None], plain, augmented, original[None])
        accuracies = [(probabilities.argmax(axis=-1) == labels).mean(axis=0) for probabilities in evaluated]
        margin_loss = _margins(self._probabilities, labels) - np.mean(
            [_margins(probabilities, labels) for probabilities in plain], axis=0
        )
        columns = np.stack([*accuracies, margin_loss], axis=1)
        metrics = []
        for label in range(self.num_classes):
            rows = labels == label
            values = columns[rows].mean(axis=0)
            lows = highs = [None] * len(values)
            if self.data.groups_per_class[label] >= MIN_GROUPS:
                weights = self.weights[:, rows]
                drawn = weights.sum(axis=1)
                means = (weights @ columns[rows])[drawn > 0] / drawn[drawn > 0, None]
                lows, highs = np.percentile(means, [2.5, 97.5], axis=0).tolist()
                for index in np.flatnonzero(np.equal(lows, highs)[: len(accuracies)]):
                    groups = self.data.groups_per_class[label]
                    lows[index], highs[index] = proportion_interval(values[index], groups, level=0.95)
            intervals = [
                {"value": value, "low": low, "high": high}
                for value, low, high in zip(values.tolist(), lows, highs, strict=True)
            ]
            metrics.append(dict(zip(CLASS_METRICS, intervals, strict=True)))
        return metrics

    def _pairs(self, plain: Array, augmented: Array) -> list[Pair]:
        by_plain, by_augmented = plain.argmax(axis=-1), augmented.argmax(axis=-1)
        original = self.original_predictions
        return [
            Pair(
                source, target, self.confusion_rate(source, target),
                self.increase(by_plain, original, source, target, CONFUSION_MARGIN),
                self.increase(by_augmented, original, source, target, CONFUSION_MARGIN),
                *self._separability_ratio(by_augmented, source, target),
            )
            for source in range(self.num_classes)
            for target in range(self.num_classes)
            if source != target
        ]  # fmt: skip

    def increase(
        self, augmented: Array, original: Array, source: int, target: int, margin: float
    ) -> Increase:
        """Test how much more often images of the source are predicted as the target when augmented.

        Args:
            augmented: Predicted classes of augmented images, `[draws, n]`.
            original: Predicted classes of original images, `[n]`.
            source, target: Classes.
            margin: Increase that is tolerated.
        """
        rows = self.data.labels == source
        changes = (augmented[:, rows] == target).mean(axis=0) - (original[rows] == target)
        return estimate_increase(changes, self.data.groups[rows], margin=margin)

    def mutual_increase(self, augmented: Array, first: int, second: int) -> Increase:
        """Test how much more often images of two classes are predicted as the other class when augmented.

        Classifiers assign images that two classes share to either of them, so both directions count.
        """
        labels = self.data.labels
        rows = (labels == first) | (labels == second)
        opposite = np.where(labels[rows] == first, second, first)
        original = self.original_predictions[rows]
        changes = (augmented[:, rows] == opposite).mean(axis=0) - (original == opposite)
        return estimate_increase(changes, self.data.groups[rows], margin=0.0)

    def _separability_ratio(self, predictions: Array, first: int, second: int) -> tuple[float, float]:
        """Return the separability of augmented images relative to original ones, and its upper bound."""
        original = self.separability(first, second)
        if original <= 0:
            return 0.0, 1.0
        confused, variance = 0.0, 0.0
        for source, target in ((first, second), (second, first)):
            rows = self.data.labels == source
            rate = estimate_increase(
                (predictions[:, rows] == target).mean(axis=0), self.data.groups[rows], margin=CONFUSION_MARGIN
            )
            confused += rate.value
            variance += (rate.upper - rate.value) ** 2
        return (1 - confused) / original, min(1.0, (1 - confused + variance**0.5) / original)


def _margins(probabilities: Array, labels: Array) -> Array:
    """Return the log odds of the true class against the most probable other one: `[n]`."""
    logs = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    rows = np.arange(len(labels))
    true_class = logs[rows, labels]
    logs[rows, labels] = -np.inf
    margins: Array = true_class - logs.max(axis=1)
    return margins
