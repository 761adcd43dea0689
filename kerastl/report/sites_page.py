"""Prevalence at the target, sites that are told apart and scores by subgroup, from `scores.json` to what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerastl.evaluation.subgroups import in_order
from kerastl.report.numbers import HEADLINES, Table, figure_of, words_of
from kerastl.report.prevalence_untold import why_untold

SHARES = {
    "train": "source, training",
    "source": "source, validation",
    "em": "target, by EM",
    "bbse": "target, by BBSE",
    "true": "target, by its test labels",
}
WAYS = {
    "as_told": "as told",
    "calibrated": "calibrated on the source",
    "corrected": "and corrected for the prevalence",
}
CORRECTED = ("ece", "brier", "log_loss", "balanced_accuracy")
COUNTS = ("pictures", "groups")
BY_SUBGROUP = (*COUNTS, *HEADLINES, "ece", "brier")


def prevalence_of(
    scores: Mapping[str, Any], adaptation: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the page shows of prevalence; None for a run without a target.

    Args:
        scores: `scores.json`.
        adaptation: `adaptation.json`; empty for a run without one.
    """
    told = scores.get("label_shift")
    if not told:
        return None
    classes = told.get("classes") or {}
    order = [name for name in told.get("class_names", classes) if name in classes]
    rows = [(str(name), [figure_of(classes[name], key) for key in SHARES]) for name in order]
    rest = figure_of(told, "rest")
    return {
        "reason": told.get("reason", ""),
        "assumes": told.get("assumes", ""),
        "source": _pictures(told["source"]),
        "target": _pictures(told["target"]),
        "table": Table(list(SHARES.values()), rows),
        "differs": (told.get("differs") or {}).get("em"),
        "explained": told.get("explained"),
        "rest": rest,
        "untold": why_untold(told, adaptation),
        "correction": _correction(told.get("correction")),
    }


def _pictures(part: Mapping[str, Any]) -> str:
    return (
        f"{part['pictures']} pictures, {part['groups']} groups, of {' and '.join(part['splits'])}"
    )


def _correction(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not told:
        return None
    rows = [
        (words, [figure_of(told[way], one) for one in CORRECTED]) for way, words in WAYS.items()
    ]
    change = told["difference"]
    figures = [
        figure_of({f"{one}_difference": change[one]}, f"{one}_difference") for one in CORRECTED
    ]
    rows.append(("corrected minus as told", figures))
    return {
        "split": told["split"],
        "table": Table([words_of(one) for one in CORRECTED], rows),
        "outcomes": [
            (words_of(one), str(change[one]["outcome"]).replace("_", " ")) for one in CORRECTED
        ],
    }


def sites_of(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the page shows of sites that are told apart; None for a run of one site."""
    told = scores.get("sites")
    if not told:
        return None
    target, label = told.get("target") or {}, told.get("label")
    asked = {
        "target from source, before adaptation": target.get("before"),
        "target from source, after adaptation": target.get("after"),
    }
    domains = list((told["domains"] or {}).items())
    # To tell the first of two from the second is to tell the second from the first.
    for name, one in domains[:1] if len(domains) == 2 else domains:
        others = domains[1][0] if len(domains) == 2 else "the other sites"
        asked[f"{name} from {others}, source alone"] = one
    if label:
        asked["label from the site alone, training pictures"] = label
    rows = [(name, [figure_of({"auc": one}, "auc")]) for name, one in asked.items() if one]
    return {
        "layer": told["layer"],
        "table": Table([words_of("auc")], rows),
        "target_splits": " and ".join(target.get("target_splits", [])),
        "warnings": [str(one) for one in told["warnings"]],
    }


def subgroups_of(split: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return a table for each column of one split; none where the recipe names no columns."""
    return [
        (str(column), _by_value(values))
        for column, values in (split.get("subgroups") or {}).items()
    ]


def _by_value(values: Mapping[str, Any]) -> Table:
    present = [key for key in BY_SUBGROUP if any(key in one for one in values.values())]
    rows = [
        (value or "not given", [figure_of(values[value], key) for key in present])
        for value in in_order(values)
    ]
    return Table([words_of(key) for key in present], rows)
