"""Resolve a recipe to a plan: the phases of every training, with each `auto` value decided, checked before training starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras

from kerastl import adaptation, training
from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.callbacks import TimeBudget
from kerastl.console import Facts, print_status
from kerastl.data import ImageDataset
from kerastl.errors import (
    Problem,
    Problems,
    RequestError,
    pluralize,
    raise_problems,
    report_damage,
    set_option,
)
from kerastl.evaluation.trained_model import read_unverified_model
from kerastl.image_size import plain_size
from kerastl.models import block_names
from kerastl.recipe import Method, Phase, Recipe, read_plain
from kerastl.runs import RESOLVED_RECIPE, START_AGAIN, Run, format_bytes
from kerastl.runs.schemas import ValidationResults
from kerastl.training import MemoryEstimate
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel

AUTO_SHARE = 0.5
"""The share of the available memory that `batch_size: auto` uses, because other programs need memory, too."""


@dataclass(frozen=True)
class CandidatePlan:
    """How a candidate of an adaptation is trained.

    Args:
        method: The adaptation method.
        phases: Its phases.
        recipe: The recipe that is written to its run folder.
    """

    method: Method
    phases: tuple[Phase, ...]
    recipe: Recipe

    @property
    def target_phase(self) -> Phase | None:
        """The last phase if BatchNorm adopts target statistics in it, otherwise None."""
        return None if self.method.name == SOURCE_ONLY else _adopts_statistics(self.phases[-1])


@dataclass(frozen=True)
class Plan:
    """The training plan of a run.

    Args:
        recipe: The recipe with every `auto` value decided, as it is written to the run folder.
        phases: The phases of the run itself. None if the initial model is not trained before it is adapted.
        num_before: Number of phases before the adaptation, after which the model is kept as `source_only`.
            None if no target phase follows.
        source_recipe: The recipe that is written to the run folder of `source_only`.
        candidates: `source_only` and the adaptation methods. Empty if the run itself trains the target
            phases.
        target_phase: The last phase of a fine-tuning at the target if BatchNorm adopts target statistics in
            it, otherwise None.
        seconds_per_epoch: The time budget of each epoch. None without a budget.
        source_validation: Validation results of the model of `source.model`. None without such a model.
    """

    recipe: Recipe
    phases: tuple[Phase, ...] | None
    num_before: int | None
    source_recipe: Recipe
    candidates: tuple[CandidatePlan, ...]
    target_phase: Phase | None
    seconds_per_epoch: float | None
    source_validation: ValidationResults | None

    def count_trained(self, model: keras.Model) -> list[tuple[Phase, int]]:
        """Return each phase of the run itself with the number of its trainable parameters."""
        return [(phase, training.count_trained(model, phase)) for phase in self.phases or ()]

    @property
    def facts(self) -> Facts:
        """The candidates of the adaptation, as a fact to print; none without candidates."""
        names = ", ".join(candidate.method.name for candidate in self.candidates)
        epochs = pluralize(_num_epochs(method_phases(self.recipe)), "epoch")
        text = f"{names}: each is adapted for at most {epochs}, and one is selected"
        return [("Candidates", text)] if names else []

    def time_budget(self, phases: Sequence[Phase]) -> list[TimeBudget]:
        """Return the callback that limits training to its share of the budget, or none without a budget."""
        if self.seconds_per_epoch is None:
            return []
        return [TimeBudget(self.seconds_per_epoch * _num_epochs(phases), phases)]


def resolve(recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, *, resume: bool) -> Plan:
    """Decide the `auto` values of a recipe, and check that each phase can be trained.

    Args:
        recipe: The recipe.
        initial: The initial model.
        datasets: All images.
        run: The run folder. A resumed run keeps the batch size of its resolved recipe.
        resume: Whether the run is resumed.

    Returns:
        The phases of every training, and the resolved recipe.

    Raises:
        Problems: Some phases cannot be trained: missing layers, images or disk space, unsuitable methods, or
            insufficient memory. Nothing was written.
    """
    check_methods(recipe, datasets, initial.model)
    own, adapting = run_phases(recipe), method_phases(recipe)
    trains, vals = (datasets_by_domain(datasets, [*own, *adapting], split) for split in ("train", "val"))
    target = datasets.target_training() if adapting else None
    targets = [None] * len(own) + [target] * len(adapting)
    phase_images = [
        [dataset for dataset in (trains.get(phase.domain), target) if dataset is not None]
        for phase, target in zip([*own, *adapting], targets, strict=True)
    ]
    phases = training.decide_phases(
        initial.model, [*own, *adapting], phase_images, vals=vals, cache_dir=training.activations_folder()
    )
    for phase, images in zip(phases, phase_images, strict=True):
        if phase.cache != "none":
            val = [vals[phase.domain]] if phase.domain in vals else []
            print_status(training.describe_cache(initial.model, phase, [*images, *val]))
    resumed_batch_size = None
    if resume:
        with report_damage(run.file(RESOLVED_RECIPE), START_AGAIN):
            resolved = read_plain(run.file(RESOLVED_RECIPE).read_text(encoding="utf-8"))
            resumed_batch_size = int(resolved["data"]["batch_size"])
    batch_size = _batch_size(recipe, initial.model, phases, trains, vals, targets, resumed_batch_size)
    return plan_of(_resolved(recipe, phases, datasets, batch_size), initial)


def _resolved(recipe: Recipe, decided_phases: Sequence[Phase], datasets: Datasets, batch_size: int) -> Recipe:
    """Return the recipe with the resolved values of its phases and data."""
    caches: dict[int, str] = {}
    for (index, _), phase in zip(expanded_phases(recipe), decided_phases, strict=True):
        caches.setdefault(index, phase.cache)
    phases = [phase.model_copy(update={"cache": caches[index]}) for index, phase in enumerate(recipe.phases)]
    window: recipes.Window | str = "full"
    if datasets.window:
        low, high = datasets.window
        window = recipes.Window(center=(low + high) / 2, width=high - low)
    values = {
        "image_size_px": plain_size(datasets.image_size_px),
        "cache": datasets.cache,
        "batch_size": batch_size,
    }
    data = recipe.data.model_copy(update={"window": window, **values})
    return recipe.model_copy(update={"phases": tuple(phases), "data": data})


def plan_of(recipe: Recipe, initial: InitialModel) -> Plan:
    """Return the plan of a resolved recipe."""
    own, all_phases = run_phases(recipe), training_phases(recipe)
    without_export = recipe.model_copy(update={"export": recipe.export.model_copy(update={"formats": ()})})
    candidates = [
        CandidatePlan(
            method,
            tuple(candidate_phases(recipe, method, initial.model)),
            _with_method(without_export, recipe.adapts_by, method),
        )
        for method in candidate_methods(recipe)
    ]
    is_trained = recipe.source is None and (bool(own) or initial.head.outcome != "kept")
    numbers = [number for number, phase in enumerate(all_phases, 1) if phase.domain == "source"]
    num_before = max(numbers, default=0)
    is_kept = num_before < len(all_phases) and (num_before > 0 or not is_trained)
    source_phases = tuple(phase for phase in recipe.phases if phase.domain == "source")
    source_recipe = without_export.model_copy(update={"adaptation": None, "phases": source_phases})
    if not num_before and recipe.adaptation is not None:
        # Without a training phase, the recipe reproduces the run only with its adaptation and its phases.
        source_recipe = _with_method(without_export, recipe.adaptation, Method(name=SOURCE_ONLY))
    seconds_per_epoch = None
    if recipe.budget is not None:
        # The run itself and each adaptation method get shares in proportion to their epochs.
        num_methods = max(0, len(candidates) - 1)
        num_epochs = _num_epochs(own) + num_methods * _num_epochs(method_phases(recipe))
        seconds_per_epoch = 60 * recipe.budget.minutes / num_epochs
    return Plan(
        recipe,
        tuple(own) if is_trained else None,
        num_before if is_kept else None,
        source_recipe,
        tuple(candidates),
        _adopts_statistics(all_phases[-1]) if is_kept and not candidates else None,
        seconds_per_epoch,
        read_unverified_model(recipe.source.model).validation if recipe.source else None,
    )


def _with_method(recipe: Recipe, block: recipes.Adaptation | None, method: Method) -> Recipe:
    """Return a recipe that adapts with one method."""
    assert block is not None
    return recipe.model_copy(update={"adaptation": block.model_copy(update={"methods": (method,)})})


def _adopts_statistics(phase: Phase) -> Phase | None:
    """Return a phase at the target if BatchNorm adopts target statistics in it, otherwise None."""
    return phase if phase.batch_norm != "frozen" else None


def expanded_phases(recipe: Recipe) -> list[tuple[int, Phase]]:
    """Return each training phase with its index in the recipe; gradual unfreezing has one phase per block."""
    blocks: Sequence[str] = ()
    if any(isinstance(phase.trainable, recipes.Unfreeze) for phase in recipe.phases):
        blocks = block_names(recipe.backbone.name)
    return [
        (index, part) for index, phase in enumerate(recipe.phases) for part in phase.unfrozen_by_epoch(blocks)
    ]


def training_phases(recipe: Recipe) -> list[Phase]:
    """Return the training phases; gradual unfreezing has one phase per block."""
    return [phase for _, phase in expanded_phases(recipe)]


def run_phases(recipe: Recipe) -> list[Phase]:
    """Return the phases that the run itself trains: all, or only the source phases if methods adapt the model."""
    phases = training_phases(recipe)
    return phases if recipe.adapts_by is None else [phase for phase in phases if phase.domain == "source"]


def method_phases(recipe: Recipe) -> list[Phase]:
    """Return the target phases, as each adaptation method trains them; empty without methods.

    Their labeled dataset is the source, and the target is a second dataset. If a method changes pixels in its
    step, activations cannot be cached, so that `cache: auto` becomes `none`.
    """
    if recipe.adapts_by is None:
        return []
    caches = {"auto": "none"} if changes_pixels(recipe) else {}
    return [
        phase.model_copy(update={"domain": "source", "cache": caches.get(phase.cache, phase.cache)})
        for phase in training_phases(recipe)
        if phase.domain == "target"
    ]


def candidate_phases(recipe: Recipe, method: recipes.Method, model: keras.Model) -> list[Phase]:
    """Return the phases of one candidate.

    A method that trains only BatchNorm keeps all other layers frozen, regardless of the phases in the recipe.
    A source-free method that only estimates statistics needs one epoch.
    """
    phases, properties = method_phases(recipe), adaptation.get_method(method.name)
    if recipe.source is not None and properties.source_optional:
        last = phases[-1]
        batch_norm = "statistics" if last.batch_norm == "trainable" else last.batch_norm
        update = {"epochs": 1, "trainable": "none", "batch_norm": batch_norm, "cache": "none"}
        return [last.model_copy(update=update)]
    if not properties.only_batch_norm:
        return phases
    update = {
        "trainable": adaptation.select_batch_norm(model), "batch_norm": "trainable", "cache": "none",
    }  # fmt: skip
    return [phase.model_copy(update=update) for phase in phases]


def candidate_methods(recipe: Recipe) -> list[recipes.Method]:
    """Return `source_only` and the recipe's methods, except for those that need missing target labels."""
    if recipe.adapts_by is None:
        return []
    methods = {method.name: method for method in recipe.adapts_by.methods}
    source_only = methods.pop(SOURCE_ONLY, recipes.Method(name=SOURCE_ONLY))
    return [source_only, *(method for method in methods.values() if not _lacks_labels(recipe, method))]


