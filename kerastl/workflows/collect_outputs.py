"""What a candidate makes of the images that it is chosen by: features and logits, no label of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.adaptation import SOURCE_ONLY
from kerastl.data import ImageDataset
from kerastl.evaluation.trained_model import read_unverified_model
from kerastl.recipe import Phase, Recipe
from kerastl.selection.evidence import Evidence, Mixed, Outputs, VerifiedInformation
from kerastl.selection.validators import MixvalOptions, draw_pairs
from kerastl.training import (
    batch_norm_layers,
    build_statistics_estimator,
    read_batches,
    trace_inference,
    unfreeze,
)
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.phase_data import candidates, candidate_phases, target_training_records, training_phases

NAME = "mixval"


def mixing_of(recipe: Recipe) -> MixvalOptions | None:
    """Return how images are mixed for the choice; None: no validator of the recipe asks for it."""
    asked = recipe.adaptation.select_by if recipe.adaptation else ()
    for one in asked:
        if one.name == NAME:
            return one.options or MixvalOptions()
    return None


def mixed_target(
    forward: Callable[[Any], Any], target: ImageDataset, logits: np.ndarray[Any, Any], options: MixvalOptions
) -> Mixed:
    """Return a candidate's answers to mixed images of the target.

    Args:
        forward: images `[b, size, size, 3]` float32 in [0, 255] to (features, logits).
        target: the images, as they are.
        logits: `[n, classes]` of the candidate, which decide who is mixed with whom.
        options: share and seed.

    Raises:
        RunFailed: a file that could be read when the run began can no longer be; the text names it.
    """
    first, second = draw_pairs(logits, seed=options.seed)
    # Both of a pair in one go: where images are not kept they are decoded in parallel.
    sides = (target.select(rows, target.batch_size) for rows in (first, second))
    told = []
    try:
        for (one, _), (other, _) in tf.data.Dataset.zip(tuple(sides)):
            told.append(forward(options.share * one + (1 - options.share) * other)[1])
    except tf.errors.OpError as error:
        raise target.explain(error) from error
    answers = np.concatenate([np.asarray(one) for one in told])
    return Mixed(answers, first, second, options.share)


@dataclass(frozen=True)
class Shown:
    """The images that every candidate is shown, as they are; each is decoded once for all candidates where they fit.

    Args:
        train, val: of the source; None: its images are not at hand.
        target: those that training may see.
        mixing: how pairs of the target's are mixed; None: no validator asks for it.
        proven: what the source's images proved where they are not at hand; None: they are, or it was not told.
    """

    train: ImageDataset | None
    val: ImageDataset | None
    target: ImageDataset
    mixing: MixvalOptions | None = None
    proven: VerifiedInformation | None = None

    @classmethod
    def of(cls, recipe: Recipe, images: Datasets) -> Shown:
        """Return the images of a run; test images are not among them."""
        target, mixing = images.dataset(recipe, target_training_records(images)), mixing_of(recipe)
        if recipe.source is not None:
            return cls(None, None, target, mixing, _proven_of(recipe.source.model))
        train, val = (images.dataset(recipe, images.in_split(one)) for one in ("train", "val"))
        return cls(train, val, target, mixing)


def observe(
    model: keras.Model, shown: Shown, *, own_statistics: bool, began: Evidence | None = None
) -> Evidence:
    """Return what a candidate makes of the images.

    Args:
        model: the candidate; it is given back as it was.
        shown: the images.
        began: of the model that it began from; told on only where the source's images are not at hand.
        own_statistics: BatchNorm's statistics are the target's by now. At the source they would say how the candidate does
            where it will not be used, so there the source's own are taken.
    """
    forward = forward_of(model)
    target = outputs_of(forward, shown.target, labelled=False)
    mixed = None
    if shown.mixing is not None:
        mixed = mixed_target(forward, shown.target, target.logits, shown.mixing)
    names = tuple(shown.target.class_names)
    if shown.train is None or shown.val is None:
        first = None if began is None else began.target.logits
        return Evidence(None, None, target, names, mixed, shown.proven, first)
    with statistics_of(model, shown.train) if own_statistics else nullcontext():
        train, val = (outputs_of(forward, one, labelled=True) for one in (shown.train, shown.val))
    return Evidence(train, val, target, names, mixed)


def observe_renormalized(model: keras.Model, shown: Shown, target: ImageDataset) -> Evidence | None:
    """Return what a model makes of each domain with BatchNorm's statistics of that domain; None: it has no BatchNorm.

    Args:
        model: as it was trained at the source; its flags are changed, its weights are given back as they were.
        shown: the images.
        target: those of the target that its statistics are estimated on, as they are or as training sees them.
    """
    if not batch_norm_layers(model):
        return None
    before = model.get_weights()
    unfreeze(model, "all", batch_norm="statistics")
    build_statistics_estimator(model)(target)
    evidence = observe(model, shown, own_statistics=True)
    model.set_weights(before)
    return evidence


def _proven_of(model: Path) -> VerifiedInformation | None:
    """Return what a model that came without images proved where they are."""
    told = read_unverified_model(model).validation
    if told is None or told["bounded_information"] is None or told["temperature"] is None:
        return None
    known = told["bounded_information"]
    return VerifiedInformation(known["value"], told["temperature"], known["low"], known["high"])


@contextmanager
def statistics_of(model: keras.Model, source: ImageDataset) -> Iterator[None]:
    """Give BatchNorm that may follow images the statistics of a source inside; the model ends as it was."""
    before = [(layer, layer.get_weights()) for layer in batch_norm_layers(model)]
    build_statistics_estimator(model)(source)
    yield
    for layer, weights in before:
        layer.set_weights(weights)


def forward_of(model: keras.Model) -> Callable[[Any], Any]:
    """Return what gives the features `pooled` and the logits of images, with the weights that the model has by then."""
    both = keras.Model(model.inputs[0], [model.get_layer("pooled").output, model.outputs[0]])
    forward: Callable[[Any], Any] = trace_inference(both)
    return forward


def outputs_of(forward: Callable[[Any], Any], source: ImageDataset, *, labelled: bool) -> Outputs:
    """Return what `forward_of` a model makes of every image of a source, in the order of its records."""
    told = [forward(images) for images, _, _ in read_batches(source, 0)]
    features, logits = (np.concatenate([np.asarray(one) for one in rows]) for rows in zip(*told, strict=True))
    groups = tuple(f"{one.domain}/{one.group}" if one.group else "" for one in source.records)
    labels = source.labels if labelled else None
    return Outputs(features, logits, labels, groups if any(groups) else None)


@dataclass(frozen=True)
class HeldOut:
    """Images that every model is shown; each is decoded once for all models where they fit.

    Args:
        train: of the source, from which its statistics are estimated.
        val: labelled images of the source that no model learnt from.
        target: the target's, those of its test and validation where there are some, else those without labels.
        target_splits: the splits that they are of; none without a target.
    """

    train: ImageDataset
    val: ImageDataset
    target: ImageDataset | None
    target_splits: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, images: Datasets) -> HeldOut | None:
        """Return the images of a run; None for one of a single site, or without images of the source to compare with."""
        if not images.in_split("val") or not images.in_split("train"):
            return None
        if recipe.target is None and not several_domains(images):
            return None
        judged = [name for name in ("target_test", "target_val") if images.in_split(name)]
        splits = judged or [name for name in ("target_unlabelled",) if images.in_split(name)]
        records = [record for name in splits for record in images.in_split(name)]
        return cls(
            images.dataset(recipe, images.in_split("train")),
            images.dataset(recipe, images.in_split("val")),
            images.dataset(recipe, records) if records else None,
            tuple(splits),
        )


def several_domains(images: Datasets) -> list[str]:
    """Return the domains of the source's training images where there are two or more."""
    found = sorted({record.domain for record in images.in_split("train") if record.domain})
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
    """Return what a model makes of the images.

    Args:
        model: it is given back as it was, but for flags of layers.
        held_out: the images.
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
    last = candidate_phases(recipe, method, model)[-1]
    return last if last.batch_norm != "frozen" else None
