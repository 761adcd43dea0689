"""A logistic regression that tells one site's features from another's."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

COMPONENTS = 64
"""Principal components that it sees at most: few pictures fill no more, and a shift of scanner moves the widest ones."""
MOST_STEPS = 1000
SMALLEST_SPREAD = 1e-6
"""Features that vary less than this share of the widest one are constant but for rounding."""


@dataclass(frozen=True)
class DomainClassifier:
    """A fitted classifier.

    Args:
        mean, spread: `[width]` float64, what features are standardized by; constant features count nothing.
        axes: `[width, components]` float64.
        weights: `[components]` float64.
        bias: float.
    """

    mean: Array
    spread: Array
    axes: Array
    weights: Array
    bias: float

    def log_odds(self, features: Array) -> Array:
        """Return `[n]` float64: log of p(second site) / p(first site)."""
        scores: Array = ((features - self.mean) / self.spread) @ self.axes @ self.weights
        return scores + self.bias


def fit_domain_classifier(
    features: Array,
    is_second: Array,
    *,
    inverse_penalty: float,
    weights: Array | None = None,
    balanced: bool = False,
) -> DomainClassifier:
    """Fit a logistic regression with L2 penalty on the standardized principal components.

    Args:
        features: `[n, width]` float.
        is_second: `[n]` int, 0 or 1; both are there.
        inverse_penalty: scikit-learn's C; features have variance 1 in total.
        weights: `[n]`, how much each picture counts; None: alike.
        balanced: whether both sites count alike, however many pictures each has.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    values = features.astype(np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    constant = spread <= SMALLEST_SPREAD * max(float(spread.max()), 1e-12)
    spread = np.where(constant, np.inf, spread * np.sqrt(values.shape[1]))
    scaled = (values - mean) / spread
    axes = _principal_axes(scaled)
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced" if balanced else None, max_iter=MOST_STEPS
    )
    with warnings.catch_warnings():
        # The last digits do not matter to who comes before whom.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled @ axes, is_second, sample_weight=weights)
    return DomainClassifier(mean, spread, axes, model.coef_[0], float(model.intercept_[0]))


def _principal_axes(scaled: Array) -> Array:
    """Return `[width, components]`, from the smaller one of the two Gram matrices; signs do not matter to the fit."""
    rows, width = scaled.shape
    components = min(COMPONENTS, rows - 1, width)
    if width <= rows:
        return np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :components]
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    axes = scaled.T @ vectors[:, ::-1][:, :components]
    lengths = np.linalg.norm(axes, axis=0)
    found: Array = axes / np.where(lengths > 0, lengths, 1.0)
    return found
