"""Whether classes are rarer or commoner at the target, told apart from a shift that only looks so to the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kerastl.adaptation.choosing.class_space import ClassSpace
from kerastl.adaptation.choosing.evidence import Evidence
from kerastl.adaptation.choosing.folds import above_chance
from kerastl.adaptation.choosing.moved_classes import fit_moved_classes, starts_of
from kerastl.adaptation.choosing.told_apart import tell_apart, weighed
from kerastl.evaluation.bootstrap import interval, resample
from kerastl.evaluation.label_shift import Prevalence, estimate_prevalence

Array = np.ndarray[Any, Any]

RESAMPLES = 100
LEVEL = 0.95


def prevalence_at_target(evidence: Evidence, space: ClassSpace, *, seed: int) -> dict[str, Any]:
    """Return whether prevalence differs, with what says so.

    Estimates from answers (EM, BBSE) hold where nothing but prevalence changed. Another scanner pushes answers towards a class,
    and they take that for prevalence. So EM counts where source pictures, weighed to the new prevalence, cannot be told from the
    target's any more; otherwise the classes of the source are moved as one to fit the target, and must differ in prevalence
    beyond the interval, and BBSE, which asks answers and no places, must say the same of the class: two classes that a shift
    lays onto each other look like one that is gone and one that is commoner. Where classes overlap much and a shift lies along
    what tells them apart, few patients cannot say which of the two it was.

    Args:
        evidence: of source only.
        space: the same features.
        seed: of resamples and folds.

    Returns:
        `differs` (None: cannot tell), `rarer` and `commoner` (names of the classes that do), `source`, `em` and `bbse` (`value`, `low`, `high`: lists, a number a class; None where there is
        none), `moved_classes` (the same) and `rest`: how well the weighed source is told from the target.
    """
    val, target = evidence.known_val, evidence.target
    both = {
        name: estimate_prevalence(
            val.known_labels, val.logits, target.logits, method=name,
            source_units=val.units, target_units=target.units, seed=seed, resamples=RESAMPLES,
        )
        for name in ("em", "bbse")
    }  # fmt: skip
    em = both["em"]
    told: dict[str, Any] = {"differs": em.differs, "source": em.source.tolist()}
    told |= {name: _plain(one) for name, one in both.items()}
    moved, apart = _moved_classes(evidence, space, seed)
    if not np.isnan(both["bbse"].gap_low).any():
        apart = np.where(apart == _beyond(both["bbse"]), apart, 0)
    told |= {"rest": None, "moved_classes": moved, "rarer": [], "commoner": []}
    if em.differs is None:
        return told
    if not em.differs:
        return told | _differing(evidence.class_names, apart)
    weights = weighed(val.known_labels, em.source, em.value)
    rest = tell_apart(
        _bent(space.source), _bent(space.target), val.units, target.units,
        weights_a=weights, seed=seed,
    )  # fmt: skip
    if above_chance(rest) is False:
        apart = np.where(apart != 0, apart, _beyond(em))
    return told | {"rest": rest} | _differing(evidence.class_names, apart)


def _beyond(estimate: Prevalence) -> Array:
    """Return of each class whether it is rarer (-1) or commoner (1) at the target beyond its interval, or neither (0)."""
    signs: Array = (estimate.gap_low > 0).astype(int) - (estimate.gap_high < 0)
    return signs


def _differing(class_names: tuple[str, ...], apart: Array) -> dict[str, Any]:
    """Return which classes are rarer or commoner, from `[classes]` of -1, 0 and 1."""
    rarer, commoner = (
        [name for name, sign in zip(class_names, apart, strict=True) if sign == wanted]
        for wanted in (-1, 1)
    )
    return {"differs": bool(rarer or commoner), "rarer": rarer, "commoner": commoner}


def _moved_classes(
    evidence: Evidence, space: ClassSpace, seed: int
) -> tuple[dict[str, Any], Array]:
    """Return the prevalence by the location-scale model, and where it differs beyond its interval: -1, 0 or 1 a class."""
    val, target = evidence.known_val, evidence.target
    once = np.ones(len(space.target))
    source = np.bincount(space.labels) / len(space.labels)
    means = space.class_means(np.ones(len(space.source)))
    fitted = fit_moved_classes(space.target, starts_of(means, source, space.target), once)
    at_source = resample(
        val.units, [""] * len(val.units), space.labels, seed=seed, resamples=RESAMPLES
    )
    at_target = resample(
        target.units, [""] * len(target.units), once, seed=seed + 1, resamples=RESAMPLES
    )
    values = np.full((RESAMPLES, len(source)), np.nan)
    gaps = np.full_like(values, np.nan)
    pairs = zip(at_source.counts, at_target.counts, strict=True)
    for row, (drawn, drawn_target) in enumerate(pairs):
        weights = drawn[at_source.group_of].astype(np.float64)
        shares = np.bincount(space.labels, weights=weights, minlength=len(source)) / weights.sum()
        if (shares > 0).all():
            again = space.class_means(weights)
            starts = [replace(fitted, means=again)]
            found = fit_moved_classes(
                space.target, starts, drawn_target[at_target.group_of].astype(np.float64)
            )
            values[row], gaps[row] = found.shares, found.shares - shares
    wider = 1 - (1 - LEVEL) / (len(source) if len(source) > 2 else 1)
    told = [interval(column, level=wider) or (None, None) for column in values.T]
    apart = [interval(column, level=wider) for column in gaps.T]
    low, high = zip(*told, strict=True)
    plain = {"value": fitted.shares.tolist(), "low": list(low), "high": list(high)}
    signs = [0 if one is None else int(one[0] > 0) - int(one[1] < 0) for one in apart]
    return plain, np.array(signs)


def _bent(places: Array) -> Array:
    """Return `[n, 2 d]`: places and their squares.

    A linear classifier compares means, and weights can be found that make the means of a shifted target agree.
    """
    bent: Array = np.concatenate([places, places**2], axis=1)
    return bent


def _plain(one: Prevalence) -> dict[str, Any]:
    columns = {"value": one.value, "low": one.low, "high": one.high}
    plain: dict[str, Any] = {
        name: [None if np.isnan(number) else float(number) for number in column]
        for name, column in columns.items()
    }
    return plain | ({"reason": one.reason} if one.reason else {})
