"""The training phases of a recipe, the phases of each adaptation method, and the datasets that they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from kerastl import adaptation
from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.callbacks import TimeBudget
from kerastl.console import print_status
from kerastl.data import ImageDataset, Record
from kerastl.errors import Problem, Problems, RequestError
from kerastl.models import block_names
from kerastl.recipe import Phase, Recipe
from kerastl.workflows.datasets import Datasets


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
    """Return the target phases as every adaptation method trains them; empty without methods.

    Their labeled dataset is the source, and the target is a second dataset. If a method changes pixels in its step,
    activations cannot be cached, so that `cache: auto` becomes `none`.
    """
    if recipe.adapts_by is None:
        return []
    phases = [
        phase.model_copy(update={"domain": "source"})
        for phase in training_phases(recipe)
        if phase.domain == "target"
    ]
    if not changes_pixels(recipe):
        return phases
    return [
        phase.model_copy(update={"cache": "none"}) if phase.cache == "auto" else phase for phase in phases
    ]


def candidate_phases(recipe: Recipe, method: recipes.Method, model: keras.Model) -> list[Phase]:
    """Return the phases of one candidate.

    A method that trains BatchNorm only keeps all other layers frozen, whatever the phases of the recipe say. A
    source-free method that only estimates statistics needs one epoch.
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
    """Return `source_only` and the methods of the recipe, without those that need missing target labels."""
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
    """Return the dataset of a split (`train` or `val`) for each domain of the phases that has images."""
    by_domain: dict[str, ImageDataset] = {}
    for domain in dict.fromkeys(phase.domain for phase in phases):
        records = datasets.in_split(split if domain == "source" else f"target_{split}")
        if records:
            by_domain[domain] = datasets.dataset(records, training=split == "train")
    return by_domain


def target_training_records(datasets: Datasets) -> list[Record]:
    """Return the target images that training may use: all except validation and test images."""
    return [*datasets.in_split("target_train"), *datasets.in_split("target_unlabelled")]


def target_dataset(recipe: Recipe, datasets: Datasets) -> ImageDataset | None:
    """Return the target images as adaptation methods read them; None without methods.

    They are augmented like source images, but not mixed, because most have no label.
    """
    if recipe.adapts_by is None:
        return None
    return datasets.dataset(target_training_records(datasets), training=True, mixed=False)


def build_step_factory(recipe: Recipe, method: recipes.Method, model: keras.Model) -> Any:
    """Return the `step_for` argument of `fit` for a method."""
    return adaptation.step_for(
        method.name, model, method.options, seed=recipe.seed,
        without_source=recipe.source is not None,
    )  # fmt: skip


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
    problems = list(_method_problems(recipe, datasets, model))
    if problems:
        raise Problems("The adaptation", problems, "Nothing was trained.")
    for method in recipe.adapts_by.methods:
        if _lacks_labels(recipe, method):
            print_status(f"Skipping {method.name}: it needs target labels (target.labels is none).")


def _method_problems(recipe: Recipe, datasets: Datasets, model: keras.Model) -> Iterator[Problem]:
    if not target_training_records(datasets):
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


def time_budget(recipe: Recipe, phases: Sequence[Phase]) -> list[TimeBudget]:
    """Return the callback that keeps a training within its share of the budget, or none without a budget.

    The run itself and each adaptation method get shares in proportion to their epochs.
    """
    if recipe.budget is None:
        return []
    num_methods = max(0, len(candidate_methods(recipe)) - 1)
    total = _num_epochs(run_phases(recipe)) + num_methods * _num_epochs(method_phases(recipe))
    return [TimeBudget(60 * recipe.budget.minutes * _num_epochs(phases) / total, phases)]


def _num_epochs(phases: Sequence[Phase]) -> int:
    return sum(phase.epochs for phase in phases)
