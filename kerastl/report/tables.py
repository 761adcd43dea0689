"""Tables of the report, from the content of `scores.json` and `freeze.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kerastl.errors import pluralize
from kerastl.report.figures import decision_chart, reliability_chart
from kerastl.runs import schemas
from kerastl.tasks import SINGLE_LABEL

HEADLINES = SINGLE_LABEL.headlines
SPLIT_ORDER = ("target_test", "test", "target_val", "val", "train")
COLUMN_TITLES = {
    **SINGLE_LABEL.metric_titles, "ece": "ECE", "f1": "F1", "support": "images",
    "own_sensitivity": "sensitivity, own threshold",
    "own_specificity": "specificity, own threshold",
    "sensitivity_difference": "sensitivity, difference",
    "specificity_difference": "specificity, difference",
    "train": "source, training",
    "source": "source, validation",
    "em": "target, by EM",
    "bbse": "target, by BBSE",
    "true": "target, by its test labels",
}  # fmt: skip
BY_SUBGROUP = ("images", "groups", *HEADLINES, "ece", "brier")


def column_title(name: str) -> str:
    """Return the title of a metric, or of a prevalence."""
    return COLUMN_TITLES.get(name, name.replace("_", " "))


def metric_columns(rows: Mapping[str, schemas.Metrics]) -> list[str]:
    """Return the metrics of a table, the headline metrics first."""
    names = dict.fromkeys(metric for metrics in rows.values() for metric in metrics)
    return [name for name in dict.fromkeys((*HEADLINES, *names)) if name in names]


def subgroup_columns(rows: Mapping[str, schemas.Metrics]) -> list[str]:
    """Return the metrics of a table of subgroups."""
    return [name for name in BY_SUBGROUP if any(name in metrics for metrics in rows.values())]


def evaluated_splits(scores: schemas.Scores) -> dict[str, schemas.SplitScores]:
    """Return the splits that have scores, the most important first."""
    splits = scores.splits
    return {name: splits[name] for name in dict.fromkeys((*SPLIT_ORDER, *splits)) if name in splits}


def headline_of(metrics: schemas.Metrics) -> str | None:
    """Return the name of the headline metric."""
    return next((name for name in HEADLINES if name in metrics and metrics[name].value is not None), None)


NORM = re.compile(r"(^|_)(bn|batch_?norm\w*|norm\w*)(_|\d|$)", re.IGNORECASE)
ABSENT = "absent"


@dataclass
class LayerRow:
    """Adjacent layers with the same states.

    Args:
        first, last: Names of layers.
        count: Number of layers with weights.
        states: State per phase of BatchNorm layers (True) and of other layers (False), if there are any.
    """

    first: str
    last: str
    count: int = 0
    states: dict[bool, tuple[str, ...]] = field(default_factory=dict)

    def add(self, name: str, states: tuple[str, ...]) -> bool:
        """Add a layer if its states are those of the row, and return whether it was added."""
        if self.states.setdefault(bool(NORM.search(name)), states) != states:
            return False
        self.last, self.count = name, self.count + 1
        return True

    @property
    def cells(self) -> list[str]:
        """One text per phase."""
        others, norms = (self.states.get(is_norm) for is_norm in (False, True))
        pairs = zip(others or norms or (), norms or others or (), strict=True)
        return [other if other == norm else f"{other}; BatchNorm {norm}" for other, norm in pairs]


def frozen_table(freeze: schemas.Freeze) -> tuple[list[str], list[LayerRow]]:
    """Return the names of the phases and the rows of layers of `freeze.json`."""
    by_phase = [{layer.layer: layer for layer in phase.layers} for phase in freeze.phases]
    rows: list[LayerRow] = []
    for name in dict.fromkeys(name for layers in by_phase for name in layers):
        states = tuple(_state(layers.get(name)) for layers in by_phase)
        if not rows or not rows[-1].add(name, states):
            rows.append(LayerRow(name, name))
            rows[-1].add(name, states)
    return [phase.phase for phase in freeze.phases], rows


def cached_lines(phases: Sequence[schemas.PhaseCheck]) -> list[str]:
    """Return one line per phase that was trained on cached features."""
    return [
        f"{phase.phase}: the output of the layers up to {cache.boundary} was computed once per image and cached as "
        f"{cache.precision}, {cache.bytes / 1e6:,.1f} MB"
        + (f", for {cache.views} augmented views of each training image" if cache.views > 1 else "")
        for phase in phases
        if (cache := phase.cache)
    ]


def rounded_lines(phases: Sequence[schemas.PhaseCheck]) -> list[str]:
    """Return one line per phase whose frozen layers did not compute in float32, with the effect on the scores."""
    return [
        f"{phase.phase}: the layers up to {trunk.boundary} were computed in {trunk.precision}; {_changed(trunk)}"
        for phase in phases
        if (trunk := phase.trunk)
    ]


def _changed(trunk: schemas.RoundedTrunk) -> str:
    exact, rounded = trunk.float32, trunk.rounded
    if not exact or not rounded:
        return "the effect is unknown without validation images"
    titles = {"val_balanced_accuracy": "balanced accuracy", "val_auc": "AUC", "val_loss": "loss"}
    metrics = [
        f"{title} {rounded[name]:.4f}, in float32 {exact[name]:.4f}"
        for name, title in titles.items()
        if exact.get(name) is not None and rounded.get(name) is not None
    ]
    return f"with the kept weights on the validation images: {'; '.join(metrics)}"


def _state(layer: schemas.LayerCheck | None) -> str:
    if layer is None:
        return ABSENT
    if layer.trainable:
        return "trained" if layer.changed else "trainable, unchanged"
    if layer.changed:
        return "CHANGED although frozen"
    return "statistics updated" if layer.statistics_changed else "frozen"


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


def check_rows(freeze: schemas.Freeze) -> list[CheckRow]:
    """Return one row per check in `freeze.json`, those of the phases first."""
    rows = [row for phase in freeze.phases for row in _phase_rows(phase)]
    passes = freeze.determinism
    if passes:
        details = f"{pluralize(passes.images, 'image')}: the logits are bit-identical"
        rows.append(_row("validation images predicted twice", passes, details))
    for name, check in freeze.exports.items():
        rows += _export_rows(name, check)
    return rows


def parameter_table(freeze: schemas.Freeze) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names of the phases, and the number of trained parameters per block and phase.

    Blocks without parameters are omitted. The last row is the whole model.
    """
    names: list[str] = []
    rows: dict[str, list[str]] = {}
    for phase in freeze.phases:
        if phase.parameters:
            names.append(phase.phase)
            whole = phase.parameters
            counts = [(block.block, block.trained, block.total) for block in whole.blocks]
            for name, trained, total in (*counts, ("whole model", whole.trained, whole.total)):
                if total:
                    rows.setdefault(name, []).append(f"{trained:,} of {total:,}")
    return names, list(rows.items())


