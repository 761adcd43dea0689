"""What a candidate makes of the pictures that it is chosen by: features and logits, no label of the target."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from kerastl.adaptation.choosing import Evidence, Outputs
from kerastl.data import Record
from kerastl.recipe import Recipe
from kerastl.stages.phases import target_pool
from kerastl.stages.pictures import Pictures
from kerastl.training import (
    Trainable,
    batch_norm_layers,
    inference,
    read_batches,
    statistics_estimator,
    unfreeze,
)


def observe(
    recipe: Recipe, model: keras.Model, pictures: Pictures, *, own_statistics: bool
) -> Evidence:
    """Return what a candidate makes of the source's training and validation pictures and of the target's for training.

    Args:
        recipe: how pictures are read.
        model: the candidate; it is given back as it was.
        pictures: the splits; test pictures are not opened.
        own_statistics: BatchNorm's statistics are the target's by now. At the source they would say how the candidate does
            where it will not be used, so there the source's own are taken.
    """
    target = _outputs(recipe, model, pictures, target_pool(pictures))
    before = [(layer, layer.get_weights()) for layer in batch_norm_layers(model)]
    if own_statistics:
        statistics_estimator(model)(pictures.source_of(recipe, pictures.of("train")))
    train, val = (
        _outputs(recipe, model, pictures, pictures.of(split), labelled=True)
        for split in ("train", "val")
    )
    for layer, weights in before:
        layer.set_weights(weights)
    return Evidence(train, val, target, pictures.class_names)


def observe_renormalised(recipe: Recipe, model: keras.Model, pictures: Pictures) -> Evidence | None:
    """Return what a model makes of each domain with BatchNorm's statistics of that domain; None: it has no BatchNorm.

    Args:
        recipe, pictures: as in `observe`.
        model: as it was trained at the source; its flags are changed, its weights are given back as they were.
    """
    if not batch_norm_layers(model):
        return None
    before = model.get_weights()
    unfreeze(model, Trainable("all"), batch_norm="statistics")
    statistics_estimator(model)(pictures.source_of(recipe, target_pool(pictures)))
    evidence = observe(recipe, model, pictures, own_statistics=True)
    model.set_weights(before)
    return evidence


def _outputs(
    recipe: Recipe,
    model: keras.Model,
    pictures: Pictures,
    records: Sequence[Record],
    *,
    labelled: bool = False,
) -> Outputs:
    both = keras.Model(model.inputs[0], [model.get_layer("pooled").output, model.outputs[0]])
    forward = inference(both)
    source = pictures.source_of(recipe, records)
    told = [forward(images) for images, _, _ in read_batches(source, 0)]
    features, logits = (
        np.concatenate([np.asarray(one) for one in rows]) for rows in zip(*told, strict=True)
    )
    groups = tuple(f"{record.domain}/{record.group}" if record.group else "" for record in records)
    return Outputs(
        features, logits, source.labels if labelled else None, groups if any(groups) else None
    )
