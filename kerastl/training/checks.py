"""What must hold of the phases before the first step, and of the numbers after each."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.errors import Diverged, Problem, Problems, RequestError
from kerastl.models import blocks_of, network_name
from kerastl.recipe.phase import Phase
from kerastl.runs import format_bytes
from kerastl.training.feature_cache import ABOUT, activation_shapes, activations_size, describe_entry
from kerastl.training.freeze import resolve_trainable
from kerastl.training.step import no_images
from kerastl.training.trunk import FrozenTrunk, find_cached_trunk, choose_cache, find_frozen_trunk

ROOM_LEFT_BYTES = 2**28
"""What caches leave free on the disk, for the run's own files."""


def check_cache(model: keras.Model, phase: Phase, sources: Sequence[ImageDataset]) -> None:
    """See that a cache makes no difference to what is learnt.

    Raises:
        RequestError: it would, or what it keeps could not be told from something else; the text says what to
            write instead.
    """
    if phase.batch_norm != "frozen":
        raise RequestError(
            f"cache: {phase.cache} needs a frozen part that stays as it is, and with batch_norm: "
            f"{phase.batch_norm} its statistics follow the batch. Write batch_norm: frozen, or cache: none."
        )
    for source in sources:
        _check_source(phase, source)
    find_cached_trunk(model, phase)


def _check_source(phase: Phase, source: ImageDataset) -> None:
    if source.mixes:
        raise RequestError(
            f"cache: {phase.cache} keeps one image's activations, and mixing makes each of two. "
            "Take augment.mixing out, or write cache: none."
        )
    if not source.has_fingerprint:
        raise RequestError(
            f"cache: {phase.cache} keeps what an augmentation made, and must know it from every other: `augment` "
            "is a layer or a function of your own, which does not say what it does. Build it of "
            'operations, augment=kerastl.augment.build_policy([{"name": ...}], image_size_px=...), or '
            "write cache: none."
        )
    if source.augmented and not source.repeats:
        raise RequestError(
            f"cache: {phase.cache} would show the augmentation of one epoch in all. Say how many views of "
            "each image are kept, as augment.views: 4, or write cache: none."
        )


def check_disk_space(
    model: keras.Model, phases: Sequence[Phase], *, images: Sequence[Sequence[ImageDataset]], folder: Path
) -> None:
    """See that the caches of some phases, all together, can be written and have room.

    Args:
        model: a flat classifier.
        phases: all that are run, those without a cache too; each has passed `check_cache`.
        images: all that each phase reads, for training and validation.
        folder: where the caches lie.

    Raises:
        RequestError: the folder cannot be written to, or the disk is too small; the text says what to do.
    """
    entries = list(_entries(model, phases, images))
    if not entries:
        return
    place = _check_writable(folder)
    there = Counter(_described(folder))
    needed, cached = 0, [phase for phase in phases if phase.cache != "none"]
    for words, size in entries:
        # Of other weights, perhaps: then the disk may be full in the middle, and says so.
        if there[words]:
            there[words] -= 1
        else:
            needed += size
    free = shutil.disk_usage(place).free
    if needed and needed + ROOM_LEFT_BYTES > free:
        kinds = " and ".join(dict.fromkeys(phase.cache for phase in cached))
        together = f" for {len(cached)} phases together" if len(cached) > 1 else ""
        raise RequestError(
            f"cache: {kinds} takes {format_bytes(needed)}{together}, and {place} has "
            f"{format_bytes(free)} free. {_smaller(cached)}Room: kerastl cache prune --older-than 30. "
            "Another folder: export KERASTL_CACHE=DIR. Without: cache: none."
        )


