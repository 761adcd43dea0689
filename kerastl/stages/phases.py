"""The phases of a recipe in the words of the training room, and the pictures that they learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerastl import adaptation
from kerastl import recipe as recipes
from kerastl.data import ImageDataset, Record
from kerastl.models import block_names
from kerastl.recipe import Phase, Recipe
from kerastl.stages.pictures import Pictures


def expanded_phases(recipe: Recipe) -> list[tuple[int, recipes.Phase]]:
    """Return each phase with its index in the recipe; a phase of gradual unfreezing is one phase per block."""
    blocks: Sequence[str] = ()
    if any(isinstance(phase.trainable, recipes.Unfreeze) for phase in recipe.phases):
        blocks = block_names(recipe.backbone.name)
    return [
        (index, part)
        for index, phase in enumerate(recipe.phases)
        for part in phase.unfrozen_by_epoch(blocks)
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

    Their own pictures are the source's, with their labels; the target's are another stream. Where one of the methods changes
    pictures in its step, nothing can be kept of them, so `cache: auto` is none.
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
    return [
        one.model_copy(update={"cache": "none"}) if one.cache == "auto" else one for one in phases
    ]


def changes_pixels(recipe: Recipe) -> bool:
    """Tell whether one of a recipe's methods changes pictures in its step."""
    methods = recipe.adapts_by.methods if recipe.adapts_by else ()
    return any(adaptation.method_named(one.name).changes_pixels for one in methods)


@dataclass(frozen=True)
class Sources:
    """What is learnt from, by domain.

    Args:
        train: shuffled and augmented; only domains that a phase learns from and that have such pictures.
        val: likewise, as they are.
    """

    train: dict[str, ImageDataset]
    val: dict[str, ImageDataset]


def sources_of(recipe: Recipe, pictures: Pictures, phases: Sequence[Phase]) -> Sources:
    """Return what some phases learn from."""
    return Sources(*(_by_domain(recipe, pictures, phases, split) for split in ("train", "val")))


def _by_domain(
    recipe: Recipe, pictures: Pictures, phases: Sequence[Phase], split: str
) -> dict[str, ImageDataset]:
    found: dict[str, ImageDataset] = {}
    for domain in dict.fromkeys(phase.domain for phase in phases):
        name = split if domain == "source" else f"target_{split}"
        if pictures.of(name):
            found[domain] = pictures.source(recipe, name, training=split == "train")
    return found


def target_pool(pictures: Pictures) -> list[Record]:
    """Return the target's pictures that training may see: all but validation and test."""
    return [*pictures.of("target_train"), *pictures.of("target_unlabelled")]


def target_stream(recipe: Recipe, pictures: Pictures) -> ImageDataset | None:
    """Return the target's pictures as methods of adaptation learn from them; None where there are no methods.

    They are augmented as the source's are, and not mixed: most have no label to mix.
    """
    if recipe.adapts_by is None:
        return None
    augment = recipe.augment.model_copy(update={"mixing": ()})
    unmixed = recipe.model_copy(update={"augment": augment})
    return pictures.source_of(unmixed, target_pool(pictures), training=True)
