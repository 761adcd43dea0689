"""What a candidate makes of the pictures that it is chosen by: features and logits, no label of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.evaluation.trained_model import told_by
from kerastl.recipe import Recipe
from kerastl.selection.evidence import Evidence, Outputs, Proven
from kerastl.selection.validators.mixval import Options as Mixing
from kerastl.stages.mixed import mixed_target, mixing_of
from kerastl.stages.phases import target_pool
from kerastl.stages.pictures import Pictures
from kerastl.training import (
    batch_norm_layers,
    inference,
    read_batches,
    statistics_estimator,
    unfreeze,
)


@dataclass(frozen=True)
class Shown:
    """The pictures that every candidate is shown, as they are; each is decoded once for all candidates where they fit.

    Args:
        train, val: of the source; None: its pictures are not at hand.
        target: those that training may see.
        mixing: how pairs of the target's are mixed; None: no validator asks for it.
        proven: what the source's pictures proved where they are not at hand; None: they are, or it was not told.
    """

    train: ImageDataset | None
    val: ImageDataset | None
    target: ImageDataset
    mixing: Mixing | None = None
    proven: Proven | None = None

    @classmethod
    def of(cls, recipe: Recipe, pictures: Pictures) -> Shown:
        """Return the pictures of a run; test pictures are not among them."""
        target, mixing = pictures.source_of(recipe, target_pool(pictures)), mixing_of(recipe)
        if recipe.source is not None:
            return cls(None, None, target, mixing, _proven_of(recipe.source.model))
        train, val = (pictures.source_of(recipe, pictures.of(one)) for one in ("train", "val"))
        return cls(train, val, target, mixing)


def observe(
    model: keras.Model, shown: Shown, *, own_statistics: bool, began: Evidence | None = None
) -> Evidence:
    """Return what a candidate makes of the pictures.

    Args:
        model: the candidate; it is given back as it was.
        shown: the pictures.
        began: of the model that it began from; told on only where the source's pictures are not at hand.
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


def observe_renormalised(model: keras.Model, shown: Shown, target: ImageDataset) -> Evidence | None:
    """Return what a model makes of each domain with BatchNorm's statistics of that domain; None: it has no BatchNorm.

    Args:
        model: as it was trained at the source; its flags are changed, its weights are given back as they were.
        shown: the pictures.
        target: those of the target that its statistics are estimated on, as they are or as training sees them.
    """
    if not batch_norm_layers(model):
        return None
    before = model.get_weights()
    unfreeze(model, "all", batch_norm="statistics")
    statistics_estimator(model)(target)
    evidence = observe(model, shown, own_statistics=True)
    model.set_weights(before)
    return evidence


def _proven_of(model: Path) -> Proven | None:
    """Return what a model that came without pictures proved where they are."""
    told = told_by(model).validation
    if told is None or told["bounded_information"] is None or told["temperature"] is None:
        return None
    known = told["bounded_information"]
    return Proven(known["value"], told["temperature"], known["low"], known["high"])


@contextmanager
def statistics_of(model: keras.Model, source: ImageDataset) -> Iterator[None]:
    """Give BatchNorm that may follow pictures the statistics of a source inside; the model ends as it was."""
    before = [(layer, layer.get_weights()) for layer in batch_norm_layers(model)]
    statistics_estimator(model)(source)
    yield
    for layer, weights in before:
        layer.set_weights(weights)


def forward_of(model: keras.Model) -> Callable[[Any], Any]:
    """Return what gives the features `pooled` and the logits of images, with the weights that the model has by then."""
    both = keras.Model(model.inputs[0], [model.get_layer("pooled").output, model.outputs[0]])
    forward: Callable[[Any], Any] = inference(both)
    return forward


def outputs_of(forward: Callable[[Any], Any], source: ImageDataset, *, labelled: bool) -> Outputs:
    """Return what `forward_of` a model makes of every picture of a source, in the order of its records."""
    told = [forward(images) for images, _, _ in read_batches(source, 0)]
    features, logits = (
        np.concatenate([np.asarray(one) for one in rows]) for rows in zip(*told, strict=True)
    )
    groups = tuple(f"{one.domain}/{one.group}" if one.group else "" for one in source.records)
    labels = source.labels if labelled else None
    return Outputs(features, logits, labels, groups if any(groups) else None)
