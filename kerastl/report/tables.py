"""From the content of `scores.json` to the rows of tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerastl.data.records import pluralize
from kerastl.evaluation.subgroups import sort_values
from kerastl.report.figures import decision_chart, reliability_chart

HEADLINES = ("group_auc", "balanced_accuracy", "auc", "accuracy")
SPLIT_ORDER = ("target_test", "test", "target_val", "val", "train")
WORDS = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "ece": "ECE",
    "f1": "F1",
    "groups": "groups",
    "group_auc": "AUC by group",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
    "precision": "precision",
    "recall": "recall",
    "support": "images",
}
UNBOUNDED = {"log_loss", "support", "images", "groups"}


@dataclass(frozen=True)
class Figure:
    """One number with its interval.

    Args:
        value, low, high: None where not known.
        reason: why there is no value or interval; may be empty.
        has_bar: whether it lies between 0 and 1, so that it can be drawn.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str
    has_bar: bool

    @property
    def text(self) -> str:
        """`0.912`, `600`, or a dash."""
        if self.value is None:
            return "\N{EN DASH}"
        if float(self.value).is_integer() and not self.has_bar:
            return f"{self.value:,.0f}"
        return f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        """`0.871 to 0.948`, or nothing."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.3f} to {self.high:.3f}"

    @property
    def left_percent(self) -> float:
        """Where the interval begins on a scale from 0 to 1."""
        return round(100 * min(max(self.low or 0.0, 0.0), 1.0), 1)

    @property
    def width_percent(self) -> float:
        """How long the interval is on that scale."""
        end = 100 * min(max(self.high or 0.0, 0.0), 1.0)
        return round(max(end - self.left_percent, 0.0), 1)

    @property
    def value_percent(self) -> float:
        """Where the value lies on that scale."""
        return round(100 * min(max(self.value or 0.0, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Args:
        columns: names of metrics, in words.
        rows: `(name, figures)`; a figure that a row lacks is a dash.
    """

    columns: list[str]
    rows: list[tuple[str, list[Figure]]]


def figure_of(metrics: Mapping[str, Any], name: str) -> Figure:
    """Return one metric of an M object; a dash where it is missing."""
    found = metrics.get(name)
    entry = found if isinstance(found, Mapping) else {}
    value, low, high = (_float(entry.get(key)) for key in ("value", "low", "high"))
    return Figure(value, low, high, str(entry.get("reason") or ""), _has_bar(name))


def _has_bar(name: str) -> bool:
    return name not in UNBOUNDED and not name.endswith("_difference")


