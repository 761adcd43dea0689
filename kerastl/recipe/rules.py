"""What two or more fields of a recipe must agree on, and needs no data to be seen.

A rule is a function whose parameters are fields of one dataclass; it yields `(sub-path, message)`. A field whose value
was wrong is not handed to any rule; in a list, an item that was wrong is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerastl.recipe.phases import LayerNames, Phase, Stretch, Unfreeze
from kerastl.recipe.plugins import Backbone, Reader
from kerastl.recipe.schema import (
    SOURCES_READER,
    Adaptation,
    Augment,
    Data,
    Evaluation,
    Export,
    Recipe,
    Split,
    Target,
)
from kerastl.recipe.tree import quoted

Finding = tuple[str, str]


def training_gets_a_share(val_fraction: float, test_fraction: float) -> Iterator[Finding]:
    """Validation and test together leave something to learn from."""
    together = val_fraction + test_fraction
    if together >= 1:
        yield (
            "test_fraction",
            f"val_fraction and test_fraction together must stay below 1, got {together:g}: "
            "nothing is left for training.",
        )


def warmup_ends(epochs: int, warmup_epochs: float, stretch: Stretch | None) -> Iterator[Finding]:
    """The warm-up ends before the phase does, or the longer one that it is a part of."""
    epochs = stretch.epochs if stretch else epochs
    if warmup_epochs >= epochs:
        yield "warmup_epochs", f"must be below epochs ({epochs}), got {warmup_epochs:g}."


def decay_needs_adamw(optimizer: str, weight_decay: float) -> Iterator[Finding]:
    """Only AdamW decays weights."""
    if weight_decay and optimizer != "adamw":
        yield "weight_decay", f"only adamw decays weights, got optimizer {optimizer}."


def one_average(ema: float | None, average_last: int, epochs: int) -> Iterator[Finding]:
    """Weights are averaged in one way, over epochs that there are."""
    if ema is not None and average_last:
        yield "average_last", "stands beside ema: weights are averaged in one way. Take one out."
    if average_last > epochs:
        yield "average_last", f"must be at most epochs ({epochs}), got {average_last}."


def stretch_holds(epochs: int, stretch: Stretch | None) -> Iterator[Finding]:
    """A part is no longer than the whole."""
    if stretch and stretch.before + epochs > stretch.epochs:
        yield (
            "stretch",
            f"{stretch.before} epochs before and {epochs} of this phase are more than the {stretch.epochs} in all.",
        )


def unfreezing_takes_its_time(trainable: Any, early_stopping: int | None) -> Iterator[Finding]:
    """Gradual unfreezing takes all its epochs."""
    if isinstance(trainable, Unfreeze) and early_stopping is not None:
        yield (
            "early_stopping",
            "would end the unfreezing half way. Take it out, or give it to a phase of its own behind this one.",
        )


def regex_compiles(names: str) -> Iterator[Finding]:
    """The regular expression is one."""
    try:
        re.compile(names)
    except (re.error, RecursionError, OverflowError) as error:
        yield "names", f"is not a regular expression: {quoted(str(error), '')}."


def target_has_its_pictures(reader: Reader, domains: Sequence[str]) -> Iterator[Finding]:
    """A target's pictures come from its own reader or from the source's table, not from both."""
    if reader == SOURCES_READER and not domains:
        yield (
            "reader",
            "is needed. Where both sites stand in the source's table, write target.domains instead.",
        )
    if reader != SOURCES_READER and domains:
        yield (
            "domains",
            "picks rows of the source's own table, so no reader stands beside it. "
            "For another table write target.reader.domains.",
        )


def phase_names_differ(phases: Sequence[Phase | None]) -> Iterator[Finding]:
    """A phase is told from another by its name."""
    seen: dict[str, int] = {}
    for index, phase in enumerate(phases):
        if phase is None:
            continue
        if phase.name in seen:
            first = seen[phase.name]
            yield f"phases[{index}].name", f"'{phase.name}' is the name of phases[{first}] already."
        seen.setdefault(phase.name, index)


def random_weights_learn(backbone: Backbone, phases: Sequence[Phase | None]) -> Iterator[Finding]:
    """Random weights are not frozen before a phase has trained them all.

    A frozen random network hands random features to the head for ever, and random weights behind a frozen BatchNorm,
    whose statistics are still mean 0 and variance 1, hardly learn.
    """
    if backbone.weights != "none":
        return
    for index, phase in enumerate(phases):
        if phase is None:
            return
        if phase.trainable != "all":
            yield (
                f"phases[{index}].trainable",
                "backbone.weights is none, so this would freeze random features that never train. "
                "Write trainable: all, or begin from weights: imagenet.",
            )
            continue
        if phase.batch_norm == "frozen":
            yield (
                f"phases[{index}].batch_norm",
                "random weights do not learn behind a frozen BatchNorm. Write batch_norm: trainable.",
            )
            continue
        return


def target_phases_have_labels(
    phases: Sequence[Phase | None], target: Target | None, adaptation: Adaptation | None
) -> Iterator[Finding]:
    """A phase at the target has pictures and labels to learn from."""
    for index, phase in enumerate(phases):
        if phase is None or phase.domain != "target":
            continue
        where = f"phases[{index}].domain"
        if target is None:
            yield (
                where,
                "is target, but the recipe has no target: add one, or write domain: source.",
            )
        elif target.labels == "none" and adaptation is None:
            yield (
                where,
                "is target, but target.labels is none: write labels: few or labels: all, "
                "or ways to adapt without labels: adaptation: {methods: [adabn, coral]}.",
            )


def adaptation_has_its_phases(
    phases: Sequence[Phase | None], target: Target | None, adaptation: Adaptation | None
) -> Iterator[Finding]:
    """Candidates go on from a model of the source, to a target."""
    if adaptation is None or any(phase is None for phase in phases):
        return
    domains = [phase.domain for phase in phases if phase is not None]
    if target is None:
        yield "adaptation", "adapts to a target, but the recipe has none: add one."
    elif "target" not in domains:
        yield (
            "phases",
            "none says how the methods of `adaptation` learn: add one with domain: target behind those of the source.",
        )
    elif "source" in domains[domains.index("target") :]:
        at = len(domains) - 1 - domains[::-1].index("source")
        yield (
            f"phases[{at}].domain",
            "is source behind a phase of the target: methods of `adaptation` begin where the source's phases end.",
        )


def plug_ins_differ(methods: Sequence[Any], select_by: Sequence[Any]) -> Iterator[Finding]:
    """A candidate is told from another by its method's name."""
    for field, listed in (("methods", methods), ("select_by", select_by)):
        yield from _repeated(field, [one and one.name for one in listed])