def _check_writable(folder: Path) -> Path:
    """Return the nearest folder that is there, on the disk of the caches."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise RequestError(
            f"Nothing can be kept in {folder}: {error.strerror or error}. Name a folder that can be written "
            "to: export KERASTL_CACHE=DIR. Without: cache: none."
        ) from error
    return place


def _entries(
    model: keras.Model, phases: Sequence[Phase], images: Sequence[Sequence[ImageDataset]]
) -> Iterator[tuple[str, int]]:
    """Yield (what is told of it, bytes) of each entry that the phases keep; two phases may share one."""
    network, known = network_name(model), set()
    for place, (phase, sources) in enumerate(zip(phases, images, strict=True)):
        if phase.cache == "none":
            continue
        front = find_cached_trunk(model, phase)
        moved = [at for at in range(place) if _moves(model, phases[at], front)]
        about = {"network": network, "boundary": front.behind}
        for source in sources:
            shared = (front.behind, id(source), phase.cache_precision, max(moved, default=-1))
            if shared in known:
                continue
            known.add(shared)
            yield _words(describe_entry(source, phase.cache_precision, about)), _size(front, phase, source)


def _moves(model: keras.Model, phase: Phase, front: FrozenTrunk) -> bool:
    """Tell whether a phase changes something in the front of another."""
    own = find_frozen_trunk(model, phase)
    if own is None:
        return True
    if own.behind == front.behind:
        return False
    order = [*(block.name for block in blocks_of(model)), "pooled"]
    return order.index(own.behind) < order.index(front.behind)


def _words(told: Mapping[str, Any]) -> str:
    return json.dumps(told, sort_keys=True)


def _described(folder: Path) -> Iterator[str]:
    """Yield what is told of each entry that is kept already."""
    for file in folder.glob(f"*/{ABOUT}"):
        try:
            yield _words(json.loads(file.read_text(encoding="utf-8"))["holds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _size(front: FrozenTrunk, phase: Phase, source: ImageDataset) -> int:
    return activations_size(activation_shapes(front.tensors), source, phase.cache_precision)


def cache_line(model: keras.Model, phase: Phase, sources: Sequence[ImageDataset]) -> str:
    """Return one line for people: what a phase with a cache keeps, and how large it is."""
    front = find_cached_trunk(model, phase)
    size = sum(_size(front, phase, source) for source in sources)
    what = "features" if phase.cache == "features" else "activations at the freeze boundary"
    views = max(source.views for source in sources)
    shown = f", {views} augmented views of each training image" if views > 1 else ""
    return (
        f"phase {phase.name}: the frozen layers see each image once; their {what} are kept "
        f"({phase.cache_precision}, {format_bytes(size)}{shown})"
    )


def _smaller(phases: Sequence[Phase]) -> str:
    """Return what to write for less room."""
    precisions = {phase.cache_precision for phase in phases}
    if "float32" in precisions:
        return "Half of it: cache_precision: bfloat16; a quarter: uint8. "
    return "Half of it: cache_precision: uint8. " if "bfloat16" in precisions else ""


Sources = Mapping[str, ImageDataset]
Read = Sequence[Sequence[ImageDataset]]
"""Training images that each phase learns from."""


def decide_phases(phases: Sequence[Phase], trains: Sources, *, reads: Read | None = None) -> list[Phase]:
    """Return the phases with every `cache: auto` decided; one whose domain has no images has no cache.

    Args:
        phases: all that will be run.
        trains: images by domain.
        reads: training images that each learns from; None: those of its domain.
    """
    reads = reads or _of_domains(phases, trains)
    return [
        choose_cache(phase, images) if images else phase.model_copy(update={"cache": "none"})
        for phase, images in zip(phases, reads, strict=True)
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
        trains, vals: images by domain.
        cache_dir: where a phase with a cache keeps its activations.
        reads: as in `decide_phases`.

    Raises:
        Problems: a cache that would change what is learnt or has no room, a precision for frozen layers where none are, a domain without images, a block or layer that does not exist, or a figure to watch
            that the validation images cannot give; all of them together.
    """
    reads = reads or _of_domains(phases, trains)
    images = [
        [*ones, *([vals[phase.domain]] if phase.domain in vals else [])]
        for phase, ones in zip(phases, reads, strict=True)
    ]
    problems = [
        Problem(f"phase {phase.name}", what)
        for phase, read, ones in zip(phases, reads, images, strict=True)
        for what in (
            *([] if read else [no_images(phase)]),
            *_wrong(model, phase, vals),
            *_wrong_cache(model, phase, ones),
            *_wrong_precision(model, phase),
        )
    ]
    if not problems:
        problems = list(_no_room(model, phases, images, cache_dir))
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
            "images. Raise split.val_fraction, or take early_stopping out."
        )
    if val is not None and val.mixes:
        yield "its validation images are mixed. Only training images may be: take `mix` out."
    if val is not None and phase.monitor == "val_auc":
        present = {int(label) for label in np.asarray(val.labels)}
        absent = [name for at, name in enumerate(val.class_names) if at not in present]
        if absent:
            yield (
                f"monitor: val_auc needs every class in validation, and '{absent[0]}' has no image "
                "there. Take val_loss, or raise split.val_fraction."
            )


def _wrong_cache(model: keras.Model, phase: Phase, images: Sequence[ImageDataset]) -> Iterator[str]:
    if phase.cache == "none" or not images:
        return
    try:
        check_cache(model, phase, images)
    except RequestError as error:
        yield str(error)


def _no_room(model: keras.Model, phases: Sequence[Phase], images: Read, cache_dir: Path) -> Iterator[Problem]:
    """Yield what the caches want of the disk; asked only of phases that are right in themselves."""
    try:
        check_disk_space(model, phases, images=images, folder=cache_dir)
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
        if find_frozen_trunk(model, phase) is not None:
            return
        asks = f"trunk_precision: {phase.trunk_precision} needs frozen layers in front of those that learn"
        if phase.batch_norm != "frozen":
            yield (
                f"{asks}, and with batch_norm: {phase.batch_norm} the statistics of all follow the images. "
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


def check_epoch(model: keras.Model, weights: Sequence[Any], logs: Mapping[str, Any], where: str) -> None:
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
