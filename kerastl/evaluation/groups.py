"""The AUC of groups: one answer a patient, the mean of the answers for all of his pictures."""

from __future__ import annotations

import numpy as np

from kerastl.evaluation.bootstrap import Figure, group_names
from kerastl.evaluation.metrics import auc
from kerastl.evaluation.predictions import Array, Predictions


def units_of(one: Predictions) -> list[str]:
    """Return what is drawn together: the group of each picture within its domain, or the picture."""
    return group_names(one.groups, one.domains, one.paths)


def groups_disagree(one: Predictions) -> bool:
    """Tell whether some group has pictures of more than one class."""
    _, first, place = np.unique(np.asarray(units_of(one)), return_index=True, return_inverse=True)
    return bool((one.labels[first][place] != one.labels).any())


def group_auc_of(one: Predictions) -> Figure:
    """Return the AUC of groups as a function of the pictures' weights.

    NaN where a group has pictures of more than one class, as it then has no label.
    """
    _, first, place = np.unique(np.asarray(units_of(one)), return_index=True, return_inverse=True)
    labels = one.labels[first]
    if (labels[place] != one.labels).any():
        return lambda weights: np.full(len(weights), np.nan)
    sums = np.zeros((len(first), len(one.class_names)))
    np.add.at(sums, place, one.probabilities)
    means = sums / np.bincount(place)[:, None]

    def figure(weights: Array) -> Array:
        # All pictures of a group are drawn together: the first one's weight is the group's.
        return auc(labels, means, weights[:, first])

    return figure
