"""Pseudo-labels by the nearest centroid. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def centroid_labels(features: Array, logits: Array, *, rounds: int = 2) -> Array:
    """Return the class whose centroid is nearest to each picture's features, by the angle between them.

    In the first round a centroid is the mean of all features, weighed by the class's probability; then the mean of those that
    were nearest to it. A class that was nearest to nobody keeps the centroid that it had.

    Args:
        features: `[pictures, features]`.
        logits: `[pictures, classes]`.
        rounds: how often pictures are given to centroids; 2 in the paper.

    Returns:
        `[pictures]` int64.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equations 4 to 6.
    """
    features, logits = features.astype(np.float64), logits.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    centroids = np.zeros((logits.shape[1], features.shape[1]))
    labels = np.zeros(len(features), np.int64)
    for _ in range(rounds):
        masses = shares.sum(axis=0)
        present = masses > 0
        centroids[present] = (shares.T @ features)[present] / masses[present, None]
        labels = (_directions(features) @ _directions(centroids).T).argmax(axis=1)
        shares = np.eye(logits.shape[1])[labels]
    return labels


def _directions(rows: Array) -> Array:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
