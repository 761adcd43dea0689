"""Write a page with training images before and after augmentation."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kerastl import report
from kerastl.augment.preview import POLICY_TITLE, Block, mixing_block, operation_block, policy_block
from kerastl.console import track
from kerastl.data import Record, seeds_for
from kerastl.errors import RequestError, out_option, raise_request
from kerastl.recipe import Augment, Recipe
from kerastl.runs import Run, next_free_path
from kerastl.tasks import SINGLE_LABEL
from kerastl.workflows.check_recipe import check_outside, folder_problems, selected_augment
from kerastl.workflows.datasets import load_datasets

Images = npt.NDArray[np.float32]


def preview(
    recipe: Recipe,
    *,
    name: str,
    out: Path | None = None,
    num_images: int = 4,
    samples: int = 3,
    operation: str | None = None,
    seed: int | None = None,
) -> Path:
    """Write a page with training images before and after the augmentation of a recipe.

    Args:
        recipe: The recipe. Its target is ignored.
        name: Name of the recipe, for the folder and the title.
        out: A new or empty folder; None for `preview-<name>`, or the next free `preview-<name>-<n>`.
        num_images: Number of images, 1 to 32, spread over the classes.
        samples: Number of augmented samples per image, 0 to 32.
        operation: Show only this operation or mixing of the recipe.
        seed: Random seed of images and samples; None for the seed of the recipe, with the samples of its first epochs.

    Returns:
        The path of `preview.html`, next to `preview.png`. Both contain training images.

    Raises:
        RequestError: The recipe has no augmentation or no such operation, the data cannot be used, or `out` exists.
    """
    augment = selected_augment(recipe.augment, operation)
    raise_request(folder_problems(out))
    check_outside(recipe, out or Path(), "preview")
    seed = recipe.seed if seed is None else seed
    with tempfile.TemporaryDirectory() as scratch:
        # Without the target, which does not change the split of the source.
        datasets = load_datasets(recipe.model_copy(update={"target": None}), Run(Path(scratch)))
        datasets.print_notes()
        training = datasets.in_split("train")
        # Mixing needs a second image, even if only one is shown.
        num_decoded = max(num_images, 2) if augment.mixing else num_images
        indices = select_images(training, datasets.class_names, num_decoded, seed=seed)
        records = [training[index] for index in indices]
        # One batch, without augmentation: `[n, height, width, 3]` float32 in [0, 255].
        ((decoded, _),) = replace(datasets, batch_size=len(records)).dataset(records).batches(0)
        images: Images = decoded.numpy()
    seeds = np.zeros((samples, len(indices), 2), np.int32)
    for epoch in range(samples):
        seeds[epoch] = seeds_for(seed, epoch, np.array(indices, np.int64)).numpy()
    blocks = _blocks(augment, images, seeds, records, datasets.class_names, with_policy=operation is None)
    shown = [report.PreviewImage(record.path, record.label or "unlabeled") for record in records[:num_images]]
    rows = slice(num_images)
    shown_blocks = [
        replace(block, images=block.images[rows], captions=block.captions[rows]) for block in blocks
    ]
    return report.write_preview(
        _create_folder(out, name), shown_blocks, shown,
        title=name, notes=_notes(recipe, seed, len(training), len(shown), blocks),
    )  # fmt: skip


def select_images(
    records: Sequence[Record], class_names: Sequence[str], count: int, *, seed: int
) -> list[int]:
    """Return the indices of up to `count` random records, equally many per class if possible.

    Args:
        records: The records of one split.
        class_names: The order of the classes in the result.
        count: Maximum number of records.
        seed: Random seed.
    """
    by_class: dict[str | None, list[int]] = {}
    for index in np.random.default_rng(seed).permutation(len(records)):
        by_class.setdefault(records[index].label, []).append(int(index))
    rounds = zip_longest(*by_class.values())
    selected = [index for indices in rounds for index in indices if index is not None][:count]
    order = {name: number for number, name in enumerate(class_names)}
    return sorted(selected, key=lambda index: (order.get(records[index].label or "", -1), index))


def _blocks(
    augment: Augment,
    images: Images,
    seeds: npt.NDArray[np.int32],
    records: Sequence[Record],
    class_names: Sequence[str],
    *,
    with_policy: bool,
) -> list[Block]:
    """Return a block per operation, one for the whole policy, and one per mixing."""
    operations = [(operation.name, operation.options) for operation in augment.operations]
    blocks = [
        operation_block(operation, images, seeds)
        for operation in track(operations, "augmenting", len(operations))
    ]
    if with_policy and len(operations) > 1 and len(seeds):
        blocks.append(policy_block(operations, images, seeds, exact=augment.exact))
    if augment.mixing:
        labels = SINGLE_LABEL.encode([record.label for record in records], class_names)
        blocks += [
            mixing_block((mixing.name, mixing.options), images, labels, seeds, class_names=class_names)
            for mixing in augment.mixing
        ]
    return blocks


def _notes(
    recipe: Recipe, seed: int, num_training: int, num_shown: int, blocks: Sequence[Block]
) -> list[str]:
    notes = [f"{num_shown} of {num_training:,} training images, selected with seed {seed}."]
    starts_with_source = recipe.phases[0].domain == "source"
    shows_policy = any(block.title == POLICY_TITLE for block in blocks)
    if shows_policy and seed == recipe.seed and starts_with_source:
        notes.append(
            f"In '{POLICY_TITLE}', sample 1 is the image used for training in epoch 1, and so on, before mixing."
        )
    return notes


def _create_folder(out: Path | None, name: str) -> Path:
    """Create the output folder, or the next free one."""
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            return out
        while True:
            with contextlib.suppress(FileExistsError):  # another process took the name
                folder = next_free_path(f"preview-{name}")
                folder.mkdir()
                return folder
    except OSError as error:
        raise RequestError(
            f"The folder {error.filename} cannot be created: {error.strerror}. Choose another folder: {out_option()}"
        ) from error