def _row(
    name: str, check: schemas.PhaseCheck | schemas.DeterminismCheck | schemas.ExportCheck, details: str
) -> CheckRow:
    """Return the row of a check: its faults, or why it was skipped, or its details."""
    if check.faults:
        return CheckRow(name, FAULT, "; ".join(check.faults))
    reason = "" if isinstance(check, schemas.PhaseCheck) else check.reason
    return CheckRow(name, SKIPPED, reason) if reason else CheckRow(name, PASSED, details)


def _phase_rows(phase: schemas.PhaseCheck) -> list[CheckRow]:
    trainable = sum(layer.trainable for layer in phase.layers)
    others = len(phase.layers) - trainable
    details = f"{pluralize(trainable, 'layer')} trained; " + (
        f"the weights of {pluralize(others, 'other')} are unchanged" if others else "none were frozen"
    )
    rows = [_row(f"{phase.phase}: frozen weights are unchanged", phase, details)]
    statistics = phase.batch_norm
    if statistics and statistics.layers:
        outcome = FAULT if statistics.rule == "frozen" and statistics.changed else PASSED
        name = f"{phase.phase}: batch_norm {statistics.rule}"
        rows.append(CheckRow(name, outcome, _statistics_details(statistics)))
    return rows


def _statistics_details(statistics: schemas.BatchNormCheck) -> str:
    layers, largest = pluralize(statistics.layers, "BatchNorm layer"), statistics.largest
    if not statistics.changed or largest is None:
        return f"the statistics of {layers} are unchanged"
    size = "an infinite number of" if largest.deviations is None else f"{largest.deviations:.3g}"
    return (
        f"the statistics of {statistics.changed} of {layers} changed, by up to {size} running standard deviations: "
        f"{largest.statistic} of {largest.layer}, channel {largest.channel}"
    )