def mixing_needs_two(data: Data, augment: Augment) -> Iterator[Finding]:
    """A picture is mixed with another one of its batch."""
    if augment.mixing and data.batch_size == 1:
        yield (
            "augment.mixing",
            "needs batches of two pictures or more, got data.batch_size 1: nobody is there to mix with.",
        )


def formats_differ(formats: Sequence[str | None]) -> Iterator[Finding]:
    """A format is written once."""
    yield from _repeated("formats", formats)


def one_format_is_quantized(
    formats: Sequence[str | None], quantize: str | None
) -> Iterator[Finding]:
    """What is quantized is written."""
    if quantize is not None and "litert" not in formats:
        yield "quantize", f"{quantize} is for the format litert, which formats does not name."


def calibrating_needs_files(data: Data, target: Target | None, export: Export) -> Iterator[Finding]:
    """Eight bits are calibrated on training pictures, which are looked up again as files when all is learnt."""
    readers = [one.reader for one in (data, target) if one is not None and one.reader is not None]
    if export.quantize == "int8" and readers and all(one.name == "tfds" for one in readers):
        yield (
            "export.quantize",
            "int8 is calibrated on training pictures that lie as files, and the reader tfds has none. "
            "Write float16, or read a folder.",
        )


def columns_differ(subgroups: Sequence[str | None]) -> Iterator[Finding]:
    """A column is told by once."""
    yield from _repeated("subgroups", subgroups)


def _repeated(field: str, names: Sequence[str | None]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield f"{field}[{index}]", f"'{name}' stands in the list already."


RULES: Mapping[type[Any], Sequence[Any]] = {
    Split: (training_gets_a_share,),
    Phase: (
        warmup_ends,
        decay_needs_adamw,
        one_average,
        stretch_holds,
        unfreezing_takes_its_time,
    ),
    LayerNames: (regex_compiles,),
    Export: (formats_differ, one_format_is_quantized),
    Evaluation: (columns_differ,),
    Target: (target_has_its_pictures,),
    Adaptation: (plug_ins_differ,),
    Recipe: (
        phase_names_differ,
        random_weights_learn,
        target_phases_have_labels,
        adaptation_has_its_phases,
        mixing_needs_two,
        calibrating_needs_files,
    ),
}
