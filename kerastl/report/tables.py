"""Tables of the report, from the content of `scores.json` and `freeze.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerastl.data.records import pluralize
from kerastl.evaluation.subgroups import sort_values
from kerastl.report.figures import decision_chart, reliability_chart
from kerastl.tasks import SINGLE_LABEL

HEADLINES = ("group_auc", "balanced_accuracy", "auc", "accuracy")
SPLIT_ORDER = ("target_test", "test", "target_val", "val", "train")
METRIC_TITLES = {**SINGLE_LABEL.metric_titles, "ece": "ECE", "f1": "F1", "support": "images"}
UNBOUNDED = {"log_loss", "support", "images", "groups"}


@dataclass(frozen=True)
class MetricCell:
    """A metric with its interval.

    Args:
        value, low, high: None if unavailable.
        reason: Why there is no value or interval; may be empty.
        has_bar: Whether the metric is between 0 and 1 and can be drawn as a bar.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str
    has_bar: bool

    @property
    def text(self) -> str:
        """The value as `0.912` or `600`, or a dash."""
        if self.value is None:
            return "\N{EN DASH}"
        if float(self.value).is_integer() and not self.has_bar:
            return f"{self.value:,.0f}"
        return f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        """The interval as `0.871 to 0.948`, or an empty text."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.3f} to {self.high:.3f}"

    @property
    def left_percent(self) -> float:
        """Start of the interval in percent of the bar."""
        return round(100 * min(max(self.low or 0.0, 0.0), 1.0), 1)

    @property
    def width_percent(self) -> float:
        """Width of the interval in percent of the bar."""
        end = 100 * min(max(self.high or 0.0, 0.0), 1.0)
        return round(max(end - self.left_percent, 0.0), 1)

    @property
    def value_percent(self) -> float:
        """Position of the value in percent of the bar."""
        return round(100 * min(max(self.value or 0.0, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Table:
    """A table of metrics.

    Args:
        columns: Titles of the metrics.
        rows: (name, cells) pairs.
    """

    columns: list[str]
    rows: list[tuple[str, list[MetricCell]]]


def metric_cell(metrics: Mapping[str, Any], name: str) -> MetricCell:
    """Return the cell of one metric."""
    content = metrics.get(name)
    entry = content if isinstance(content, Mapping) else {}
    value, low, high = (_float(entry.get(key)) for key in ("value", "low", "high"))
    return MetricCell(value, low, high, str(entry.get("reason") or ""), _has_bar(name))


def _has_bar(name: str) -> bool:
    return name not in UNBOUNDED and not name.endswith("_difference")


def _float(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def metric_title(name: str) -> str:
    """Return the title of a metric."""
    return METRIC_TITLES.get(name, name.replace("_", " "))


def metric_table(rows: Mapping[str, Any]) -> Table:
    """Return a table with one row per name and one column per metric."""
    usable = {name: metrics for name, metrics in rows.items() if isinstance(metrics, Mapping)}
    names = list(dict.fromkeys(metric for metrics in usable.values() for metric in metrics))
    order = [name for name in HEADLINES if name in names]
    order += [name for name in names if name not in order]
    cells = [
        (str(name), [metric_cell(metrics, metric) for metric in order]) for name, metrics in usable.items()
    ]
    return Table([metric_title(name) for name in order], cells)


def evaluated_splits(scores: Mapping[str, Any]) -> list[str]:
    """Return the splits that have scores, the most important first."""
    splits = [
        name for name, content in scores.items() if isinstance(content, Mapping) and "overall" in content
    ]
    known = [name for name in SPLIT_ORDER if name in splits]
    return known + [name for name in splits if name not in known]


def headline_of(metrics: Mapping[str, Any]) -> tuple[str, MetricCell] | None:
    """Return the title and the cell of the headline metric."""
    for name in HEADLINES:
        cell = metric_cell(metrics, name)
        if cell.value is not None:
            return metric_title(name), cell
    return None


def confusion_rows(split: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (true class, [(count, fraction of the row), ...]) per row; empty if there is no confusion matrix."""
    names: Sequence[Any] = split.get("class_names") or []
    counts: Sequence[Any] = split.get("confusion") or []
    rows = []
    for name, row in zip(names, counts, strict=False):
        total = sum(row) or 1
        rows.append((str(name), [(int(count), round(count / total, 3)) for count in row]))
    return rows


