"""The facts of a run as text. The terminal and the page show the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kerastl.console import Facts
from kerastl.data.records import pluralize
from kerastl.report.tables import column_title
from kerastl.runs.schemas import Adaptation, DataSummary, Estimate, Headline, PhaseSummary, Range, Summary

if TYPE_CHECKING:
    from kerastl.recipe import Phase

KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "webp": "WebP"}
STOPS = {
    "early_stopping": "stopped early, because validation did not improve,",
    "time_budget": "stopped by the time budget",
    "callback": "stopped by a callback",
}
MAX_CLASSES = 8
MAX_NAME_LENGTH = 60


def summary_facts(summary: Summary, adaptation: Adaptation | None) -> Facts:
    """Return the result, the images, the model and the phases of a run, as its page shows them."""
    phases = [("Phase", describe_phase(phase)) for phase in summary.phases]
    results, data = result_facts(summary, adaptation), data_facts(summary.data)
    return [*results, *data, *model_facts(summary), *phases]


def printable(name: str) -> str:
    """Return a name from the data without control characters, shortened to one line."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 3]}..."


def format_metric(metric: Estimate | None) -> str:
    """Return `0.912 (0.871 to 0.948)`, or a dash if there is no value."""
    if metric is None or metric.value is None:
        return "-"
    if metric.low is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def data_facts(data: Mapping[str, DataSummary]) -> Facts:
    """Return what was read: images, classes, splits, groups, sizes and warnings."""
    return [
        fact
        for domain, images in data.items()
        for fact in _domain_facts("Data" if [*data] == ["source"] else domain.capitalize(), images)
    ]


def _domain_facts(title: str, data: DataSummary) -> Iterator[tuple[str, str]]:
    labeled = {name: count for name, count in data.classes.items() if name}
    classes = f" in {len(labeled)} classes" if labeled else ", unlabeled"
    yield title, f"{data.path}: {pluralize(data.images, 'image')}{classes}"
    if labeled:
        yield "  Classes", _counts(data.classes)
    splits = {name.removeprefix("target_"): sum(counts.values()) for name, counts in data.splits.items()}
    yield "  Splits", _counts(splits) + ("" if data.groups else " (no groups, such as patients, are defined)")
    if data.groups:
        groups = {name.removeprefix("target_"): count for name, count in data.groups.items() if name != "all"}
        yield "  Groups", f"{data.groups['all']:,} (patients): {_counts(groups)}"
    kinds = {KINDS.get(kind, kind.upper()): count for kind, count in data.kinds.items()}
    sizes = f"width {_range(data.width_px)} px, height {_range(data.height_px)} px"
    yield "  Images", "; ".join([_counts(kinds), sizes, *_colors(data)])
    for warning in data.warnings:
        yield "  Warning", warning


def _counts(counts: Mapping[str, int]) -> str:
    """Return names with their counts; the smallest of many are combined."""
    names = [printable(name) or "unlabeled" for name in counts]
    pairs = [f"{name} {count:,}" for name, count in zip(names, counts.values(), strict=True)]
    if len(pairs) > MAX_CLASSES:
        fewest, most = min(counts.values()), max(counts.values())
        pairs = [*pairs[: MAX_CLASSES - 1], f"... ({fewest:,} to {most:,} per class)"]
    return ", ".join(pairs)


def _range(sizes: Range) -> str:
    if sizes.smallest == sizes.largest:
        return f"{sizes.smallest}"
    return f"{sizes.smallest} to {sizes.largest} (median {sizes.median})"


def _colors(data: DataSummary) -> Iterator[str]:
    if data.gray:
        yield "gray" if data.gray == data.images else f"{data.gray:,} gray, the others in color"
    else:
        yield "color"
    if data.images_16_bit:
        yield "16-bit" if data.images_16_bit == data.images else f"{data.images_16_bit:,} with 16 bits"
    if data.unreadable:
        yield f"{data.unreadable:,} more are unreadable and excluded (quarantine.csv)"


def model_facts(summary: Summary) -> Facts:
    """Return the backbone, its size, and the origin of its weights."""
    model = summary.model
    return [("Model", f"{model.backbone}, {model.parameters:,} parameters. {model.head}.")] if model else []


