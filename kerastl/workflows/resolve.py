"""Decide every `auto` value of a recipe and check its phases before training starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kerastl import training
from kerastl.console import print_status
from kerastl.data import ImageDataset
from kerastl.errors import Problem, Problems
from kerastl.recipe import Phase, Recipe, read_plain
from kerastl.runs import RESOLVED_RECIPE, Run, format_bytes
from kerastl.training import MemoryEstimate
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phases import (
    changes_pixels,
    check_methods,
    datasets_by_domain,
    expanded_phases,
    method_phases,
    run_phases,
    target_dataset,
)

AUTO_SHARE = 0.5
"""The share of the available memory that `batch_size: auto` uses, because other programs need memory, too."""


@dataclass(frozen=True)
class Plan:
    """What a run will train.

    Args:
        phases: The phases of the run and of the adaptation methods.
        model: The initial model.
        trains, vals: Datasets by domain.
        targets: The target dataset that each phase reads in addition to its own; None if it reads none.
        resumed_recipe: The resolved recipe of a resumed run, which keeps its values; None for a new run.
    """

    phases: Sequence[Phase]
    model: keras.Model
    trains: Mapping[str, ImageDataset]
    vals: Mapping[str, ImageDataset]
    targets: Sequence[ImageDataset | None]
    resumed_recipe: Mapping[str, Any] | None = None

    @property
    def phase_images(self) -> list[list[ImageDataset]]:
        """The training datasets that each phase reads."""
        return [
            [dataset for dataset in (self.trains.get(phase.domain), target) if dataset is not None]
            for phase, target in zip(self.phases, self.targets, strict=True)
        ]


def resolve(recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, *, resume: bool) -> Recipe:
    """Decide the `auto` values of a recipe, and check that each phase can be trained.

    Args:
        recipe: The recipe.
        initial: The initial model.
        datasets: All images.
        run: The run folder. A resumed run keeps the values of its resolved recipe.
        resume: Whether the run is resumed.

    Returns:
        The recipe with the cache of each phase and the batch size.

    Raises:
        Problems: Phases that cannot be trained: missing layers, images or disk space, unsuitable methods, too little
            memory. Nothing was written.
    """
    check_methods(recipe, datasets, initial.model)
    plan = _build_plan(recipe, initial.model, datasets, run, resume=resume)
    training.check_phases(
        plan.model, plan.phases, trains=plan.trains, vals=plan.vals,
        cache_dir=training.activations_folder(), phase_images=plan.phase_images,
    )  # fmt: skip
    for phase, phase_images in zip(plan.phases, plan.phase_images, strict=True):
        if phase.cache != "none":
            val = [plan.vals[phase.domain]] if phase.domain in plan.vals else []
            print_status(training.describe_cache(plan.model, phase, [*phase_images, *val]))
    caches: dict[int, str] = {}
    for (index, _), phase in zip(expanded_phases(recipe), plan.phases, strict=True):
        caches.setdefault(index, phase.cache)
    phases = tuple(
        phase.model_copy(update={"cache": caches[index]}) for index, phase in enumerate(recipe.phases)
    )
    return _with_batch_size(recipe.model_copy(update={"phases": phases}), plan)


def _build_plan(recipe: Recipe, model: keras.Model, datasets: Datasets, run: Run, *, resume: bool) -> Plan:
    """Return the plan of a run, with the cache of each phase decided."""
    without_target, with_target = run_phases(recipe), method_phases(recipe)
    phases, target = [*without_target, *with_target], target_dataset(recipe, datasets)
    trains, vals = (datasets_by_domain(datasets, phases, split) for split in ("train", "val"))
    targets = [None] * len(without_target) + [target] * len(with_target)
    resumed_recipe = None
    if resume and run.file(RESOLVED_RECIPE).is_file():
        resumed_recipe = read_plain(run.file(RESOLVED_RECIPE).read_text(encoding="utf-8"))
    plan = Plan(phases, model, trains, vals, targets, resumed_recipe)
    return dataclasses.replace(
        plan, phases=training.decide_phases(phases, trains, phase_images=plan.phase_images)
    )


@dataclass(frozen=True)
class AvailableMemory:
    """Available bytes; None if unknown or without a GPU, and then everything fits."""

    host: int | None
    gpu: int | None

    def holds(self, estimate: MemoryEstimate, batch_size: int, share: float = 1.0) -> bool:
        """Return whether a phase fits into a share of the memory."""
        pairs = ((estimate.host(batch_size), self.host), (estimate.gpu(batch_size), self.gpu))
        return all(available is None or needed <= share * available for needed, available in pairs)

    def largest_batch(self, estimate: MemoryEstimate, batch_size: int) -> int:
        """Return the largest batch size up to `batch_size` that fits, or 0."""
        return next((size for size in range(batch_size, 0, -1) if self.holds(estimate, size)), 0)

    def describe(self, estimate: MemoryEstimate, batch_size: int) -> str:
        """Return what is needed and available: `1.9 GB at batch size 32 (20.0 GB available)`."""
        needed = [format_bytes(estimate.host(batch_size))]
        available = ["unknown" if self.host is None else format_bytes(self.host)]
        if self.gpu is not None:
            needed.append(f"{format_bytes(estimate.gpu(batch_size))} on the GPU")
            available.append(format_bytes(self.gpu))
        return f"{' and '.join(needed)} at batch size {batch_size} ({' and '.join(available)} available)"


def _with_batch_size(recipe: Recipe, plan: Plan) -> Recipe:
    """Return the recipe with its batch size, and print the estimated memory of the largest phase."""
    available = AvailableMemory(training.available_memory(), training.available_gpu_memory())
    estimates = [
        training.estimate_memory(
            plan.model, phase, plan.trains.get(phase.domain), plan.vals.get(phase.domain),
            target=target, on_gpu=available.gpu is not None,
            changes_pixels=target is not None and changes_pixels(recipe),
        )
        for phase, target in zip(plan.phases, plan.targets, strict=True)
    ]  # fmt: skip
    wanted = recipe.data.batch_size
    if wanted != "auto":
        batch_size = wanted
    elif plan.resumed_recipe is not None:
        batch_size = int(plan.resumed_recipe["data"]["batch_size"])
    else:
        least = 2 if recipe.augment.mixing else 1
        batch_size = auto_batch_size(estimates, available, recipe.data.known_batch_size, least)
        print_status(f"data.batch_size: auto is {batch_size}")
    if estimates:
        largest = max(estimates, key=lambda estimate: estimate.host(batch_size))
        print_status(f"Estimated peak memory: {available.describe(largest, batch_size)}")
    if plan.resumed_recipe is None:
        is_cached = any(source.cache == "memory" for source in plan.trains.values())
        check_fits(plan.phases, estimates, batch_size, available, is_cached)
    data = recipe.data.model_copy(update={"batch_size": batch_size})
    return recipe.model_copy(update={"data": data})


def auto_batch_size(
    estimates: Sequence[MemoryEstimate], available: AvailableMemory, highest: int, least: int
) -> int:
    """Return `highest`, or the largest half, quarter, ... of it of which all phases fit into `AUTO_SHARE`."""
    batch_size = highest
    while batch_size > least and not all(
        available.holds(estimate, batch_size, AUTO_SHARE) for estimate in estimates
    ):
        batch_size //= 2
    return batch_size


def check_fits(
    phases: Sequence[Phase],
    estimates: Sequence[MemoryEstimate],
    batch_size: int,
    available: AvailableMemory,
    is_cached: bool,
) -> None:
    """Raise Problems that name all phases that do not fit, the largest batch size, and what to type."""
    fits = [available.largest_batch(estimate, batch_size) for estimate in estimates]
    problems = [
        Problem(
            f"phase {phase.name}",
            f"needs about {available.describe(estimate, batch_size)}. "
            + (f"The largest batch size that fits is {size}." if size else "No batch size fits."),
        )
        for phase, estimate, size in zip(phases, estimates, fits, strict=True)
        if size < batch_size
    ]
    if not problems:
        return
    if min(fits):
        footer = f"The same number of images per update: {_smaller_batch(phases, batch_size, min(fits))}"
    else:
        footer = "What needs less memory: --set data.image_size_px=..., fewer trainable layers"
        footer += ", --set data.cache=none." if is_cached else "."
    footer += "\nIf the estimate is wrong, set the available memory: export KERASTL_MEMORY=8GB. Nothing was trained."
    raise Problems("The training", problems, footer)


def _smaller_batch(phases: Sequence[Phase], batch_size: int, largest: int) -> str:
    """Return the options for a batch that fits, and as many images per update as before."""
    times = -(-batch_size // largest)
    option = f"--set data.batch_size={-(-batch_size // times)}"
    if any(phase.is_part for phase in phases):
        # These phases have other indices than in the recipe file.
        return f"{option}, and accumulate: {times} in each phase"
    accumulate = (
        f"--set phases[{index}].accumulate={times * phase.accumulate}" for index, phase in enumerate(phases)
    )
    return " ".join([option, *accumulate])
