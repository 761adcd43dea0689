"""The phases of a recipe in the words of the training room, and the images that they learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kerastl import adaptation
from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_status
from kerastl.data import ImageDataset, Record
from kerastl.errors import Problem, Problems, RequestError
from kerastl.models import block_names
from kerastl.recipe import Phase, Recipe
from kerastl.training import TimeBudget
from kerastl.workflows.datasets import Datasets


def expanded_phases(recipe: Recipe) -> list[tuple[int, recipes.Phase]]:
    """Return each phase with its index in the recipe; a phase of gradual unfreezing is one phase per block."""
    blocks: Sequence[str] = ()
    if any(isinstance(phase.trainable, recipes.Unfreeze) for phase in recipe.phases):
        blocks = block_names(recipe.backbone.name)
    return [
        (index, part) for index, phase in enumerate(recipe.phases) for part in phase.unfrozen_by_epoch(blocks)
    ]


def training_phases(recipe: Recipe) -> list[Phase]:
    """Return the phases that are trained; a phase of gradual unfreezing is one phase per block."""
    return [phase for _, phase in expanded_phases(recipe)]


def own_phases(recipe: Recipe) -> list[Phase]:
    """Return the phases that the run itself goes through: all, or, where methods adapt, those at the source."""
    phases = training_phases(recipe)
    if recipe.adapts_by is None:
        return phases
    return [one for one in phases if one.domain == "source"]


def phases_of_methods(recipe: Recipe) -> list[Phase]:
    """Return the phases in which every method of adaptation learns; none where there are no methods.

    Their own images are the source's, with their labels; the target's are another stream. Where one of the methods changes
    images in its step, nothing can be kept of them, so `cache: auto` is none.
    """
    if recipe.adapts_by is None:
        return []
    phases = [
        one.model_copy(update={"domain": "source"})
        for one in training_phases(recipe)
        if one.domain == "target"
    ]
    if not changes_pixels(recipe):
        return phases
    return [one.model_copy(update={"cache": "none"}) if one.cache == "auto" else one for one in phases]


def changes_pixels(recipe: Recipe) -> bool:
    """Tell whether one of a recipe's methods changes images in its step."""
    methods = recipe.adapts_by.methods if recipe.adapts_by else ()
    return any(adaptation.method_named(one.name).changes_pixels for one in methods)


@dataclass(frozen=True)
class Sources:
    """What is learnt from, by domain.

    Args:
        train: shuffled and augmented; only domains that a phase learns from and that have such images.
        val: likewise, as they are.
    """

    train: dict[str, ImageDataset]
    val: dict[str, ImageDataset]


def sources_of(recipe: Recipe, images: Datasets, phases: Sequence[Phase]) -> Sources:
    """Return what some phases learn from."""
    return Sources(*(_by_domain(recipe, images, phases, split) for split in ("train", "val")))


def _by_domain(
    recipe: Recipe, images: Datasets, phases: Sequence[Phase], split: str
) -> dict[str, ImageDataset]:
    found: dict[str, ImageDataset] = {}
    for domain in dict.fromkeys(phase.domain for phase in phases):
        name = split if domain == "source" else f"target_{split}"
        if images.in_split(name):
            found[domain] = images.dataset(recipe, images.in_split(name), training=split == "train")
    return found


def target_pool(images: Datasets) -> list[Record]:
    """Return the target's images that training may see: all but validation and test."""
    return [*images.in_split("target_train"), *images.in_split("target_unlabelled")]


def target_stream(recipe: Recipe, images: Datasets) -> ImageDataset | None:
    """Return the target's images as methods of adaptation learn from them; None where there are no methods.

    They are augmented as the source's are, and not mixed: most have no label to mix.
    """
    if recipe.adapts_by is None:
        return None
    augment = recipe.augment.model_copy(update={"mixing": ()})
    unmixed = recipe.model_copy(update={"augment": augment})
    return images.dataset(unmixed, target_pool(images), training=True)


def candidates(recipe: Recipe) -> list[recipes.Method]:
    """Return the methods that there is something to learn from: source only first, then as the recipe names them."""
    if recipe.adapts_by is None:
        return []
    asked = {one.name: one for one in recipe.adapts_by.methods}
    first = asked.pop(SOURCE_ONLY, recipes.Method(name=SOURCE_ONLY))
    return [first, *(one for one in asked.values() if not _lacks_labels(recipe, one))]