def changes_pixels(recipe: Recipe) -> bool:
    """Return whether a method of the recipe changes pixels in its step."""
    methods = recipe.adapts_by.methods if recipe.adapts_by else ()
    return any(adaptation.get_method(method.name).changes_pixels for method in methods)


def datasets_by_domain(datasets: Datasets, phases: Sequence[Phase], split: str) -> dict[str, ImageDataset]:
    """Return the dataset of a split (`train` or `val`) for each domain of the phases, if it has images."""
    by_domain: dict[str, ImageDataset] = {}
    for domain in dict.fromkeys(phase.domain for phase in phases):
        records = datasets.in_split(split if domain == "source" else f"target_{split}")
        if records:
            by_domain[domain] = datasets.dataset(records, training=split == "train")
    return by_domain


def check_methods(recipe: Recipe, datasets: Datasets, model: keras.Model) -> None:
    """Check that each adaptation method can train the model on the target images.

    Args:
        recipe: The recipe.
        datasets: All images.
        model: The model that will be adapted.

    Raises:
        Problems: All problems. Nothing was trained.
    """
    if recipe.adapts_by is None:
        return
    raise_problems("The adaptation", list(_method_problems(recipe, datasets, model)), "Nothing was trained.")
    for method in recipe.adapts_by.methods:
        if _lacks_labels(recipe, method):
            print_status(f"Skipping {method.name}: it needs target labels (target.labels is none).")


