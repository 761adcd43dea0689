"""Every overall figure of predictions by its name, and why one has no value."""

from __future__ import annotations

from functools import partial

from kerastl.evaluation.bootstrap import Figure
from kerastl.evaluation.groups import group_auc_of, groups_disagree
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import Predictions

GROUP_AUC = "group_auc"


def figures_of(one: Predictions) -> dict[str, Figure]:
    """Return every overall figure by its name, each a function of the pictures' weights."""
    figures: dict[str, Figure] = {
        name: partial(metric, one.labels, one.probabilities) for name, metric in OVERALL.items()
    }
    if any(one.groups):
        figures[GROUP_AUC] = group_auc_of(one)
    return figures


def why_undefined(one: Predictions, metric: str) -> str:
    """Return why an overall figure has no value."""
    if metric == GROUP_AUC and groups_disagree(one):
        return "a group has pictures of more than one class"
    present = set(one.labels.tolist())
    absent = [name for place, name in enumerate(one.class_names) if place not in present]
    return f"no picture of {', '.join(absent[:5])}" if absent else "no pictures"