def planned_phases(phases: Sequence[tuple[Phase, int]], parameters: int) -> Facts:
    """Return what each phase will train.

    Args:
        phases: Each phase with the number of parameters that it trains.
        parameters: The number of parameters of the model.
    """
    return [
        (
            "" if number else "Phases",
            f"{phase.name}: {_planned_epochs(phase)}; {trained:,} parameters trainable, {parameters - trained:,} frozen",
        )
        for number, (phase, trained) in enumerate(phases)
    ]


def _planned_epochs(phase: Phase) -> str:
    epochs = pluralize(phase.epochs, "epoch")
    if phase.early_stopping is None or phase.early_stopping >= phase.epochs:
        return epochs
    return f"up to {epochs}, fewer if {phase.monitor} does not improve for {phase.early_stopping}"


def describe_phase(phase: PhaseSummary) -> str:
    """Return the outcome of a phase in one line: its best epoch, why it stopped, and whether it helped."""
    if phase.stopped == "all_epochs":
        ran = f"trained for {pluralize(phase.epochs, 'epoch')}"
    else:
        ran = f"{STOPS[phase.stopped]} after {phase.epochs} of {pluralize(phase.planned_epochs, 'epoch')}"
    return f"{phase.phase}: {ran}. {' '.join(_outcome(phase))}"


def _outcome(phase: PhaseSummary) -> Iterator[str]:
    if phase.best is None:
        yield "Without validation images, the last epoch is kept."
        return
    best = f"Best: epoch {phase.best_epoch}, {phase.monitor} {phase.best:.3f}"
    if phase.helped is None:
        yield f"{best}."
    else:
        comparison = "better" if phase.helped else "no better"
        yield f"{best}, {comparison} than before this phase ({phase.earlier_best:.3f})."
    if phase.keep == "last":
        yield f"The last epoch, {phase.kept_epoch}, is kept, as the recipe demands (keep: last)."
    elif phase.kept_phase != phase.phase:
        yield f"The weights of {phase.kept_phase}, epoch {phase.kept_epoch}, are kept."


def result_facts(summary: Summary, adaptation: Adaptation | None = None) -> Facts:
    """Return which weights were kept and why, and how good they are.

    Args:
        summary: The summary of a run.
        adaptation: The selection and the effect of the adaptation, if the run has one.
    """
    facts = []
    if kept := summary.kept:
        epoch = f"{kept.phase}, epoch {kept.epoch}" if kept.phase else "the initial weights"
        if adaptation is None:
            facts.append(("Kept", f"{kept.reason}: kept {epoch}"))
        else:
            verdict = adaptation.verdict.replace("_", " ")
            facts.append(("Kept", f"{kept.candidate} ({epoch}), {verdict}: {kept.reason}"))
    if summary.headline:
        facts += _score_facts(summary.headline)
    if adaptation and adaptation.target_test and adaptation.chosen != "source_only":
        difference = adaptation.target_test.difference
        outcome = difference.outcome.replace("_", " ")
        effect = f"{difference.metric} {format_metric(difference)}: {outcome}"
        facts.append(("Adaptation", f"adapted minus source only, {effect}"))
    return facts


def _score_facts(headline: Headline) -> Iterator[tuple[str, str]]:
    estimate = headline.estimate
    interval = (
        f" (95% interval {estimate.low:.3f} to {estimate.high:.3f})" if estimate.low is not None else ""
    )
    split = headline.split.replace("_", " ")
    images = pluralize(headline.images, f"{split} image")
    groups = f" of {pluralize(headline.groups, 'group')}" if headline.groups else ""
    yield "Score", f"{column_title(headline.metric)} {estimate.value:.3f}{interval}, n = {images}{groups}"
    if estimate.reason:
        yield "", f"No interval: {estimate.reason}."
    if confused := headline.most_confused:
        label, predicted = printable(confused.label), printable(confused.predicted)
        yield (
            "Confused",
            f"{label} predicted as {predicted}: {confused.images} of {pluralize(confused.of, 'image')}",
        )
    if headline.few_images:
        counts = ", ".join(f"{printable(name)} ({count})" for name, count in headline.few_images.items())
        yield "Few images", f"the scores of these classes are unreliable: {counts}"