def _export_rows(name: str, check: schemas.ExportCheck) -> list[CheckRow]:
    title = f"export {name}"
    pixels, predictions = check.pixels, check.predictions
    if check.faults or check.reason or not predictions:
        return [_row(title, check, "")]
    files = f"{check.files} {check.split} files"
    if not pixels or not pixels.compared:
        first = CheckRow(f"{title}: pixels", SKIPPED, pixels.reason if pixels else "")
    else:
        details = f"{files}: the pixels in the exported graph are bit-identical to those in training"
        first = CheckRow(f"{title}: pixels", PASSED, details)
    allowed = predictions.allowed
    bound = f"labels that differ: {predictions.differ}" if allowed is None else f"{allowed:g} is allowed"
    gap = f"probabilities differ from those of the run by up to {predictions.largest_difference:.1e}, {bound}"
    return [first, CheckRow(f"{title}: predictions", PASSED, f"{files}: {gap}")]


def doubt_about_estimates(shift: schemas.LabelShift, adaptation: schemas.Adaptation | None) -> str:
    """Return why the prevalence estimates could not be checked; empty if they were."""
    guard = adaptation.guards.get("other_prevalence") if adaptation else None
    if guard and guard.fired is None:
        return guard.reason
    if "explained" in shift.model_fields_set and shift.explained is None:
        doubt = "it is unknown whether the sites differ by more than prevalence"
        return f"{doubt} ({shift.rest.reason})" if shift.rest and shift.rest.reason else doubt
    return ""


def missing_prevalence(shift: schemas.LabelShift) -> list[str]:
    """Return why an estimate of the prevalence, or its interval, is missing; empty if none is."""
    reasons = {
        title: next(iter(shift.classes.values()))[key].reason
        for key, title in (("em", "EM"), ("bbse", "BBSE"))
    }
    return [f"{title}: {reason}" for title, reason in reasons.items() if reason]


def domain_classifiers(sites: schemas.Sites) -> dict[str, schemas.Metrics]:
    """Return the AUC of each domain classifier."""
    aucs: dict[str, schemas.Estimate | None] = {}
    if sites.target:
        aucs["target against source, before adaptation"] = sites.target.before
        aucs["target against source, after adaptation"] = sites.target.after
    domains = list((sites.domains or {}).items())
    # With two domains, one row is enough.
    for name, auc in domains[:1] if len(domains) == 2 else domains:
        others = domains[1][0] if len(domains) == 2 else "the other sites"
        aucs[f"{name} against {others}, source only"] = auc
    aucs["label from the site, training images"] = sites.label
    return {name: {"auc": auc} for name, auc in aucs.items() if auc}


def clinical_charts(split: schemas.SplitScores) -> dict[str, str]:
    """Return the curves of a split as data URLs, by title."""
    charts = {
        "Reliability curve": split.reliability and reliability_chart(split.reliability),
        "Decision curve": split.decision_curve and decision_chart(split.decision_curve),
    }
    return {title: chart for title, chart in charts.items() if chart}


def calibration_rows(split: schemas.SplitScores) -> dict[str, schemas.Metrics]:
    """Return the metrics of calibration, without and with the temperature."""
    if split.calibration is None:
        return {}
    before, after = (
        overall_and_domains(scores) for scores in (split.calibration.before, split.calibration.after)
    )
    return {
        f"{name}, {title}": metrics[name]
        for name in before
        for title, metrics in (("without the temperature", before), ("with the temperature", after))
    }


def overall_and_domains(scores: schemas.MetricsByDomain) -> dict[str, schemas.Metrics]:
    """Return the metrics of all images, and of each domain if there are several."""
    domains = scores.domains if len(scores.domains) > 1 else {}
    return {"all images": scores.overall, **domains}
