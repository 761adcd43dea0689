"""Whether pictures of two sites can be told apart by what a model sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl.adaptation.choosing.domain_classifier import fit_domain_classifier
from kerastl.adaptation.choosing.folds import auc_within, cross_fitted, group_folds, widened
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import measured, nothing, resample, value_only, why_no_interval

Array = np.ndarray[Any, Any]

INVERSE_PENALTY = 30.0
"""scikit-learn's C, on features with variance 1 in total."""

TRACE = 1e-3
"""The least weight of a picture: where a class is taken for absent there might be none left to compare with."""


def weighed(
    labels: Array, shares: Sequence[float] | Array, wanted: Sequence[float] | Array
) -> Array:
    """Return `[n]` weights with which pictures of these labels have other shares of the classes.

    Args:
        labels: `[n]` int, places of classes.
        shares: `[classes]`, how common each class is among them, none 0.
        wanted: `[classes]`, how common it is to be.
    """
    weights: Array = np.maximum(np.asarray(wanted) / np.asarray(shares), TRACE)[labels]
    return weights


def tell_apart(
    features_a: Array,
    features_b: Array,
    groups_a: Sequence[str] | None = None,
    groups_b: Sequence[str] | None = None,
    *,
    weights_a: Array | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the AUC of a domain classifier that is cross-validated by group: 0.5 cannot tell, 1 always can.

    Use pictures on which the model did not learn, of both sites: a model knows what it learnt from, and a classifier
    tells such pictures from new ones of the very same scanner.

    Args:
        features_a: `[n, width]` float.
        features_b: `[m, width]` float.
        groups_a, groups_b: patients; None: each picture is by itself.
        weights_a: `[n]`, how much each picture of the first site counts; None: alike.
        seed: of folds and resamples.
        resamples, level: of the bootstrap, which draws whole groups within each site; classifiers are not fitted anew; see
            `folds.widened` for what that lacks.

    Returns:
        `{value, low, high}` and, where one of them is None, `reason`.

    Raises:
        RequestError: features are not equally wide, or groups do not fit.

    Reference:
        The domain classifier of Ben-David et al. 2010, doi:10.1007/s10994-009-5152-4, section 4 (proxy A-distance
        2 (1 - 2 error)), told as an AUC; intervals as Efron & Tibshirani 1993, chapter 6.
    """
    if features_a.ndim != 2 or features_b.ndim != 2 or features_a.shape[1] != features_b.shape[1]:
        raise RequestError(
            f"Features must be [pictures, width] of one width, got {features_a.shape} and {features_b.shape}."
        )
    units = _units("a", len(features_a), groups_a) + _units("b", len(features_b), groups_b)
    features = np.concatenate([features_a, features_b])
    site = np.repeat([0, 1], [len(features_a), len(features_b)])
    base = np.ones(len(site))
    if weights_a is not None:
        base[: len(features_a)] = weights_a
    folds = group_folds(site, units, seed)
    if not folds:
        return nothing("a site with one patient cannot be held out")

    def judge(learnt: Array, held_out: Array) -> Array:
        classifier = fit_domain_classifier(
            features[learnt], site[learnt],
            inverse_penalty=INVERSE_PENALTY, weights=base[learnt], balanced=True,
        )  # fmt: skip
        return classifier.log_odds(features[held_out])

    scores = cross_fitted(folds, judge, len(site))
    figure = auc_within(folds, site == 1, scores, base)
    return _with_interval(figure, units, site, seed, resamples, level)


def _with_interval(
    figure: Any, units: list[str], site: Array, seed: int, resamples: int, level: float
) -> dict[str, Any]:
    apart = [f"{place}\0{unit}" for place, unit in zip(site, units, strict=True)]
    drawn = resample(apart, [str(place) for place in site], site, seed=seed, resamples=resamples)
    value = float(drawn.value(figure))
    fewest = min(
        len({unit for unit, at in zip(units, site, strict=True) if at == a}) for a in (0, 1)
    )
    if reason := why_no_interval(fewest, " at one site"):
        return value_only(value, reason)
    return widened(measured(value, drawn.values(figure), level))


def _units(site: str, count: int, groups: Sequence[str] | None) -> list[str]:
    """Return the group of each picture; a patient who was at both sites is held out at both."""
    if groups is None:
        return [f"\0{site}{row}" for row in range(count)]
    if len(groups) != count:
        raise RequestError(f"{len(groups)} groups do not fit {count} rows of features.")
    return [group or f"\0{site}{row}" for row, group in enumerate(groups)]
