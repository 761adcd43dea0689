"""Sensitivity at a fixed specificity and the reverse, with a threshold that validation gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.measured import Part
from kerastl.evaluation.predictions import Array, Predictions

Fixed = Literal["specificity", "sensitivity"]
SLACK = 1e-9
"""Shares that differ by less are equal: 0.9 of 10 pictures is 9 of them."""


@dataclass(frozen=True)
class Point:
    """A place on the ROC curve that is held.

    Args:
        fixed: which of the two rates is held.
        at: the least it may be, 0 to 1.
        threshold: a picture is called positive where its probability is at least this; None: validation
            gave none.
    """

    fixed: Fixed
    at: float
    threshold: float | None


def positive_class(class_names: Sequence[str], positive: str | None) -> int | None:
    """Return the place of the class that a test looks for.

    Args:
        class_names: in the order of the logits.
        positive: its name; None: the last of two classes, and no class of more.

    Raises:
        RequestError: there is no such class.
    """
    if positive is None:
        return 1 if len(class_names) == 2 else None
    if positive not in class_names:
        raise RequestError(
            f"evaluation.positive: there is no class '{positive}'. Known: {', '.join(class_names)}."
        )
    return list(class_names).index(positive)


def rates(positive: Array, scores: Array, weights: Array, *, threshold: float) -> Array:
    """Return `[resamples, 2]`: sensitivity and specificity at a threshold; NaN where a class has no weight.

    Args:
        positive: `[n]` bool.
        scores: `[n]`, higher for the positive class.
        weights: `[resamples, n]`.
        threshold: at it or above it a picture is called positive.
    """
    called = scores >= threshold
    found, cleared = _counted(weights, positive & called), _counted(weights, ~positive & ~called)
    return _shares(found, cleared, positive, weights)


def own_rates(positive: Array, scores: Array, weights: Array, *, fixed: Fixed, at: float) -> Array:
    """Return `[resamples, 3]`: sensitivity, specificity and threshold of the best place on the ROC curve.

    The best place holds the fixed rate at `at` or more and has the other rate as high as that allows; each
    resample finds its own.
    """
    levels, found, cleared = _roc(positive, scores, weights)
    if fixed == "specificity":
        place = (cleared >= (at - SLACK) * cleared[:, -1:]).argmax(axis=1)
    else:
        enough = found >= (at - SLACK) * found[:, :1]
        place = enough.shape[1] - 1 - enough[:, ::-1].argmax(axis=1)
    rows = np.arange(len(weights))
    shares = _shares(found[rows, place], cleared[rows, place], positive, weights)
    told = np.column_stack([shares, levels[place]])
    # A place that was found on one class alone means nothing.
    told[np.isnan(shares).any(axis=1)] = np.nan
    return told


def _roc(positive: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return every threshold, and `[resamples, thresholds]` weight of positives at or above, of negatives below."""
    order = np.argsort(scores, kind="stable")
    ranked, drawn = scores[order], weights[:, order]
    known, first = np.unique(ranked, return_index=True)
    levels = np.append(known, np.nextafter(known[-1], np.inf))
    first = np.append(first, len(ranked))
    below = np.zeros((2, len(weights), len(ranked) + 1))
    np.cumsum(drawn * positive[order], axis=1, out=below[0][:, 1:])
    np.cumsum(drawn * ~positive[order], axis=1, out=below[1][:, 1:])
    return levels, below[0][:, -1:] - below[0][:, first], below[1][:, first]


def _counted(weights: Array, members: Array) -> Array:
    counted: Array = weights @ members.astype(np.float64)
    return counted


def _shares(found: Array, cleared: Array, positive: Array, weights: Array) -> Array:
    counts = np.stack([found, cleared], axis=1)
    of_class = np.stack([_counted(weights, positive), _counted(weights, ~positive)], axis=1)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, of_class, out=shares, where=of_class > 0)
    return shares


def points_from(
    validation: Predictions | None, positive: int, *, specificity: float, sensitivity: float
) -> list[Point]:
    """Return the two points, with the thresholds that the labelled validation pictures give."""
    wanted: list[tuple[Fixed, float]] = [("specificity", specificity), ("sensitivity", sensitivity)]
    return [Point(fixed, at, _threshold(validation, positive, fixed, at)) for fixed, at in wanted]


def _threshold(
    validation: Predictions | None, positive: int, fixed: Fixed, at: float
) -> float | None:
    if validation is None:
        return None
    is_positive, scores = _binary(validation, positive)
    if is_positive.all() or not is_positive.any():
        return None
    weights = np.ones((1, len(scores)))
    return float(own_rates(is_positive, scores, weights, fixed=fixed, at=at)[0, 2])


def _binary(one: Predictions, positive: int) -> tuple[Array, Array]:
    return one.labels == positive, one.probabilities[:, positive]


COLUMNS = (
    "sensitivity", "specificity", "own_sensitivity", "own_specificity", "own_threshold",
    "sensitivity_difference", "specificity_difference",
)  # fmt: skip


def point_of(part: Part, positive: int, point: Point) -> dict[str, Any]:
    """Return what one threshold of validation comes to on other pictures, and what carrying it over costs.

    Returns:
        `{"sensitivity", "specificity"}` at validation's threshold; `{"own_sensitivity",
        "own_specificity", "own_threshold"}` at the threshold that the labels of these very pictures would
        have given; `{"sensitivity_difference", "specificity_difference"}`, the first minus the second, drawn
        alike. Intervals hold validation's threshold as it is; the own one is found anew in each resample.
    """
    is_positive, scores = _binary(part.predictions, positive)

    def figure(weights: Array) -> Array:
        own = own_rates(is_positive, scores, weights, fixed=point.fixed, at=point.at)
        carried = np.full((len(weights), 2), np.nan)
        if point.threshold is not None:
            carried = rates(is_positive, scores, weights, threshold=point.threshold)
        return np.column_stack([carried, own, carried - own[:, :2]])

    return dict(zip(COLUMNS, part.tell_columns(figure, _why_undefined(is_positive)), strict=True))


def _why_undefined(is_positive: Array) -> str:
    if not is_positive.any():
        return "no picture of the positive class"
    if is_positive.all():
        return "no picture of another class"
    return "no threshold: validation has no labelled pictures of both kinds"
