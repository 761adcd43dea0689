"""Operating points, calibration and their curves, from one split of `scores.json` to what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerastl.report.hospital_charts import decision_chart, reliability_chart
from kerastl.report.numbers import Table, figure_of, table_of

OWN = ("own_sensitivity", "own_specificity")
AT_THRESHOLD = ("sensitivity", "specificity", *OWN)
COSTS = ("sensitivity_difference", "specificity_difference")
HEADS = [
    "sensitivity", "specificity", "sensitivity, own threshold", "specificity, own threshold",
    "sensitivity, difference", "specificity, difference",
]  # fmt: skip
CALIBRATION = ("ece", "brier", "log_loss")


def hospital_of(split: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the page shows beside the scores of one split; None for a run that has nothing of it."""
    if "operating_points" not in split:
        return None
    points, calibration = split["operating_points"], split["calibration"]
    temperature = calibration["temperature"]
    charts = [
        ("Reliability curve", reliability_chart(split["reliability"])),
        ("Decision curve", decision_chart(split["decision_curve"])),
    ]
    return {
        "positive": points.get("positive"),
        "reason": points.get("reason", ""),
        "points": [_point(one) for one in points["points"]],
        "from": points.get("threshold_from", "val"),
        "temperature": temperature.get("value"),
        "why": temperature.get("reason", ""),
        "bins": calibration["bins"],
        "calibration": _calibration(split),
        "charts": [(title, chart) for title, chart in charts if chart],
    }


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return one operating point: the whole first, then each domain where there are several."""
    rows = _places(point)
    order = (*AT_THRESHOLD, *COSTS)
    figures = [
        (name, [figure_of(found, metric) for metric in order]) for name, found in rows.items()
    ]
    threshold = point.get("threshold")
    return {
        "fixed": point["fixed"],
        "at": f"{point['at']:g}",
        "threshold": None if threshold is None else f"{threshold:.3f}",
        "table": Table(HEADS, figures),
    }


def _calibration(split: Mapping[str, Any]) -> Table:
    """Return ECE, Brier score and log loss, as told and with the temperature."""
    scaled = _places(split["calibration"])
    plain = _places(split)
    rows = {}
    for name, found in plain.items():
        rows[f"{name}, as told"] = {metric: found.get(metric) for metric in CALIBRATION}
        rows[f"{name}, with the temperature"] = scaled.get(name, {})
    return table_of(rows)


def _places(content: Mapping[str, Any]) -> dict[str, Any]:
    domains = content["domains"] if len(content["domains"]) > 1 else {}
    return {"all pictures": content["overall"], **domains}
