"""Checks before the first step (phases, caches, disk space) and of the numbers after each step."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset, TfDataset, entries_of_kind
from kerastl.errors import Diverged, Problem, RequestError, did_you_mean, problems_of, raise_problems, setting
from kerastl.recipe.phase import Phase
from kerastl.runs import format_bytes
from kerastl.training.custom_objects import custom_problems, with_direction
from kerastl.training.feature_cache import activations_size, describe_entry
from kerastl.training.freeze import (
    HEAD_INPUT,
    count_trained,
    has_table,
    head_layers,
    list_blocks,
    resolve_trainable,
)
from kerastl.training.step import no_images
from kerastl.training.trunk import find_boundary, find_cached_boundary, network_name, split_model

RESERVED_BYTES = 2**28
"""Disk space that caches leave free for the files of the run."""
Sources = Mapping[str, ImageDataset]
"""Datasets by domain."""
PhaseImages = Sequence[Sequence[ImageDataset]]
"""The datasets that each phase reads."""


def _cache_problem(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> str | None:
    """Return why the cache of a phase would change its result, or why its images cannot be identified, if so."""
    if phase.batch_norm != "frozen":
        return (
            f"{setting('cache', phase.cache)} needs constant frozen layers, but with {setting('batch_norm', phase.batch_norm)} their "
            f"statistics change with each batch. Use {setting('batch_norm', 'frozen')}, or {setting('cache', 'none')}."
        )
    for dataset in datasets:
        if dataset.mixes:
            return (
                f"{setting('cache', phase.cache)} stores activations of single images, but the mixing combines two images. "
                f"Remove the mixing (augment.mixing, in Python mix=), or use {setting('cache', 'none')}."
            )
        if isinstance(dataset, TfDataset):
            return (
                f"{setting('cache', phase.cache)} stores the activations of each image once, but a tf.data.Dataset may change "
                f"its images. Use NumPy arrays, an ImageDataset, or {setting('cache', 'none')}."
            )
        if not dataset.has_fingerprint:
            return (
                f"{setting('cache', phase.cache)} identifies entries by the augmentation, but `augment` is a custom layer or function "
                "that cannot be identified. Build the augmentation from operations, "
                f"augment=kerastl.augment.build_policy([...], image_size_px=...), or use {setting('cache', 'none')}."
            )
        if dataset.augmented and not dataset.repeats:
            return (
                f"{setting('cache', phase.cache)} would use the augmentation of a single epoch. Set the number of augmented views "
                f"to cache per image, e.g. {setting('augment.views', 4)}, or use {setting('cache', 'none')}."
            )
    return next(map(str, problems_of("", find_cached_boundary, model, phase)), None)


def _disk_problem(
    model: keras.Model, phases: Sequence[Phase], images: PhaseImages, folder: Path
) -> str | None:
    """Return why the caches of all phases together do not fit on the disk or cannot be written, if so."""
    entries = _entries(model, phases, images)
    sizes = dict(entries)
    if not entries:
        return None
    existing_folder = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing_folder):
            pass
    except OSError as error:
        return (
            f"Cannot write a cache to {folder}: {error.strerror or error}. Choose a writable folder: "
            f"export KERASTL_CACHE=DIR. To disable the cache: {setting('cache', 'none')}."
        )
    # A cached entry may be of other weights. Then the disk can still run full later, with an error of its own.
    cached = (json.dumps(entry.holds, sort_keys=True) for entry in entries_of_kind(folder, "activations"))
    missing = Counter(description for description, _ in entries) - Counter(cached)
    needed = sum(sizes[description] * count for description, count in missing.items())
    free = shutil.disk_usage(existing_folder).free
    if not needed or needed + RESERVED_BYTES <= free:
        return None
    caching = [phase for phase in phases if phase.cache != "none"]
    kinds = " and ".join(dict.fromkeys(phase.cache for phase in caching))
    together = f" for {len(caching)} phases together" if len(caching) > 1 else ""
    return (
        f"{setting('cache', kinds)} needs {format_bytes(needed)}{together}, but {existing_folder} has "
        f"{format_bytes(free)} free. {_suggest_precision(caching)}"
        "To free space: kerastl cache prune --older-than 30. "
        f"To use a different folder: export KERASTL_CACHE=DIR. To disable the cache: {setting('cache', 'none')}."
    )


def _entries(model: keras.Model, phases: Sequence[Phase], images: PhaseImages) -> Collection[tuple[str, int]]:
    """Return (description, bytes) of each cache entry of the phases. Two phases can share an entry."""
    network = network_name(model)
    entries: dict[tuple[Any, ...], tuple[str, int]] = {}
    for index, (phase, datasets) in enumerate(zip(phases, images, strict=True)):
        if phase.cache == "none":
            continue
        boundary = find_cached_boundary(model, phase)
        trunk, _ = split_model(model, boundary)
        changing = [earlier for earlier in range(index) if _changes(model, phases[earlier], boundary)]
        about = {"network": network, "boundary": boundary}
        for dataset in datasets:
            description = describe_entry(dataset, phase.cache_precision, about)
            size = activations_size(trunk, dataset, phase.cache_precision)
            shared = (boundary, id(dataset), phase.cache_precision, max(changing, default=-1))
            entries[shared] = (json.dumps(description, sort_keys=True), size)
    return entries.values()


def _changes(model: keras.Model, phase: Phase, boundary: str) -> bool:
    """Return whether a phase trains a layer before the boundary of another phase."""
    own = find_boundary(model, phase)
    if own is None:
        return True
    order = [*(block.name for block in list_blocks(model)), HEAD_INPUT]
    return order.index(own) < order.index(boundary)


def describe_cache(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> str:
    """Return one line for the screen: what the cache of a phase contains, and its size."""
    trunk, _ = split_model(model, find_cached_boundary(model, phase))
    size = sum(activations_size(trunk, dataset, phase.cache_precision) for dataset in datasets)
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


def choose_cache(model: keras.Model, phase: Phase, datasets: Sequence[ImageDataset]) -> Phase:
    """Return the phase with `cache: auto` decided: `features` if only the head is trained and the result is the same.

    Args:
        model: Any Keras model, see `list_blocks`.
        phase: A phase of the recipe.
        datasets: All its training datasets, and its validation images.
    """
    if phase.cache != "auto":
        return phase
    # A new augmentation or mix in each epoch cannot be cached.
    varies = any(dataset.mixes or not dataset.repeats for dataset in datasets)
    is_cached = phase.trainable == "none" and not varies and find_boundary(model, phase) == HEAD_INPUT
    return phase.model_copy(update={"cache": "features" if is_cached else "none"})


def decide_phases(
    model: keras.Model, phases: Sequence[Phase], phase_images: PhaseImages, *, vals: Sources, cache_dir: Path
) -> list[Phase]:
    """Return the phases with every `cache: auto` decided. Checks that every phase can be run.

    Args:
        model: A flat classifier.
        phases: All phases.
        phase_images: The training datasets that each phase reads.
        vals: Validation datasets by domain.
        cache_dir: Folder of the caches.

    Raises:
        Problems: All problems together: a domain without images, an unknown block or layer, a monitored metric that
            the validation images do not allow, a cache that would change the result or that does not fit on the disk,
            a precision of frozen layers without frozen layers.
    """
    all_images = [
        [*trains, *([vals[phase.domain]] if phase.domain in vals else [])]
        for phase, trains in zip(phases, phase_images, strict=True)
    ]
    phases = [choose_cache(model, phase, images) for phase, images in zip(phases, all_images, strict=True)]
    problems = []
    for phase, trains, images in zip(phases, phase_images, all_images, strict=True):
        messages = [
            None if trains else no_images(phase),
            *map(str, problems_of("", resolve_trainable, model, phase.trainable)),
            *_check_validation(phase, vals.get(phase.domain)),
            _cache_problem(model, phase, images) if trains and phase.cache != "none" else None,
            *_check_precision(model, phase),
            *_check_training(model, phase, trains),
            *custom_problems(
                phase,
                model.output_shape[-1],
                mixes=any(train.mixes for train in trains),
                has_val=phase.domain in vals,
            ),
        ]
        # An unknown layer is found by several checks.
        problems += [
            Problem(f"phase {phase.name}", message) for message in dict.fromkeys(messages) if message
        ]
    if not problems and (message := _disk_problem(model, phases, all_images, cache_dir)):
        names = ", ".join(phase.name for phase in phases if phase.cache != "none")
        problems = [Problem(f"phase {names}", message)]
    raise_problems("The training", problems, "Nothing was trained.")
    return [with_direction(phase, model.output_shape[-1]) for phase in phases]


def _check_validation(phase: Phase, val: ImageDataset | None) -> Iterator[str]:
    if val is None:
        if phase.early_stopping is not None:
            yield (
                f"early_stopping monitors {phase.monitor}, but domain {phase.domain} has no validation images. "
                "Add validation images (split.val_fraction, in Python validation_data=), or remove early_stopping."
            )
        return
    for name, is_set in (("mix", val.mixes), ("augment", val.augmented)):
        if is_set:
            yield f"{name}= is set for validation images, but only training images may be changed. Use {name}=None."
    if getattr(val, "drop_remainder", False):
        yield "the validation images have drop_remainder=True, which drops images. Use drop_remainder=False."
    if phase.monitor == "val_auc":
        present = {int(label) for label in np.asarray(val.labels)}
        absent = [name for index, name in enumerate(val.class_names) if index not in present]
        if absent:
            yield (
                f"{setting('monitor', 'val_auc')} needs validation images of every class, but '{absent[0]}' has none. "
                f"Use {setting('monitor', 'val_loss')}, or add validation images of this class."
            )


def _check_training(model: keras.Model, phase: Phase, trains: Sequence[ImageDataset]) -> Iterator[str]:
    for train in trains:
        if not train.steps_per_epoch:
            yield f"{train.num_examples} training images are fewer than one batch of {train.batch_size}. Use a smaller batch."
    accumulate = getattr(phase.optimizer, "gradient_accumulation_steps", phase.accumulate) or 1
    batches = phase.epochs * trains[0].steps_per_epoch if trains else accumulate
    if 0 < batches < accumulate:
        name = setting("accumulate", accumulate)
        if not isinstance(phase.optimizer, str):
            name = f"optimizer: gradient_accumulation_steps={accumulate}"
        yield f"{name} needs {accumulate} batches for one update, but the phase has {batches}. Accumulate fewer batches, or train for more epochs."
    with contextlib.suppress(RequestError):  # unknown layers have a message of their own
        if not count_trained(model, phase):
            yield (
                f"no weight is trained: the last layer with weights, '{head_layers(model)[-1]}', has no trainable weights. Use "
                f"{setting('trainable', 'all')}."
            )
    known = [block.name for block in list_blocks(model)]
    for name in {rate.block for rate in phase.rates} - {*known}:
        yield f"rates: unknown block '{name}'. {did_you_mean(name, known)}"


def _check_precision(model: keras.Model, phase: Phase) -> Iterator[str]:
    for name in ("precision", "trunk_precision"):
        if getattr(phase, name) != "float32" and not has_table(model):
            yield (
                f"{name} is for models from build_classifier. The layers of other models compute in the precision that "
                f"they were built with: keras.config.set_dtype_policy('mixed_bfloat16'). Use {setting(name, 'float32')}."
            )
            return
    trains_head_only = phase.trainable == "none" and phase.batch_norm == "frozen"
    if phase.precision != "float32" and trains_head_only:
        yield (
            f"{setting('precision', phase.precision)} has no effect if only the head is trained, because the head computes in "
            f"float32. Use {setting('precision', 'float32')}, or {setting('trunk_precision', 'bfloat16')} for the frozen layers."
        )
    if phase.trunk_precision == "float32":
        return
    with contextlib.suppress(RequestError):  # unknown layers have a message of their own
        if find_boundary(model, phase) is not None:
            return
        requirement = f"{setting('trunk_precision', phase.trunk_precision)} needs frozen layers before the trainable layers"
        later = ", ".join(block.name for block in list_blocks(model)[1:])
        yield f"{requirement}, " + (
            f"but all layers are trainable. Use {setting('trainable', 'none')}, or {setting('trainable', {'from_block': 'NAME'})} "
            f"with one of {later}; or {setting('trunk_precision', 'float32')}."
            if phase.batch_norm == "frozen"
            else f"but with {setting('batch_norm', phase.batch_norm)} the statistics of all layers change. "
            f"Use {setting('batch_norm', 'frozen')}, or {setting('trunk_precision', 'float32')}."
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