def _float(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def words_of(name: str) -> str:
    """Return a metric's name as people write it."""
    return WORDS.get(name, name.replace("_", " "))


def table_of(rows: Mapping[str, Any]) -> Table:
    """Return a table with a row a name and a column for each metric that any of them has."""
    usable = {name: metrics for name, metrics in rows.items() if isinstance(metrics, Mapping)}
    found = list(dict.fromkeys(metric for metrics in usable.values() for metric in metrics))
    order = [name for name in HEADLINES if name in found]
    order += [name for name in found if name not in order]
    figures = [
        (str(name), [figure_of(metrics, metric) for metric in order]) for name, metrics in usable.items()
    ]
    return Table([words_of(name) for name in order], figures)


def judged_splits(scores: Mapping[str, Any]) -> list[str]:
    """Return the splits that have scores, the most telling first."""
    found = [name for name, one in scores.items() if isinstance(one, Mapping) and "overall" in one]
    known = [name for name in SPLIT_ORDER if name in found]
    return known + [name for name in found if name not in known]


def headline_of(metrics: Mapping[str, Any]) -> tuple[str, Figure] | None:
    """Return the metric that says most, in words, with its figure."""
    for name in HEADLINES:
        figure = figure_of(metrics, name)
        if figure.value is not None:
            return words_of(name), figure
    return None


def confusion_rows(split: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return `(true class, [(count, share of the row), ...])`; none when there is no such table."""
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
    """Neighbouring layers that fared alike.

    Args:
        first, last: names of layers.
        count: number of layers with weights.
        others: a word a phase, for layers that are no BatchNorm; None: there is none in the row.
        norms: the same for BatchNorm.
    """

    first: str
    last: str
    count: int = 0
    others: tuple[str, ...] | None = None
    norms: tuple[str, ...] | None = field(default=None)

    def takes(self, name: str, words: tuple[str, ...]) -> bool:
        """Add a layer when it fared like those of its kind in the row."""
        is_norm = bool(NORM.search(name))
        known = self.norms if is_norm else self.others
        if known is not None and known != words:
            return False
        if is_norm:
            self.norms = words
        else:
            self.others = words
        self.last, self.count = name, self.count + 1
        return True

    @property
    def cells(self) -> list[str]:
        """One text a phase."""
        if self.others is None or self.norms is None or self.others == self.norms:
            return list(self.others or self.norms or ())
        pairs = zip(self.others, self.norms, strict=True)
        return [one if one == norm else f"{one}; BatchNorm {norm}" for one, norm in pairs]


def frozen_table(freeze: dict[str, Any]) -> tuple[list[str], list[LayerRow]]:
    """Return the names of the phases and the rows for the content of `freeze.json`."""
    phases = [phase for phase in freeze.get("phases", []) if isinstance(phase, dict)]
    by_phase = [{layer["layer"]: layer for layer in phase.get("layers", [])} for phase in phases]
    rows: list[LayerRow] = []
    for name in dict.fromkeys(name for layers in by_phase for name in layers):
        words = tuple(_word(layers.get(name)) for layers in by_phase)
        if not rows or not rows[-1].takes(name, words):
            rows.append(LayerRow(name, name))
            rows[-1].takes(name, words)
    return [str(phase.get("phase", "")) for phase in phases], rows


def cached_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line for each phase that learnt from what the frozen layers had made once."""
    return [
        f"{phase['phase']}: the layers up to {kept['boundary']} saw each image once; what they made of it was kept as "
        f"{kept['precision']}, {kept['bytes'] / 1e6:,.1f} MB"
        + (f", in {kept['views']} augmented views of each training image" if kept["views"] > 1 else "")
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (kept := phase.get("cache"))
    ]


def rounded_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line for each phase whose frozen layers did not compute in float32: what that changed."""
    return [
        f"{phase['phase']}: the layers up to {trunk['boundary']} computed in {trunk['precision']}; "
        + _changed(trunk)
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (trunk := phase.get("trunk"))
    ]


def _changed(trunk: dict[str, Any]) -> str:
    exact, rounded = trunk["float32"], trunk["rounded"]
    if not exact:
        return "there were no validation images to tell what that changed"
    words = {"val_balanced_accuracy": "balanced accuracy", "val_auc": "AUC", "val_loss": "loss"}
    told = [
        f"{word} {rounded[name]:.4f}, in float32 {exact[name]:.4f}"
        for name, word in words.items()
        if exact.get(name) is not None and rounded.get(name) is not None
    ]
    return f"on the validation images, with the weights that were kept: {'; '.join(told)}"


def _word(layer: dict[str, Any] | None) -> str:
    if layer is None:
        return ABSENT
    if layer.get("trainable"):
        return "trained" if layer.get("changed") else "trainable, did not move"
    if layer.get("changed"):
        return "MOVED though frozen"
    return "statistics followed" if layer.get("statistics_changed") else "frozen"


HOLDS, FAULT, NOT_MADE = "holds", "FAULT", "not made"


@dataclass(frozen=True)
class ProofRow:
    """One proof.

    Args:
        name: what was to be proven, and of which phase or export.
        outcome: `holds`, `FAULT` or `not made`.
        seen: one line: the figures, or what is wrong.
    """

    name: str
    outcome: str
    seen: str


def proof_rows(freeze: dict[str, Any]) -> list[ProofRow]:
    """Return one row for each proof in the content of `freeze.json`, phases first."""
    rows = [row for phase in _phases(freeze) for row in _phase_rows(phase)]
    passes = freeze.get("determinism")
    if passes:
        seen = f"{pluralize(passes['images'], 'image')}: the logits are equal to the byte"
        rows.append(_row("validation predicted twice", passes, seen))
    for name, told in (freeze.get("exports") or {}).items():
        rows += _export_rows(name, told)
    return rows


def parameter_table(freeze: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names of the phases, and for each block how many of its parameters each phase trained.

    Blocks without a parameter are left out; the last row is the whole model.
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


def _row(name: str, told: dict[str, Any], seen: str) -> ProofRow:
    """Return the row of a record that has `faults`, and `reason` where nothing was proven."""
    faults = [str(fault) for fault in told.get("faults") or ()]
    if faults:
        return ProofRow(name, FAULT, "; ".join(faults))
    if told.get("reason"):
        return ProofRow(name, NOT_MADE, str(told["reason"]))
    return ProofRow(name, HOLDS, seen)


def _phase_rows(phase: dict[str, Any]) -> list[ProofRow]:
    layers = phase.get("layers", [])
    learnt = sum(bool(layer.get("trainable")) for layer in layers)
    name = str(phase.get("phase", ""))
    others = len(layers) - learnt
    seen = f"{pluralize(learnt, 'layer')} learnt; " + (
        f"the weights of {pluralize(others, 'other')} are the same before and after"
        if others
        else "none was frozen"
    )
    rows = [_row(f"{name}: what is frozen does not move", phase, seen)]
    statistics = phase.get("batch_norm")
    if statistics and statistics["layers"]:
        strayed = statistics["rule"] == "frozen" and statistics["changed"]
        rows.append(
            ProofRow(
                f"{name}: batch_norm {statistics['rule']}",
                FAULT if strayed else HOLDS,
                _moved_words(statistics),
            )
        )
    return rows


def _moved_words(statistics: dict[str, Any]) -> str:
    count, moved, largest = statistics["layers"], statistics["changed"], statistics["largest"]
    if not moved:
        return f"the statistics of {pluralize(count, 'BatchNorm layer')} are the same before and after"
    size = largest["deviations"]
    return (
        f"the statistics of {moved} of {pluralize(count, 'BatchNorm layer')} moved, at most by "
        f"{'no finite number of' if size is None else f'{size:.3g}'} moving standard deviations: "
        f"{largest['statistic']} of {largest['layer']}, channel {largest['channel']}"
    )


def _export_rows(name: str, told: dict[str, Any]) -> list[ProofRow]:
    what = f"export {name}"
    pixels, answers = told.get("pixels"), told.get("predictions")
    if told.get("faults") or told.get("reason") or not answers:
        return [_row(what, told, "")]
    files = f"{told['files']} {told['split']} files"
    looked = "pixels in the served graph are the pipeline's to the bit"
    if not pixels or not pixels["compared"]:
        seen = str((pixels or {}).get("reason", ""))
        first = ProofRow(f"{what}: pixels", NOT_MADE, seen)
    else:
        first = ProofRow(f"{what}: pixels", HOLDS, f"{files}: {looked}")
    allowed = answers["allowed"]
    bound = f"labels that differ: {answers['differ']}" if allowed is None else f"{allowed:g} is allowed"
    gap = f"probabilities differ from the run's by {answers['largest_difference']:.1e} at most, {bound}"
    return [first, ProofRow(f"{what}: answers", HOLDS, f"{files}: {gap}")]


def doubt_about_estimates(shift: Mapping[str, Any], adaptation: Mapping[str, Any]) -> str:
    """Return why it cannot be told whether the estimates hold; empty where that was told, one way or the other.

    Args:
        shift: `label_shift` of `scores.json`.
        adaptation: `adaptation.json`; empty for a run that chose nothing.
    """
    guard = (adaptation.get("guards") or {}).get("other_prevalence")
    if guard and guard["fired"] is None:
        return str(guard["reason"])
    if "explained" in shift and shift["explained"] is None:
        reason = (shift.get("rest") or {}).get("reason")
        told = "whether the sites differ by more than prevalence cannot be told"
        return f"{told} ({reason})" if reason else told
    return ""


SHARES = {
    "train": "source, training",
    "source": "source, validation",
    "em": "target, by EM",
    "bbse": "target, by BBSE",
    "true": "target, by its test labels",
}
WAYS = {
    "uncalibrated": "as told",
    "calibrated": "calibrated on the source",
    "corrected": "and corrected for the prevalence",
}
CORRECTED = ("ece", "brier", "log_loss", "balanced_accuracy")
COUNTS = ("images", "groups")
BY_SUBGROUP = (*COUNTS, *HEADLINES, "ece", "brier")


def prevalence_of(scores: Mapping[str, Any], adaptation: Mapping[str, Any]) -> dict[str, Any] | None:
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
        "source": _images(told["source"]),
        "target": _images(told["target"]),
        "table": Table(list(SHARES.values()), rows),
        "differs": (told.get("differs") or {}).get("em"),
        "explained": told.get("explained"),
        "rest": rest,
        "untold": doubt_about_estimates(told, adaptation),
        "correction": _correction(told.get("correction")),
    }


def _images(part: Mapping[str, Any]) -> str:
    return f"{part['images']} images, {part['groups']} groups, of {' and '.join(part['splits'])}"


def _correction(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not told:
        return None
    rows = [(words, [figure_of(told[way], one) for one in CORRECTED]) for way, words in WAYS.items()]
    change = told["difference"]
    figures = [figure_of({f"{one}_difference": change[one]}, f"{one}_difference") for one in CORRECTED]
    rows.append(("corrected minus as told", figures))
    return {
        "split": told["split"],
        "table": Table([words_of(one) for one in CORRECTED], rows),
        "outcomes": [(words_of(one), str(change[one]["outcome"]).replace("_", " ")) for one in CORRECTED],
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
        asked["label from the site alone, training images"] = label
    rows = [(name, [figure_of({"auc": one}, "auc")]) for name, one in asked.items() if one]
    return {
        "layer": told["layer"],
        "table": Table([words_of("auc")], rows),
        "target_splits": " and ".join(target.get("target_splits", [])),
        "warnings": [str(one) for one in told["warnings"]],
    }


def subgroups_of(split: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return a table for each column of one split; none where the recipe names no columns."""
    return [(str(column), _by_value(values)) for column, values in (split.get("subgroups") or {}).items()]


def _by_value(values: Mapping[str, Any]) -> Table:
    present = [key for key in BY_SUBGROUP if any(key in one for one in values.values())]
    rows = [
        (value or "not given", [figure_of(values[value], key) for key in present])
        for value in sort_values(values)
    ]
    return Table([words_of(key) for key in present], rows)


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
    figures = [(name, [figure_of(found, metric) for metric in order]) for name, found in rows.items()]
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
    return {"all images": content["overall"], **domains}
