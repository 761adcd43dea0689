"""From a recipe or a run to an audit of its augmentation: images, frozen features, judges."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.audit import (
    FIXED_WIDTHS,
    PIXEL_WIDTH,
    AuditResult,
    Trial,
    fixed_features,
    pixel_grid,
    recipe_trials,
    sample_per_class,
)
from kerastl.audit.measure import standard_trials
from kerastl.audit.search import audit
from kerastl.augment import build_policy
from kerastl.console import print_status
from kerastl.data import Record, seeds_for
from kerastl.errors import RequestError
from kerastl.models import load_backbone
from kerastl.recipe import Recipe
from kerastl.runs import Run, read_csv
from kerastl.workflows.datasets import Datasets, check_outside, load_datasets
from kerastl.workflows.model import check_weights

Array = np.ndarray[Any, Any]
Features = Callable[[Array], Array]

COMMON = (
    "random_flip", "random_rotation", "random_zoom", "random_translation", "random_brightness",
    "random_contrast", "random_saturation", "random_hue",
)  # fmt: skip
"""What most recipes for photographs choose from: tried where a recipe names no operation."""
SEEN = ("train", "val")
"""Test images are opened after training only, and by evaluation."""
AT_ONCE = 32


@dataclass(frozen=True)
class Audited:
    """An audit and the images it was made on.

    Args:
        audit: what it came to.
        paths: of the images, in the order of `images`.
        labels: the class of each.
        images: `[n, size, size, 3]` uint8.
        change: gives the same images changed by a trial, for the number of a draw: `[n, size, size, 3]` uint8.
        notes: one line each: how the audit was made.
    """

    audit: AuditResult
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    images: Array
    change: Callable[[Trial, int], Array]
    notes: tuple[str, ...]


def trials_of(recipe: Recipe, operations: Sequence[str]) -> list[Trial]:
    """Return what is tried.

    Args:
        recipe: its own operations are tried up to their own strength.
        operations: `recipe`: the recipe's, or the common ones where it has none; `all`; or names.

    Raises:
        RequestError: no such operation.
    """
    own = {one.name: one.options for one in recipe.augment.operations}
    if list(operations) == ["recipe"]:
        return [
            trial
            for name in (own or COMMON)
            for trial in (recipe_trials(name, own[name]) if name in own else standard_trials(name))
        ]
    names = registry.names("operation") if list(operations) == ["all"] else operations
    return [trial for name in dict.fromkeys(names) for trial in standard_trials(name)]


def audit_recipe(
    recipe: Recipe, *, operations: Sequence[str], most_per_class: int, run: Path | None = None,
    out: Path | None = None,
) -> Audited:  # fmt: skip
    """Audit the operations of a recipe on its own training and validation images.

    Args:
        recipe: checked.
        operations: as in `trials_of`.
        most_per_class: images of a class that are judged at most.
        run: a run folder; its `split.csv` says which images are tested, and those are left alone.
        out: where the caller will write; it may not lie among the data.

    Raises:
        RequestError: the data, the weights or an operation will not do.
    """
    trials = trials_of(recipe, operations)
    if recipe.backbone.weights != "none":
        check_weights(recipe)
    with tempfile.TemporaryDirectory() as folder:
        pictures = load_datasets(recipe, Run(Path(folder)))
        if out is not None:
            check_outside(out, pictures.root, "audit")
        records = [one for split in SEEN for one in pictures.in_split(split)]
        if not records:
            raise RequestError(
                "There are no labelled training images to audit with: a recipe with source.model learns from none."
            )
        records = _not_tested(records, run) if run else records
        chosen = sample_per_class(
            [str(one.label) for one in records], [_unit(one) for one in records],
            most_per_class=most_per_class, seed=recipe.seed,
        )  # fmt: skip
        taken = [records[place] for place in chosen]
        print_status(f"Auditing with {len(taken)} of {len(records)} training and validation images.")
        images = read_images(recipe, pictures, taken)
    features, widths, note = frozen_features(recipe, pictures.image_size_px)
    change = changer(images, seed=recipe.seed)
    found = audit(
        features(images), [str(one.label) for one in taken], [_unit(one) for one in taken], trials,
        lambda trial, draw: features(change(trial, draw)), widths=widths, seed=recipe.seed,
    )  # fmt: skip
    paths, labels = tuple(one.path for one in taken), tuple(str(one.label) for one in taken)
    return Audited(found, paths, labels, images, change, (note, *pictures.notes))


def _unit(record: Record) -> str:
    """Return what must stay together: the group, or the image itself."""
    name = f"g{record.group}" if record.group is not None else f"p{record.path}"
    return f"{record.domain or ''}\0{name}"


def _not_tested(records: Sequence[Record], run: Path) -> list[Record]:
    rows = {(row["path"], row["domain"]): row["split"] for row in read_csv(run / "split.csv")}
    return [one for one in records if rows.get((one.path, one.domain or "")) in SEEN]


def read_images(recipe: Recipe, pictures: Datasets, records: Sequence[Record]) -> Array:
    """Return images as the network sees them: `[n, size, size, 3]` uint8.

    Rounded to whole levels, so that a thousand fit into memory; judges do not see the difference.
    """
    source = pictures.dataset(recipe, records)
    size = pictures.image_size_px
    images = np.empty((len(records), size, size, 3), np.uint8)
    try:
        for batch, _, indices in source.indexed_batches(0):
            images[indices.numpy()] = np.round(batch.numpy())
    except tf.errors.OpError as error:
        raise source.explain(error) from error
    return images


def frozen_features(recipe: Recipe, image_size_px: int) -> tuple[Features, tuple[int, ...], str]:
    """Return the function from images to features, the widths of their parts, and a line that says which.

    The backbone's features come from the weights that the recipe starts from, never from what its run learnt: that
    saw the images. Where it starts from random numbers, the features are fixed ones.
    """
    chosen = recipe.backbone
    if chosen.weights == "none":
        note = "Features: 8 x 8 cells of colour and of edges, as the recipe starts from random weights."
        return fixed_features_of, FIXED_WIDTHS, note
    options = chosen.options.model_dump() if chosen.options is not None else {}
    backbone = load_backbone(
        chosen.name, weights=chosen.weights, image_size_px=image_size_px, seed=recipe.seed, **options
    ).model
    width = int(backbone.output_shape[-1])
    note = f"Features: {chosen.name} ({chosen.weights}), frozen, and 8 x 8 cells of colour."
    return network_features(backbone), (width, PIXEL_WIDTH), note


def network_features(backbone: Any) -> Features:
    """Return the function from images `[n, size, size, 3]` uint8 to pooled features and cells of colour."""
    pooled = tf.function(
        lambda batch: tf.reduce_mean(tf.cast(backbone(batch, training=False), tf.float32), axis=[1, 2]),
        input_signature=[tf.TensorSpec([None, *backbone.input_shape[1:]], tf.float32)],
        autograph=False,
    )

    def features(images: Array) -> Array:
        parts = []
        for start in range(0, len(images), AT_ONCE):
            batch = images[start : start + AT_ONCE].astype(np.float32)
            parts.append(np.concatenate([pooled(batch).numpy(), pixel_grid(batch)], axis=1))
        return np.concatenate(parts)

    return features


def fixed_features_of(images: Array) -> Array:
    """Return fixed features of images `[n, size, size, 3]` uint8."""
    parts = [
        fixed_features(images[start : start + AT_ONCE].astype(np.float32))
        for start in range(0, len(images), AT_ONCE)
    ]
    return np.concatenate(parts)


def changer(images: Array, *, seed: int) -> Callable[[Trial, int], Array]:
    """Return the function that changes all images by a trial: a function of (seed, draw, image) alone.

    Args:
        images: `[n, size, size, 3]` uint8.
        seed: with the draw as epoch and the image's place it gives the random numbers.
    """
    policies: dict[Trial, Any] = {}

    def change(trial: Trial, draw: int) -> Array:
        if trial not in policies:
            policies.clear()
            policies[trial] = build_policy(
                [(trial.name, trial.options)], image_size_px=images.shape[1], exact=True
            )
        parts = []
        for start in range(0, len(images), AT_ONCE):
            batch = images[start : start + AT_ONCE]
            places = np.arange(start, start + len(batch), dtype=np.int64)
            changed = policies[trial](batch.astype(np.float32), seeds_for(seed, draw, places))
            parts.append(np.round(changed.numpy()).astype(np.uint8))
        return np.concatenate(parts)

    return change
