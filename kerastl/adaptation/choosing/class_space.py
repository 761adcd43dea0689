"""A few directions of features in which classes of the source are round, and those in which the target spreads most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

WIDEST = 32
"""Principal components that the covariance within classes is estimated in."""
PICTURES_A_COMPONENT = 4
BEYOND_CLASSES = 8
"""Directions besides those between classes: a class that nobody knows lies in one of them, or between the known ones."""


@dataclass(frozen=True)
class ClassSpace:
    """Pictures of source and target in one space.

    Args:
        source: `[n, directions]` float64; covariance 1 within classes, about.
        target: `[m, directions]` float64.
        labels: `[n]` int.
    """

    source: Array
    target: Array
    labels: Array

    def class_means(self, weights: Array) -> Array:
        """Return `[classes, directions]` of the source; `weights` `[n]` is how often each picture counts."""
        classes = self.labels.max() + 1
        member = (self.labels[:, None] == np.arange(classes)) * weights[:, None]
        means: Array = (member.T @ self.source) / member.sum(axis=0)[:, None]
        return means


def class_space(source: Array, labels: Array, target: Array) -> ClassSpace:
    """Return pictures in whitened principal components, turned so that the differences of class means come first.

    Args:
        source: `[n, width]` float32, features of labelled pictures.
        labels: `[n]` int, each class at least once.
        target: `[m, width]` float32.

    Reference:
        Lee et al. 2018, arXiv:1807.03888, equation 1 (one covariance within classes), shrunk as Ledoit & Wolf 2004.
    """
    from sklearn.covariance import ledoit_wolf

    # Not standardized: a feature that the source hardly ever shows would blow up whatever the target does with it.
    middle = source.mean(axis=0, dtype=np.float64)
    near, far = source - middle, target - middle
    room = max(2, (len(source) - labels.max() - 1) // PICTURES_A_COMPONENT)
    axes = _axes(np.concatenate([near, far - far.mean(axis=0)]), min(WIDEST, room))
    near, far = near @ axes, far @ axes
    counts = np.bincount(labels)
    means = (np.eye(len(counts))[labels].T @ near) / counts[:, None]
    covariance, _ = ledoit_wolf(near - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))
    near, far, means = near @ whiten, far @ whiten, means @ whiten
    between = _axes(means - means.mean(axis=0), len(means) - 1)
    rest = far - far.mean(axis=0)
    beyond = _axes(rest - (rest @ between) @ between.T, BEYOND_CLASSES)
    # Where directions between classes fill the space nothing is left beyond them but rounding.
    beyond = beyond[:, : near.shape[1] - between.shape[1]]
    basis = np.linalg.qr(np.concatenate([between, beyond], axis=1))[0]
    return ClassSpace(near @ basis, far @ basis, labels)


def _axes(rows: Array, count: int) -> Array:
    """Return the `[width, count]` directions in which rows spread most around zero, fewer where they fill fewer."""
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    filled = int((values > 1e-9 * values.max()).sum())
    axes: Array = directions[: min(count, max(1, filled))].T
    return axes