NORM = re.compile(r"(^|_)(bn|batch_?norm\w*|norm\w*)(_|\d|$)", re.IGNORECASE)
ABSENT = "absent"


@dataclass
class LayerRow:
    """Adjacent layers with the same states.

    Args:
        first, last: Names of layers.
        count: Number of layers with weights.
        others: State per phase of layers other than BatchNorm; None if there are none.
        norms: The same for BatchNorm layers.
    """

    first: str
    last: str
    count: int = 0
    others: tuple[str, ...] | None = None
    norms: tuple[str, ...] | None = field(default=None)

    def add(self, name: str, states: tuple[str, ...]) -> bool:
        """Add a layer if its states are those of the row, and return whether it was added."""
        is_norm = bool(NORM.search(name))
        known = self.norms if is_norm else self.others
        if known is not None and known != states:
            return False
        if is_norm:
            self.norms = states
        else:
            self.others = states
        self.last, self.count = name, self.count + 1
        return True

    @property
    def cells(self) -> list[str]:
        """One text per phase."""
        if self.others is None or self.norms is None or self.others == self.norms:
            return list(self.others or self.norms or ())
        pairs = zip(self.others, self.norms, strict=True)
        return [other if other == norm else f"{other}; BatchNorm {norm}" for other, norm in pairs]


def frozen_table(freeze: dict[str, Any]) -> tuple[list[str], list[LayerRow]]:
    """Return the names of the phases and the rows of layers of `freeze.json`."""
    phases = [phase for phase in freeze.get("phases", []) if isinstance(phase, dict)]
    by_phase = [{layer["layer"]: layer for layer in phase.get("layers", [])} for phase in phases]
    rows: list[LayerRow] = []
    for name in dict.fromkeys(name for layers in by_phase for name in layers):
        states = tuple(_state(layers.get(name)) for layers in by_phase)
        if not rows or not rows[-1].add(name, states):
            rows.append(LayerRow(name, name))
            rows[-1].add(name, states)
    return [str(phase.get("phase", "")) for phase in phases], rows


def cached_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line per phase that was trained on cached features."""
    return [
        f"{phase['phase']}: the output of the layers up to {cache['boundary']} was computed once per image and cached as "
        f"{cache['precision']}, {cache['bytes'] / 1e6:,.1f} MB"
        + (f", for {cache['views']} augmented views of each training image" if cache["views"] > 1 else "")
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (cache := phase.get("cache"))
    ]


def rounded_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line per phase whose frozen layers did not compute in float32, with the effect on the scores."""
    return [
        f"{phase['phase']}: the layers up to {trunk['boundary']} were computed in {trunk['precision']}; "
        + _changed(trunk)
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (trunk := phase.get("trunk"))
    ]


def _changed(trunk: dict[str, Any]) -> str:
    exact, rounded = trunk["float32"], trunk["rounded"]
    if not exact:
        return "the effect is unknown without validation images"
    titles = {"val_balanced_accuracy": "balanced accuracy", "val_auc": "AUC", "val_loss": "loss"}
    metrics = [
        f"{title} {rounded[name]:.4f}, in float32 {exact[name]:.4f}"
        for name, title in titles.items()
        if exact.get(name) is not None and rounded.get(name) is not None
    ]
    return f"with the kept weights on the validation images: {'; '.join(metrics)}"