def _method_problems(recipe: Recipe, datasets: Datasets, model: keras.Model) -> Iterator[Problem]:
    if not datasets.target_training_records:
        yield Problem(
            "target",
            "All images are validation or test images, so none is left for adaptation. Lower target.split.test_fraction.",
        )
    validation_labels = {record.label for record in datasets.in_split("val")}
    missing = [name for name in datasets.class_names if name not in validation_labels]
    if missing and recipe.source is None:
        yield Problem(
            "data.split",
            f"Class '{missing[0]}' has no source validation image. Model selection needs some of each class. "
            "Raise val_fraction.",
        )
    methods = candidate_methods(recipe)
    if len(methods) == 1:
        yield Problem(
            "adaptation.methods",
            "The only candidate is source_only. "
            f"Add a method, for example {'shot' if recipe.source else 'coral'} or adabn"
            + (", or set target.labels: few." if _without_labels(recipe) else "."),
        )
    for phase in method_phases(recipe):
        needs_validation = phase.keep == "best" or phase.early_stopping is not None
        if needs_validation and not datasets.in_split("target_val"):
            yield Problem(
                f"phase {phase.name}",
                "The target has no labeled validation images to choose the best epoch. "
                "Set keep: last, and remove early_stopping.",
            )
    for method in methods[1:]:
        for phase in candidate_phases(recipe, method, model):
            try:
                adaptation.check_phase(method.name, adaptation.get_method(method.name), model, phase)
            except RequestError as error:
                yield Problem("adaptation.methods", str(error))


