"""What must hold of the phases before the first step, and of the numbers after each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.errors import Diverged, Problem, Problems, RequestError
from kerastl.models import blocks_of
from kerastl.recipe.phase import Phase
from kerastl.training.cache_checks import check_cache, check_room
from kerastl.training.freezing import resolve_trainable
from kerastl.training.learner import choose_cache, frozen_front
from kerastl.training.streams import no_pictures

Sources = Mapping[str, ImageDataset]
Read = Sequence[Sequence[ImageDataset]]
"""Training pictures that each phase learns from."""


def decide_phases(
    phases: Sequence[Phase], trains: Sources, *, reads: Read | None = None
) -> list[Phase]:
    """Return the phases with every `cache: auto` decided; one whose domain has no pictures has no cache.

    Args:
        phases: all that will be run.
        trains: pictures by domain.
        reads: training pictures that each learns from; None: those of its domain.
    """
    reads = reads or _of_domains(phases, trains)
    return [
        choose_cache(phase, pictures) if pictures else phase.model_copy(update={"cache": "none"})
        for phase, pictures in zip(phases, reads, strict=True)
    ]


def _of_domains(phases: Sequence[Phase], trains: Sources) -> Read:
    return [[trains[phase.domain]] if phase.domain in trains else [] for phase in phases]


def check_phases(
    model: keras.Model,
    phases: Sequence[Phase],
    *,
    trains: Sources,
    vals: Sources,
    cache_dir: Path,
    reads: Read | None = None,
) -> None:
    """See that every phase can be run, before any of them is.

    Args:
        model: a flat classifier.
        phases: all that will be run, as `decide_phases` returns them.
        trains, vals: pictures by domain.
        cache_dir: where a phase with a cache keeps its activations.
        reads: as in `decide_phases`.

    Raises:
        Problems: a cache that would change what is learnt or has no room, a precision for frozen layers where none are, a domain without pictures, a block or layer that does not exist, or a figure to watch
            that the validation pictures cannot give; all of them together.
    """
    reads = reads or _of_domains(phases, trains)
    pictures = [
        [*ones, *([vals[phase.domain]] if phase.domain in vals else [])]
        for phase, ones in zip(phases, reads, strict=True)
    ]
    problems = [
        Problem(f"phase {phase.name}", what)
        for phase, read, ones in zip(phases, reads, pictures, strict=True)
        for what in (
            *([] if read else [no_pictures(phase)]),
            *_wrong(model, phase, vals),
            *_wrong_cache(model, phase, ones),
            *_wrong_precision(model, phase),
        )
    ]
    if not problems:
        problems = list(_no_room(model, phases, pictures, cache_dir))
    if problems:
        raise Problems("The training", problems, "Nothing was trained.")


def _wrong(model: keras.Model, phase: Phase, vals: Sources) -> Iterator[str]:
    try:
        resolve_trainable(model, phase.trainable)
    except RequestError as error:
        yield str(error)
    val = vals.get(phase.domain)
    if phase.early_stopping is not None and val is None:
        yield (
            f"early_stopping watches {phase.monitor}, and its domain, {phase.domain}, has no validation "
            "pictures. Raise split.val_fraction, or take early_stopping out."
        )
    if val is not None and val.mixes:
        yield "its validation pictures are mixed. Only training pictures may be: take `mix` out."
    if val is not None and phase.monitor == "val_auc":
        present = {int(label) for label in np.asarray(val.labels)}
        absent = [name for at, name in enumerate(val.class_names) if at not in present]
        if absent:
            yield (
                f"monitor: val_auc needs every class in validation, and '{absent[0]}' has no picture "
                "there. Take val_loss, or raise split.val_fraction."
            )


def _wrong_cache(
    model: keras.Model, phase: Phase, pictures: Sequence[ImageDataset]
) -> Iterator[str]:
    if phase.cache == "none" or not pictures:
        return
    try:
        check_cache(model, phase, pictures)
    except RequestError as error:
        yield str(error)


def _no_room(
    model: keras.Model, phases: Sequence[Phase], pictures: Read, cache_dir: Path
) -> Iterator[Problem]:
    """Yield what the caches want of the disk; asked only of phases that are right in themselves."""
    try:
        check_room(model, phases, pictures=pictures, folder=cache_dir)
    except RequestError as error:
        names = ", ".join(phase.name for phase in phases if phase.cache != "none")
        yield Problem(f"phase {names}", str(error))


def _wrong_precision(model: keras.Model, phase: Phase) -> Iterator[str]:
    head_alone = phase.trainable == "none" and phase.batch_norm == "frozen"
    if phase.precision != "float32" and head_alone:
        yield (
            f"precision: {phase.precision} changes nothing where the head learns alone: that computes in float32. "
            "Write precision: float32, or trunk_precision: bfloat16 for what is frozen."
        )
    if phase.trunk_precision == "float32":
        return
    with contextlib.suppress(RequestError):  # layers that are not there are told elsewhere
        if frozen_front(model, phase) is not None:
            return
        asks = f"trunk_precision: {phase.trunk_precision} needs frozen layers in front of those that learn"
        if phase.batch_norm != "frozen":
            yield (
                f"{asks}, and with batch_norm: {phase.batch_norm} the statistics of all follow the pictures. "
                "Write batch_norm: frozen, or trunk_precision: float32."
            )
            return
        later = ", ".join(block.name for block in blocks_of(model)[1:])
        yield (
            f"{asks}, and all learn. Write trainable: none, or {{from_block: NAME}}, of: {later}; "
            "or trunk_precision: float32."
        )


def check_losses(values: Mapping[str, float], where: str) -> None:
    """See that every loss of a step is a number.

    Raises:
        Diverged: one is not.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} became {value} in {where}.")


def check_epoch(
    model: keras.Model, weights: Sequence[Any], logs: Mapping[str, Any], where: str
) -> None:
    """See that an epoch ended with numbers: a last step may break weights that no loss has seen yet.

    Args:
        model: names the weights.
        weights: their values, in order.
        logs: the epoch's figures.
        where: the epoch, for people.

    Raises:
        Diverged: a figure or a weight is not a number.
    """
    check_losses({name: value for name, value in logs.items() if value is not None}, where)
    for weight, value in zip(model.weights, weights, strict=True):
        if not np.isfinite(value).all():
            raise Diverged(f"{weight.path} holds no numbers any more after {where}.")
