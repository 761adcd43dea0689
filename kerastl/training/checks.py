"""Checks before the first step (phases, caches, disk space) and of the numbers after each step."""

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
from kerastl.models import get_blocks, identify_backbone
from kerastl.recipe.phase import Phase
from kerastl.runs import format_bytes
from kerastl.training.feature_cache import ABOUT, activation_shapes, activations_size, describe_entry
from kerastl.training.freeze import resolve_trainable
from kerastl.training.step import no_images
from kerastl.training.trunk import FrozenTrunk, choose_cache, find_cached_trunk, find_frozen_trunk

RESERVED_BYTES = 2**28
"""Disk space that caches leave free for the files of the run."""
Sources = Mapping[str, ImageDataset]
"""Datasets by domain."""
PhaseImages = Sequence[Sequence[ImageDataset]]
"""The datasets that each phase reads."""


def check_cache(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> None:
    """Check that a cache does not change the result of a phase.

    Raises:
        RequestError: If it does, or if the cached images cannot be identified.
    """
    if phase.batch_norm != "frozen":
        raise RequestError(
            f"cache: {phase.cache} needs constant frozen layers, but with batch_norm: {phase.batch_norm} their "
            "statistics change with each batch. Write batch_norm: frozen, or cache: none."
        )
    for dataset in datasets:
        _check_dataset(phase, dataset)
    find_cached_trunk(model, phase)


def _check_dataset(phase: Phase, dataset: ImageDataset) -> None:
    if dataset.mixes:
        raise RequestError(
            f"cache: {phase.cache} stores activations of single images, but augment.mixing combines two images. "
            "Remove augment.mixing, or write cache: none."
        )
    if not dataset.has_fingerprint:
        raise RequestError(
            f"cache: {phase.cache} identifies entries by the augmentation, but `augment` is a custom layer or function "
            "that cannot be identified. Build the augmentation from operations, "
            'augment=kerastl.augment.build_policy([{"name": ...}], image_size_px=...), or write cache: none.'
        )
    if dataset.augmented and not dataset.repeats:
        raise RequestError(
            f"cache: {phase.cache} would use the augmentation of a single epoch. Set the number of augmented views "
            "to cache per image, e.g. augment.views: 4, or write cache: none."
        )


def check_disk_space(
    model: keras.Model, phases: Sequence[Phase], *, images: PhaseImages, folder: Path
) -> None:
    """Check that the caches of all phases together fit on the disk and can be written.

    Args:
        model: A flat classifier.
        phases: All phases. Those with a cache have passed `check_cache`.
        images: The training and validation datasets of each phase.
        folder: Folder of the caches.

    Raises:
        RequestError: If the folder is not writable or the disk is too small.
    """
    entries = list(_entries(model, phases, images))
    if not entries:
        return
    existing_folder = _check_writable(folder)
    cached = Counter(_cached_descriptions(folder))
    needed = 0
    for description, size in entries:
        # A cached entry may be of other weights. Then the disk can still run full later, with an error of its own.
        if cached[description]:
            cached[description] -= 1
        else:
            needed += size
    free = shutil.disk_usage(existing_folder).free
    if needed and needed + RESERVED_BYTES > free:
        caching = [phase for phase in phases if phase.cache != "none"]
        kinds = " and ".join(dict.fromkeys(phase.cache for phase in caching))
        together = f" for {len(caching)} phases together" if len(caching) > 1 else ""
        raise RequestError(
            f"cache: {kinds} needs {format_bytes(needed)}{together}, but {existing_folder} has "
            f"{format_bytes(free)} free. {_suggest_precision(caching)}"
            "To free space: kerastl cache prune --older-than 30. "
            "To use another folder: export KERASTL_CACHE=DIR. To disable the cache: cache: none."
        )


def _check_writable(folder: Path) -> Path:
    """Return the folder or its nearest existing parent, after a check that it is writable."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise RequestError(
            f"Cannot write a cache to {folder}: {error.strerror or error}. Choose a writable folder: "
            "export KERASTL_CACHE=DIR. To disable the cache: cache: none."
        ) from error
    return existing


def _entries(model: keras.Model, phases: Sequence[Phase], images: PhaseImages) -> Iterator[tuple[str, int]]:
    """Yield (description, bytes) of each cache entry of the phases. Two phases can share an entry."""
    network, known = identify_backbone(model), set()
    for index, (phase, datasets) in enumerate(zip(phases, images, strict=True)):
        if phase.cache == "none":
            continue
        trunk = find_cached_trunk(model, phase)
        changing = [earlier for earlier in range(index) if _changes(model, phases[earlier], trunk)]
        about = {"network": network, "boundary": trunk.boundary}
        for dataset in datasets:
            shared = (trunk.boundary, id(dataset), phase.cache_precision, max(changing, default=-1))
            if shared in known:
                continue
            known.add(shared)
            description = describe_entry(dataset, phase.cache_precision, about)
            yield json.dumps(description, sort_keys=True), _size(trunk, phase, dataset)


def _changes(model: keras.Model, phase: Phase, trunk: FrozenTrunk) -> bool:
    """Return whether a phase trains a layer of the frozen trunk of another phase."""
    own = find_frozen_trunk(model, phase)
    if own is None:
        return True
    order = [*(block.name for block in get_blocks(model)), "pooled"]
    return order.index(own.boundary) < order.index(trunk.boundary)


def _cached_descriptions(folder: Path) -> Iterator[str]:
    """Yield the description of each entry in the cache."""
    for file in folder.glob(f"*/{ABOUT}"):
        try:
            yield json.dumps(json.loads(file.read_text(encoding="utf-8"))["holds"], sort_keys=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _size(trunk: FrozenTrunk, phase: Phase, dataset: ImageDataset) -> int:
    return activations_size(activation_shapes(trunk.tensors), dataset, phase.cache_precision)


def describe_cache(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> str:
    """Return one line for the screen: what the cache of a phase contains, and its size."""
    trunk = find_cached_trunk(model, phase)
    size = sum(_size(trunk, phase, dataset) for dataset in datasets)
    content = "features" if phase.cache == "features" else "activations at the freeze boundary"
    views = max(dataset.views for dataset in datasets)
    augmented = f", {views} augmented views per training image" if views > 1 else ""
    return (
        f"phase {phase.name}: the frozen layers run once per image; their {content} are cached "
        f"({phase.cache_precision}, {format_bytes(size)}{augmented})"
    )


def _suggest_precision(phases: Sequence[Phase]) -> str:
    """Return how to reduce the size of the caches."""
    precisions = {phase.cache_precision for phase in phases}
    if "float32" in precisions:
        return "For half of the size: cache_precision: bfloat16; for a quarter: uint8. "
    return "For half of the size: cache_precision: uint8. " if "bfloat16" in precisions else ""


def decide_phases(
    phases: Sequence[Phase], trains: Sources, *, phase_images: PhaseImages | None = None
) -> list[Phase]:
    """Return the phases with every `cache: auto` decided. A phase without images has no cache.

    Args:
        phases: All phases.
        trains: Training datasets by domain.
        phase_images: The training datasets that each phase reads. None for the dataset of its domain.
    """
    phase_images = phase_images or _of_domains(phases, trains)
    return [
        choose_cache(phase, images) if images else phase.model_copy(update={"cache": "none"})
        for phase, images in zip(phases, phase_images, strict=True)
    ]


def _of_domains(phases: Sequence[Phase], trains: Sources) -> PhaseImages:
    return [[trains[phase.domain]] if phase.domain in trains else [] for phase in phases]


def check_phases(
    model: keras.Model,
    phases: Sequence[Phase],
    *,
    trains: Sources,
    vals: Sources,
    cache_dir: Path,
    phase_images: PhaseImages | None = None,
) -> None:
    """Check that every phase can be run, before any of them is run.

    Args:
        model: A flat classifier.
        phases: All phases, as `decide_phases` returns them.
        trains, vals: Training and validation datasets by domain.
        cache_dir: Folder of the caches.
        phase_images: As in `decide_phases`.

    Raises:
        Problems: All problems together: a domain without images, an unknown block or layer, a monitored metric that
            the validation images do not allow, a cache that would change the result or that does not fit on the disk,
            a precision of frozen layers without frozen layers.
    """
    phase_images = phase_images or _of_domains(phases, trains)
    images = [
        [*datasets, *([vals[phase.domain]] if phase.domain in vals else [])]
        for phase, datasets in zip(phases, phase_images, strict=True)
    ]
    problems = [
        Problem(f"phase {phase.name}", message)
        for phase, train, datasets in zip(phases, phase_images, images, strict=True)
        for message in (
            *([] if train else [no_images(phase)]),
            *_check_phase(model, phase, vals),
            *_check_phase_cache(model, phase, datasets),
            *_check_precision(model, phase),
        )
    ]
    if not problems:
        problems = list(_check_phases_disk_space(model, phases, images, cache_dir))
    if problems:
        raise Problems("The training", problems, "Nothing was trained.")


def _check_phase(model: keras.Model, phase: Phase, vals: Sources) -> Iterator[str]:
    try:
        resolve_trainable(model, phase.trainable)
    except RequestError as error:
        yield str(error)
    val = vals.get(phase.domain)
    if phase.early_stopping is not None and val is None:
        yield (
            f"early_stopping monitors {phase.monitor}, but domain {phase.domain} has no validation images. "
            "Increase split.val_fraction, or remove early_stopping."
        )
    if val is not None and val.mixes:
        yield "the validation images are mixed. Only training images can be mixed: remove `mix`."
    if val is not None and phase.monitor == "val_auc":
        present = {int(label) for label in np.asarray(val.labels)}
        absent = [name for index, name in enumerate(val.class_names) if index not in present]
        if absent:
            yield (
                f"monitor: val_auc needs validation images of every class, but '{absent[0]}' has none. "
                "Write monitor: val_loss, or increase split.val_fraction."
            )


def _check_phase_cache(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> Iterator[str]:
    if phase.cache == "none" or not datasets:
        return
    try:
        check_cache(model, phase, datasets)
    except RequestError as error:
        yield str(error)


def _check_phases_disk_space(
    model: keras.Model, phases: Sequence[Phase], images: PhaseImages, cache_dir: Path
) -> Iterator[Problem]:
    try:
        check_disk_space(model, phases, images=images, folder=cache_dir)
    except RequestError as error:
        names = ", ".join(phase.name for phase in phases if phase.cache != "none")
        yield Problem(f"phase {names}", str(error))


def _check_precision(model: keras.Model, phase: Phase) -> Iterator[str]:
    trains_head_only = phase.trainable == "none" and phase.batch_norm == "frozen"
    if phase.precision != "float32" and trains_head_only:
        yield (
            f"precision: {phase.precision} has no effect if only the head is trained, because the head computes in "
            "float32. Write precision: float32, or trunk_precision: bfloat16 for the frozen layers."
        )
    if phase.trunk_precision == "float32":
        return
    with contextlib.suppress(RequestError):  # unknown layers are reported by _check_phase
        if find_frozen_trunk(model, phase) is not None:
            return
        requirement = (
            f"trunk_precision: {phase.trunk_precision} needs frozen layers before the trainable layers"
        )
        if phase.batch_norm != "frozen":
            yield (
                f"{requirement}, but with batch_norm: {phase.batch_norm} the statistics of all layers change. "
                "Write batch_norm: frozen, or trunk_precision: float32."
            )
            return
        later = ", ".join(block.name for block in get_blocks(model)[1:])
        yield (
            f"{requirement}, but all layers are trainable. Write trainable: none, or trainable: {{from_block: NAME}} "
            f"with one of {later}; or trunk_precision: float32."
        )


def check_losses(values: Mapping[str, float], where: str) -> None:
    """Check that all values are finite.

    Raises:
        Diverged: If one is not.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} became {value} in {where}.")


def check_epoch(model: keras.Model, weights: Sequence[Any], logs: Mapping[str, Any], where: str) -> None:
    """Check that all metrics and weights are finite after an epoch.

    The last step of an epoch can produce weights that are not finite before any loss shows it.

    Args:
        model: The model.
        weights: The values of its weights, in order.
        logs: Metrics of the epoch.
        where: The epoch, for the message.

    Raises:
        Diverged: If a metric or a weight is not finite.
    """
    check_losses({name: value for name, value in logs.items() if value is not None}, where)
    for weight, value in zip(model.weights, weights, strict=True):
        if not np.isfinite(value).all():
            raise Diverged(f"{weight.path} is not finite after {where}.")