def _without_labels(recipe: Recipe) -> bool:
    return recipe.target is None or recipe.target.labels == "none"


def _lacks_labels(recipe: Recipe, method: recipes.Method) -> bool:
    return _without_labels(recipe) and adaptation.get_method(method.name).target_labels == "some"


def _num_epochs(phases: Sequence[Phase]) -> int:
    return sum(phase.epochs for phase in phases)


@dataclass(frozen=True)
class AvailableMemory:
    """Available memory in bytes. None if unknown or if there is no GPU; everything fits in this case."""

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
        """Return the required and the available memory: `1.9 GB at batch size 32 (20.0 GB available)`."""
        needed = [format_bytes(estimate.host(batch_size))]
        available = ["unknown" if self.host is None else format_bytes(self.host)]
        if self.gpu is not None:
            needed.append(f"{format_bytes(estimate.gpu(batch_size))} on the GPU")
            available.append(format_bytes(self.gpu))
        return f"{' and '.join(needed)} at batch size {batch_size} ({' and '.join(available)} available)"


def _batch_size(
    recipe: Recipe,
    model: keras.Model,
    phases: Sequence[Phase],
    trains: Mapping[str, ImageDataset],
    vals: Mapping[str, ImageDataset],
    targets: Sequence[ImageDataset | None],
    resumed: int | None,
) -> int:
    """Return the batch size of a run, and print the estimated memory of the largest phase.

    Args:
        recipe: The recipe.
        model: The initial model.
        phases: All phases.
        trains, vals: Datasets by domain.
        targets: The target dataset that each phase reads in addition to its own dataset; None if it reads
            none.
        resumed: The batch size of a resumed run, which is kept without checking it; None for a new run.

    Raises:
        Problems: A phase does not fit into memory.
    """
    available = AvailableMemory(training.available_memory(), training.available_gpu_memory())
    estimates = [
        training.estimate_memory(
            model, phase, trains.get(phase.domain), vals.get(phase.domain),
            target=target, on_gpu=available.gpu is not None,
            changes_pixels=target is not None and changes_pixels(recipe),
        )
        for phase, target in zip(phases, targets, strict=True)
    ]  # fmt: skip
    if recipe.data.batch_size != "auto":
        batch_size = recipe.data.batch_size
    elif resumed is not None:
        batch_size = resumed
    else:
        least = 2 if recipe.augment.mixing else 1
        batch_size = auto_batch_size(estimates, available, recipe.data.known_batch_size, least)
        print_status(f"data.batch_size: auto is {batch_size}")
    if estimates:
        largest = max(estimates, key=lambda estimate: estimate.host(batch_size))
        print_status(f"Estimated peak memory: {available.describe(largest, batch_size)}")
    if resumed is None:
        is_cached = any(source.cache == "memory" for source in trains.values())
        check_fits(phases, estimates, batch_size, available, is_cached)
    return batch_size


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
    """Raise Problems with all phases that do not fit, the largest batch size, and the options to use."""
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
    """Return the options for a batch size that fits, with the same number of images per update."""
    times = -(-batch_size // largest)
    option = f"--set data.batch_size={-(-batch_size // times)}"
    if any(phase.is_part for phase in phases):
        # These phases have other indices than in the recipe file.
        return f"{option}, and accumulate: {times} in each phase"
    accumulate = (
        set_option(f"phases[{index}].accumulate", times * phase.accumulate)
        for index, phase in enumerate(phases)
    )
    return " ".join([option, *accumulate])