def _state(layer: dict[str, Any] | None) -> str:
    if layer is None:
        return ABSENT
    if layer.get("trainable"):
        return "trained" if layer.get("changed") else "trainable, unchanged"
    if layer.get("changed"):
        return "CHANGED although frozen"
    return "statistics updated" if layer.get("statistics_changed") else "frozen"


PASSED, FAULT, SKIPPED = "passed", "FAULT", "skipped"


@dataclass(frozen=True)
class CheckRow:
    """One consistency check.

    Args:
        name: The check, and its phase or export.
        outcome: `passed`, `FAULT` or `skipped`.
        details: One line with the measured values, or with what is wrong.
    """

    name: str
    outcome: str
    details: str


def check_rows(freeze: dict[str, Any]) -> list[CheckRow]:
    """Return one row per check in `freeze.json`, those of the phases first."""
    rows = [row for phase in _phases(freeze) for row in _phase_rows(phase)]
    passes = freeze.get("determinism")
    if passes:
        details = f"{pluralize(passes['images'], 'image')}: the logits are bit-equal"
        rows.append(_row("validation images predicted twice", passes, details))
    for name, record in (freeze.get("exports") or {}).items():
        rows += _export_rows(name, record)
    return rows


def parameter_table(freeze: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names of the phases, and the number of trained parameters per block and phase.

    Blocks without parameters are omitted. The last row is the whole model.
    """
    phases = [phase for phase in _phases(freeze) if phase.get("parameters")]
    rows: dict[str, list[str]] = {}
    for phase in phases:
        counted = phase["parameters"]
        for row in [*counted["blocks"], {"block": "whole model", **counted}]:
            if row["total"]:
                cell = f"{row['trained']:,} of {row['total']:,}"
                rows.setdefault(str(row["block"]), []).append(cell)
    return [str(phase.get("phase", "")) for phase in phases], list(rows.items())


def _phases(freeze: dict[str, Any]) -> list[dict[str, Any]]:
    return [phase for phase in freeze.get("phases", []) if isinstance(phase, dict)]


def _row(name: str, record: dict[str, Any], details: str) -> CheckRow:
    """Return the row of a record with `faults`, and with `reason` if the check was skipped."""
    faults = [str(fault) for fault in record.get("faults") or ()]
    if faults:
        return CheckRow(name, FAULT, "; ".join(faults))
    if record.get("reason"):
        return CheckRow(name, SKIPPED, str(record["reason"]))
    return CheckRow(name, PASSED, details)


def _phase_rows(phase: dict[str, Any]) -> list[CheckRow]:
    layers = phase.get("layers", [])
    trainable = sum(bool(layer.get("trainable")) for layer in layers)
    name = str(phase.get("phase", ""))
    others = len(layers) - trainable
    details = f"{pluralize(trainable, 'layer')} trained; " + (
        f"the weights of {pluralize(others, 'other')} are unchanged" if others else "none was frozen"
    )
    rows = [_row(f"{name}: frozen weights are unchanged", phase, details)]
    statistics = phase.get("batch_norm")
    if statistics and statistics["layers"]:
        has_fault = statistics["rule"] == "frozen" and statistics["changed"]
        rows.append(
            CheckRow(
                f"{name}: batch_norm {statistics['rule']}",
                FAULT if has_fault else PASSED,
                _statistics_details(statistics),
            )
        )
    return rows


def _statistics_details(statistics: dict[str, Any]) -> str:
    count, changed, largest = statistics["layers"], statistics["changed"], statistics["largest"]
    if not changed:
        return f"the statistics of {pluralize(count, 'BatchNorm layer')} are unchanged"
    size = largest["deviations"]
    return (
        f"the statistics of {changed} of {pluralize(count, 'BatchNorm layer')} changed, by up to "
        f"{'an infinite number of' if size is None else f'{size:.3g}'} running standard deviations: "
        f"{largest['statistic']} of {largest['layer']}, channel {largest['channel']}"
    )


def _export_rows(name: str, record: dict[str, Any]) -> list[CheckRow]:
    title = f"export {name}"
    pixels, predictions = record.get("pixels"), record.get("predictions")
    if record.get("faults") or record.get("reason") or not predictions:
        return [_row(title, record, "")]
    files = f"{record['files']} {record['split']} files"
    if not pixels or not pixels["compared"]:
        first = CheckRow(f"{title}: pixels", SKIPPED, str((pixels or {}).get("reason", "")))
    else:
        details = f"{files}: the pixels in the exported graph are bit-equal to those in training"
        first = CheckRow(f"{title}: pixels", PASSED, details)
    allowed = predictions["allowed"]
    bound = f"labels that differ: {predictions['differ']}" if allowed is None else f"{allowed:g} is allowed"
    gap = f"probabilities differ from those of the run by up to {predictions['largest_difference']:.1e}, {bound}"
    return [first, CheckRow(f"{title}: predictions", PASSED, f"{files}: {gap}")]


def doubt_about_estimates(shift: Mapping[str, Any], adaptation: Mapping[str, Any]) -> str:
    """Return why the prevalence estimates could not be checked; empty if they were.

    Args:
        shift: `label_shift` of `scores.json`.
        adaptation: Content of `adaptation.json`, empty for a run without adaptation.
    """
    guard = (adaptation.get("guards") or {}).get("other_prevalence")
    if guard and guard["fired"] is None:
        return str(guard["reason"])
    if "explained" in shift and shift["explained"] is None:
        reason = (shift.get("rest") or {}).get("reason")
        doubt = "it is unknown whether the sites differ by more than prevalence"
        return f"{doubt} ({reason})" if reason else doubt
    return ""


SHARES = {
    "train": "source, training",
    "source": "source, validation",
    "em": "target, by EM",
    "bbse": "target, by BBSE",
    "true": "target, by its test labels",
}
STAGES = {
    "uncalibrated": "uncalibrated",
    "calibrated": "calibrated on the source",
    "corrected": "calibrated and corrected for the prevalence",
}
CORRECTED = ("ece", "brier", "log_loss", "balanced_accuracy")
COUNTS = ("images", "groups")
BY_SUBGROUP = (*COUNTS, *HEADLINES, "ece", "brier")


def prevalence_section(scores: Mapping[str, Any], adaptation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of the prevalence section; None for a run without a target.

    Args:
        scores: Content of `scores.json`.
        adaptation: Content of `adaptation.json`, empty for a run without adaptation.
    """
    shift = scores.get("label_shift")
    if not shift:
        return None
    classes = shift.get("classes") or {}
    order = [name for name in shift.get("class_names", classes) if name in classes]
    rows = [(str(name), [metric_cell(classes[name], key) for key in SHARES]) for name in order]
    rest = metric_cell(shift, "rest")
    return {
        "reason": shift.get("reason", ""),
        "assumes": shift.get("assumes", ""),
        "source": _images(shift["source"]),
        "target": _images(shift["target"]),
        "table": Table(list(SHARES.values()), rows),
        "differs": (shift.get("differs") or {}).get("em"),
        "explained": shift.get("explained"),
        "rest": rest,
        "doubt": doubt_about_estimates(shift, adaptation),
        "correction": _correction(shift.get("correction")),
    }


def _images(part: Mapping[str, Any]) -> str:
    return f"{part['images']} images, {part['groups']} groups, of {' and '.join(part['splits'])}"


def _correction(correction: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not correction:
        return None
    rows = [
        (title, [metric_cell(correction[stage], metric) for metric in CORRECTED])
        for stage, title in STAGES.items()
    ]
    changes = correction["difference"]
    cells = [metric_cell({f"{name}_difference": changes[name]}, f"{name}_difference") for name in CORRECTED]
    rows.append(("corrected minus uncalibrated", cells))
    return {
        "split": correction["split"],
        "table": Table([metric_title(metric) for metric in CORRECTED], rows),
        "outcomes": [
            (metric_title(metric), str(changes[metric]["outcome"]).replace("_", " ")) for metric in CORRECTED
        ],
    }


def site_section(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of the section on domain classifiers; None for a run of one site."""
    sites = scores.get("sites")
    if not sites:
        return None
    target, label = sites.get("target") or {}, sites.get("label")
    aucs = {
        "target against source, before adaptation": target.get("before"),
        "target against source, after adaptation": target.get("after"),
    }
    domains = list((sites["domains"] or {}).items())
    # With two domains, one row is enough.
    for name, auc in domains[:1] if len(domains) == 2 else domains:
        others = domains[1][0] if len(domains) == 2 else "the other sites"
        aucs[f"{name} against {others}, source only"] = auc
    if label:
        aucs["label from the site, training images"] = label
    rows = [(name, [metric_cell({"auc": auc}, "auc")]) for name, auc in aucs.items() if auc]
    return {
        "layer": sites["layer"],
        "table": Table([metric_title("auc")], rows),
        "target_splits": " and ".join(target.get("target_splits", [])),
        "warnings": [str(warning) for warning in sites["warnings"]],
    }


def subgroup_tables(split: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return one table per subgroup column of a split."""
    return [(str(column), _by_value(values)) for column, values in (split.get("subgroups") or {}).items()]


def _by_value(values: Mapping[str, Any]) -> Table:
    present = [key for key in BY_SUBGROUP if any(key in metrics for metrics in values.values())]
    rows = [
        (value or "not given", [metric_cell(values[value], key) for key in present])
        for value in sort_values(values)
    ]
    return Table([metric_title(key) for key in present], rows)


OWN = ("own_sensitivity", "own_specificity")
AT_THRESHOLD = ("sensitivity", "specificity", *OWN)
COSTS = ("sensitivity_difference", "specificity_difference")
OPERATING_POINT_TITLES = [
    "sensitivity", "specificity", "sensitivity, own threshold", "specificity, own threshold",
    "sensitivity, difference", "specificity, difference",
]  # fmt: skip
CALIBRATION = ("ece", "brier", "log_loss")


def clinical_section(split: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return operating points, calibration and decision curve of a split, if it has them."""
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
        "points": [_operating_point(point) for point in points["points"]],
        "from": points.get("threshold_from", "val"),
        "temperature": temperature.get("value"),
        "reason_without_temperature": temperature.get("reason", ""),
        "bins": calibration["bins"],
        "calibration": _calibration(split),
        "charts": [(title, chart) for title, chart in charts if chart],
    }


def _operating_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of one operating point: all images, then each domain if there are several."""
    rows = _overall_and_domains(point)
    order = (*AT_THRESHOLD, *COSTS)
    cells = [(name, [metric_cell(metrics, metric) for metric in order]) for name, metrics in rows.items()]
    threshold = point.get("threshold")
    return {
        "fixed": point["fixed"],
        "at": f"{point['at']:g}",
        "threshold": None if threshold is None else f"{threshold:.3f}",
        "table": Table(OPERATING_POINT_TITLES, cells),
    }


def _calibration(split: Mapping[str, Any]) -> Table:
    """Return ECE, Brier score and log loss, without and with the temperature."""
    scaled = _overall_and_domains(split["calibration"])
    plain = _overall_and_domains(split)
    rows = {}
    for name, metrics in plain.items():
        rows[f"{name}, uncalibrated"] = {metric: metrics.get(metric) for metric in CALIBRATION}
        rows[f"{name}, calibrated"] = scaled.get(name, {})
    return metric_table(rows)


def _overall_and_domains(content: Mapping[str, Any]) -> dict[str, Any]:
    domains = content["domains"] if len(content["domains"]) > 1 else {}
    return {"all images": content["overall"], **domains}
