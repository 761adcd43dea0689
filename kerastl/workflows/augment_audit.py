"""Audit the augmentation of a recipe or a run on its own images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import audit, registry
from kerastl.augment import build_policy
from kerastl.console import print_status
from kerastl.data import Record, group_key, seeds_for
from kerastl.errors import RequestError
from kerastl.image_size import Size
from kerastl.models import load_backbone
from kerastl.recipe import Recipe
from kerastl.runs import Run, read_csv
from kerastl.training import read_batches
from kerastl.workflows.check_recipe import check_outside, check_weights
from kerastl.workflows.datasets import Datasets, load_datasets

Array = np.ndarray[Any, Any]
Features = Callable[[Array], Array]

COMMON = (
    "random_flip", "random_rotation", "random_zoom", "random_translation", "random_brightness",
    "random_contrast", "random_saturation", "random_hue",
)  # fmt: skip
"""Operations that are audited if a recipe has none."""
AUDITED_SPLITS = ("train", "val")
"""Test images are only read by the evaluation after training."""
BATCH_SIZE = 32
WITHOUT_PADDING = "The images are stretched instead of padded, so that only their content is audited."


def trials_of(recipe: Recipe, operations: Sequence[str]) -> list[audit.Trial]:
    """Return the trials of an audit.

    Args:
        recipe: Its own operations are audited up to their own strength.
        operations: `["recipe"]` for those of the recipe, or common ones if it has none; `["all"]`; or names.

    Raises:
        RequestError: There is no such operation.
    """
    own = {operation.name: operation.options for operation in recipe.augment.operations}
    if list(operations) == ["recipe"]:
        return [
            trial
            for name in (own or COMMON)
            for trial in (
                audit.recipe_trials(name, own[name]) if name in own else audit.standard_trials(name)
            )
        ]
    names = registry.names("operation") if list(operations) == ["all"] else operations
    return [trial for name in dict.fromkeys(names) for trial in audit.standard_trials(name)]


def audit_recipe(
    recipe: Recipe, *, operations: Sequence[str], most_per_class: int, run: Path | None = None,
    out: Path | None = None,
) -> audit.Audited:  # fmt: skip
    """Audit the operations of a recipe on its own training and validation images.

    Args:
        recipe: A checked recipe.
        operations: As in `trials_of`.
        most_per_class: Maximum number of images per class.
        run: A run folder; the test images in its `split.csv` are not used.
        out: Folder for the results, which must be outside the data folders.

    Raises:
        RequestError: The data, the weights or an operation cannot be used.
    """
    trials = trials_of(recipe, operations)
    check_outside(recipe, out, "audit")
    check_weights(recipe)
    with tempfile.TemporaryDirectory() as folder:
        datasets = load_datasets(recipe, Run(Path(folder)))
        datasets.print()
        if datasets.resize == "pad":
            # Padding shows the aspect ratio: classes that differ in it would be separated, whatever an operation does.
            datasets = replace(datasets, resize="stretch", notes=(*datasets.notes, WITHOUT_PADDING))
        records = datasets.in_split(*AUDITED_SPLITS)
        if not records:
            raise RequestError(
                "An audit needs labeled training images, which a recipe with source.model does not have."
            )
        records = _without_test_images(records, run) if run else records
        labels = [str(record.label) for record in records]
        groups = [f"{record.domain or ''}\0{group_key(record)}" for record in records]
        sampled = audit.sample_per_class(labels, groups, most_per_class=most_per_class, seed=recipe.seed)
        print_status(f"Auditing on {len(sampled)} of {len(records)} training and validation images.")
        images = read_images(datasets, [records[index] for index in sampled])
    paths = tuple(records[index].path for index in sampled)
    labels, groups = ([values[index] for index in sampled] for values in (labels, groups))
    features, widths, note = frozen_features(recipe, datasets.image_size_px)
    augment = make_augment(images, seed=recipe.seed)
    result = audit.audit(
        features(images), labels, groups, trials, lambda trial, draw: features(augment(trial, draw)),
        widths=widths, seed=recipe.seed,
    )  # fmt: skip
    return audit.Audited(result, paths, tuple(labels), images, augment, (note, *datasets.notes))


def _without_test_images(records: Sequence[Record], run: Path) -> list[Record]:
    rows = {(row["path"], row["domain"]): row["split"] for row in read_csv(run / "split.csv")}
    return [record for record in records if rows.get((record.path, record.domain or "")) in AUDITED_SPLITS]


def read_images(datasets: Datasets, records: Sequence[Record]) -> Array:
    """Return resized images `[n, height, width, 3]`, rounded to uint8 to save memory."""
    images = np.empty((len(records), *datasets.image_size_px, 3), np.uint8)
    for batch, _, indices in read_batches(datasets.dataset(records), 0):
        images[indices.numpy()] = np.round(batch.numpy())
    return images


def frozen_features(recipe: Recipe, image_size_px: Size) -> tuple[Features, tuple[int, ...], str]:
    """Return the feature function, the widths of the parts of its features, and a line that describes it.

    The features come from the initial weights of the recipe, because the trained weights have been fitted to
    the images. Recipes with random initial weights use handcrafted features.
    """
    chosen = recipe.backbone
    if chosen.weights == "none":
        note = "Features: colors and edges of 8 x 8 cells, because the recipe starts from random weights."
        return partial(_in_batches, lambda batch, _: audit.fixed_features(batch)), audit.FIXED_WIDTHS, note
    backbone = load_backbone(
        chosen.name, weights=chosen.weights, image_size_px=image_size_px, seed=recipe.seed,
        **chosen.family_options,
    ).model  # fmt: skip
    width = int(backbone.output_shape[-1])
    note = f"Features: frozen {chosen.name} ({chosen.weights}), and colors of 8 x 8 cells."
    return network_features(backbone), (width, audit.PIXEL_WIDTH), note


def network_features(backbone: Any) -> Features:
    """Return a function from images `[n, height, width, 3]` uint8 to pooled backbone features and cell colors."""
    # Over the positions of a feature map, or over tokens.
    axes = list(range(1, len(backbone.output_shape) - 1))
    pooled = tf.function(
        lambda batch: tf.reduce_mean(tf.cast(backbone(batch, training=False), tf.float32), axis=axes),
        input_signature=[tf.TensorSpec([None, *backbone.input_shape[1:]], tf.float32)],
        autograph=False,
    )

    def of_batch(batch: Array, _: Array) -> Array:
        return np.concatenate([pooled(batch).numpy(), audit.pixel_grid(batch)], axis=1)

    return partial(_in_batches, of_batch)


def _in_batches(function: Callable[[Array, Array], Array], images: Array) -> Array:
    """Return the results of a function of batches of float32 images and their indices."""
    indices = np.arange(len(images), dtype=np.int64)
    batches = np.split(indices, range(BATCH_SIZE, len(images), BATCH_SIZE))
    return np.concatenate([function(images[batch].astype(np.float32), batch) for batch in batches])


def make_augment(images: Array, *, seed: int) -> Callable[[audit.Trial, int], Array]:
    """Return a function that augments all images by a trial, repeatable by (seed, draw, image index).

    Args:
        images: `[n, height, width, 3]` uint8.
        seed: Seed of the random numbers; the draw takes the place of the epoch.
    """

    @lru_cache(maxsize=1)
    def build(trial: audit.Trial) -> Any:
        return build_policy([(trial.name, trial.options)], image_size_px=images.shape[1:3], exact=True)

    def augment(trial: audit.Trial, draw: int) -> Array:
        policy = build(trial)

        def of_batch(batch: Array, indices: Array) -> Array:
            augmented: Array = policy(batch, seeds_for(seed, draw, indices)).numpy()
            return np.round(augmented).astype(np.uint8)

        return _in_batches(of_batch, images)

    return augment
