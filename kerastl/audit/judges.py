"""Cross-fitted judges: no picture is judged by a model that saw it or another picture of its group."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FOLDS = 5
WEAKNESS = 30.0
"""scikit-learn's C, the inverse of the L2 penalty, on features whose parts each have variance 1 in total."""
COMPONENTS = 160
"""Principal components that a judge sees at most; a few hundred pictures fill no more."""
MOST_STEPS = 300
"""Enough to converge. Stopped at 100 steps, judges that learnt a harmless mirror took 15 % of boots for sneakers that
they tell apart when trained to the end: what looks like a moved label was a judge that had not finished learning."""
SMALLEST_SPREAD = 1e-6
"""Features that vary less than this share of the widest one are constant but for rounding."""


@dataclass(frozen=True)
class Jury:
    """Untouched pictures as features, divided into folds that keep groups whole.

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

        fewest = min(
            len(np.unique(self.groups[self.labels == label])) for label in np.unique(self.labels)
        )
        splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=self.seed)
        return list(splitter.split(self.features, self.labels, self.groups))

    def train(self, seen: Sequence[Array], changed_classes: Collection[int]) -> list[Judge]:
        """Train a judge a fold on untouched pictures, and on changed ones of some classes.

        Args:
            seen: changed versions of all pictures, `[n, width]` each.
            changed_classes: whose changed pictures are learnt from, under their own label; the other
                classes are learnt from untouched pictures only.
        """
        judges = []
        for learnt, _ in self.folds:
            rows = learnt[np.isin(self.labels[learnt], list(changed_classes))]
            features = [self.features[learnt], *(version[rows] for version in seen)]
            labels = [self.labels[learnt], *(self.labels[rows] for _ in seen)]
            untouched = self.features[learnt]
            judges.append(
                Judge(np.concatenate(features), np.concatenate(labels), untouched, self.widths)
            )
        return judges

    def ask(self, judges: Sequence[Judge], version: Array) -> Array:
        """Have every picture judged by the one judge that saw neither it nor its group.

        Args:
            judges: one a fold, from `train`.
            version: of all pictures, untouched or changed: `[n, width]`.

        Returns:
            `[n, classes]` float64 probabilities; 0 for a class that a fold learnt nothing of.
        """
        answers = np.zeros((len(self.labels), len(np.unique(self.labels))))
        for judge, (_, held_out) in zip(judges, self.folds, strict=True):
            answers[np.ix_(held_out, judge.classes)] = judge(version[held_out])
        return answers


def scaling(untouched: Array, widths: Sequence[int]) -> tuple[Array, Array]:
    """Return what to subtract from features and what to multiply them by, from untouched pictures.

    Each feature gets variance 1 over the width of its part, so that parts weigh alike.
    """
    mean, spread = untouched.mean(axis=0), untouched.std(axis=0)
    constant = spread <= SMALLEST_SPREAD * max(float(spread.max()), 1e-12)
    share = np.concatenate([np.full(width, width**-0.5) for width in widths])
    return mean, np.where(constant, 0.0, share / np.where(constant, 1.0, spread))


class Judge:
    """Standardized principal components and a logistic regression with L2 penalty, classes weighted alike."""

    def __init__(
        self, features: Array, labels: Array, untouched: Array, widths: Sequence[int]
    ) -> None:
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
