"""What a model makes of pictures that it did not learn from, each domain with BatchNorm's statistics of its own."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from kerastl.adaptation import SOURCE_ONLY
from kerastl.data import ImageDataset
from kerastl.recipe import Phase, Recipe
from kerastl.selection.evidence import Outputs
from kerastl.stages.methods import candidates, phases_of
from kerastl.stages.observe import forward_of, outputs_of, statistics_of
from kerastl.stages.phases import training_phases
from kerastl.stages.pictures import Pictures
from kerastl.training import unfreeze


@dataclass(frozen=True)
class HeldOut:
    """Pictures that every model is shown; each is decoded once for all models where they fit.

    Args:
        train: of the source, from which its statistics are estimated.
        val: labelled pictures of the source that no model learnt from.
        target: the target's, those of its test and validation where there are some, else those without labels.
        target_splits: the splits that they are of; none without a target.
    """

    train: ImageDataset
    val: ImageDataset
    target: ImageDataset | None
    target_splits: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, pictures: Pictures) -> HeldOut | None:
        """Return the pictures of a run; None for one of a single site, or without pictures of the source to compare with."""
        if not pictures.of("val") or not pictures.of("train"):
            return None
        if recipe.target is None and not several_domains(pictures):
            return None
        judged = [name for name in ("target_test", "target_val") if pictures.of(name)]
        splits = judged or [name for name in ("target_unlabelled",) if pictures.of(name)]
        records = [record for name in splits for record in pictures.of(name)]
        return cls(
            pictures.source_of(recipe, pictures.of("train")),
            pictures.source_of(recipe, pictures.of("val")),
            pictures.source_of(recipe, records) if records else None,
            tuple(splits),
        )


def several_domains(pictures: Pictures) -> list[str]:
    """Return the domains of the source's training pictures where there are two or more."""
    found = sorted({record.domain for record in pictures.of("train") if record.domain})
    return found if len(found) > 1 else []


@dataclass(frozen=True)
class Look:
    """What one model makes of them.

    Args:
        val, target: features and logits; of `target` no label. None: there is no target.
    """

    val: Outputs
    target: Outputs | None


def look(model: keras.Model, held_out: HeldOut, followed: Phase | None) -> Look:
    """Return what a model makes of the pictures.

    Args:
        model: it is given back as it was, but for flags of layers.
        held_out: the pictures.
        followed: the last phase, where BatchNorm's statistics followed the target in it: the source is then seen with
            statistics of its own. None: they are the source's.
    """
    forward = forward_of(model)
    target = None
    if held_out.target is not None:
        target = outputs_of(forward, held_out.target, labelled=False)
    if followed is None:
        return Look(outputs_of(forward, held_out.val, labelled=True), target)
    unfreeze(model, followed.trainable, batch_norm=followed.batch_norm)
    with statistics_of(model, held_out.train):
        return Look(outputs_of(forward, held_out.val, labelled=True), target)


def followed_in(recipe: Recipe, name: str, model: keras.Model) -> Phase | None:
    """Return the last phase of a way to adapt if BatchNorm's statistics followed the target in it.

    Args:
        recipe: with its phases.
        name: of the candidate; `fine_tune` where the recipe names no ways to adapt.
        model: the candidate's.
    """
    if name == SOURCE_ONLY:
        return None
    if recipe.adapts_by is None:
        last = training_phases(recipe)[-1]
        followed = last.domain == "target" and last.batch_norm != "frozen"
        return last if followed else None
    method = next(one for one in candidates(recipe) if one.name == name)
    last = phases_of(recipe, method, model)[-1]
    return last if last.batch_norm != "frozen" else None