def step_of(recipe: Recipe, method: recipes.Method, model: keras.Model) -> Any:
    """Return what `fit` takes as `step_for`, for one method."""
    return adaptation.step_for(
        method.name, model, method.options, seed=recipe.seed,
        without_source=recipe.source is not None,
    )  # fmt: skip


def check_methods(recipe: Recipe, images: Datasets, model: keras.Model) -> None:
    """See that every method has something to learn in the phases at the target.

    Args:
        recipe: names them.
        images: the splits.
        model: that will be adapted.

    Raises:
        Problems: all that is wrong. Nothing was trained.
    """
    if recipe.adapts_by is None:
        return
    problems = list(_faults(recipe, images, model))
    if problems:
        raise Problems("The adaptation", problems, "Nothing was trained.")
    for method in recipe.adapts_by.methods:
        if _lacks_labels(recipe, method):
            print_status(
                f"{method.name} learns from labels of the target, and there are none (target.labels: none): left out"
            )


def _faults(recipe: Recipe, images: Datasets, model: keras.Model) -> Iterator[Problem]:
    if not target_pool(images):
        yield Problem(
            "target",
            "no image is left to adapt to: all are in its validation or test. Lower target.split.test_fraction.",
        )
    seen = {record.label for record in images.in_split("val")}
    absent = [name for name in images.class_names if name not in seen]
    if absent and recipe.source is None:
        yield Problem(
            "data.split",
            f"class '{absent[0]}' has no validation image at the source, and the choice needs some of each class. "
            "Raise val_fraction.",
        )
    methods = candidates(recipe)
    if len(methods) == 1:
        yield Problem(
            "adaptation.methods",
            f"there is nothing to choose from: source_only alone is left. Add {'shot' if recipe.source else 'coral'} or adabn"
            + (", or write target.labels: few." if _without_labels(recipe) else "."),
        )
    for phase in phases_of_methods(recipe):
        steered = phase.keep == "best" or phase.early_stopping is not None
        if steered and not images.in_split("target_val"):
            yield Problem(
                f"phase {phase.name}",
                "the target has no labelled validation images, so the source's would name the best epoch. "
                "Write keep: last, and no early_stopping.",
            )
    for method in methods[1:]:
        for phase in phases_of(recipe, method, model):
            try:
                adaptation.check_phase(method.name, adaptation.method_named(method.name), model, phase)
            except RequestError as error:
                yield Problem("adaptation.methods", str(error))


def phases_of(recipe: Recipe, method: recipes.Method, model: keras.Model) -> list[Phase]:
    """Return the phases of one candidate, as training knows them.

    A method that may move nothing but BatchNorm gets phases in which nothing else learns, whatever the recipe says of them.
    One that can do without the source by moving no weight has done its work after one epoch.
    """
    phases = phases_of_methods(recipe)
    if recipe.source is not None and adaptation.method_named(method.name).source_optional:
        rule = "statistics" if phases[-1].batch_norm == "trainable" else phases[-1].batch_norm
        return [
            phases[-1].model_copy(
                update={"epochs": 1, "trainable": "none", "batch_norm": rule, "cache": "none"}
            )
        ]
    if not adaptation.method_named(method.name).only_batch_norm:
        return phases
    alone = adaptation.batch_norm_alone(model)
    only_norms = {"trainable": alone, "batch_norm": "trainable", "cache": "none"}
    return [phase.model_copy(update=only_norms) for phase in phases]


def _without_labels(recipe: Recipe) -> bool:
    return recipe.target is None or recipe.target.labels == "none"


def _lacks_labels(recipe: Recipe, method: recipes.Method) -> bool:
    return _without_labels(recipe) and adaptation.method_named(method.name).target_labels == "some"


def time_budget(recipe: Recipe, phases: Sequence[Phase]) -> list[TimeBudget]:
    """Return the callback that keeps the phases of one training within its share of the budget.

    The run's own phases and those of each adaptation method have shares in proportion to their epochs.

    Args:
        recipe: The recipe; without a budget there is no callback.
        phases: The phases of this training.
    """
    if recipe.budget is None:
        return []
    of_methods = (len(candidates(recipe)) - 1) * _epochs(phases_of_methods(recipe))
    share = _epochs(phases) / (_epochs(own_phases(recipe)) + max(0, of_methods))
    return [TimeBudget(60 * recipe.budget.minutes * share, phases)]


def _epochs(phases: Sequence[Phase]) -> int:
    return sum(phase.epochs for phase in phases)
