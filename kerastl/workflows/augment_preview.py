"""The training images of a recipe, beside what its augmentation makes of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kerastl import report
from kerastl.augment.preview import POLICY_TITLE, Block, mixing_block, operation_block, policy_block
from kerastl.console import track
from kerastl.data import Record, label_indices, seeds_for
from kerastl.errors import RequestError, join_words, nearest, quote
from kerastl.recipe import Augment, Recipe
from kerastl.runs import Run, is_new_or_empty
from kerastl.workflows.datasets import Datasets, check_outside, load_datasets


def preview(
    recipe: Recipe,
    *,
    name: str,
    out: Path | None = None,
    pictures: int = 4,
    samples: int = 3,
    operation: str | None = None,
    seed: int | None = None,
) -> Path:
    """Draw training images as the recipe's augmentation changes them. Nothing is trained.

    Args:
        recipe: checked; its target is left out.
        name: of the recipe, for the folder and the title.
        out: folder, new or empty; None: `preview-<name>`, or the first free `preview-<name>-<n>` from 2 on.
        images: how many, 1 to 32, spread over the classes.
        samples: how many of each, 0 to 32.
        operation: show only this operation, or mixing, of the recipe.
        seed: which images and which samples; None: the recipe's, and the samples are those of the first epochs.

    Returns:
        `preview.html`; `preview.png` lies beside it. Both hold images of the training split.

    Raises:
        RequestError: the recipe changes no images, has no such operation, the data will not do, or `out` is taken.
    """
    augment = _chosen(recipe.augment, operation)
    _check_free(out)
    seed = recipe.seed if seed is None else seed
    with tempfile.TemporaryDirectory() as scratch:
        # The target has images of its own; the source's are divided without it.
        found = load_datasets(recipe.model_copy(update={"target": None}), Run(Path(scratch)))
        check_outside(out if out is not None else Path(), found.root, "preview")
        training = found.in_split("train")
        # Mixing needs a second image, even where one is shown.
        wanted = max(pictures, 2) if augment.mixing else pictures
        places = spread(training, found.class_names, wanted, seed=seed)
        chosen = [training[place] for place in places]
        images = _decoded(recipe, found, chosen)
    numbers = np.array(places, np.int64)
    seeds = [seeds_for(seed, epoch, numbers).numpy() for epoch in range(samples)]
    stacked = np.stack(seeds) if seeds else np.zeros((0, len(places), 2), np.int32)
    blocks = _blocks(augment, images, stacked, chosen, found.class_names, whole=operation is None)
    shown = [report.Shown(one.path, one.label or "unlabelled") for one in chosen[:pictures]]
    return report.write_preview(
        _made(out, name), [_first_rows(block, pictures) for block in blocks], shown,
        title=name, notes=_notes(recipe, seed, len(training), len(shown), blocks),
    )  # fmt: skip


def spread(records: Sequence[Record], class_names: Sequence[str], most: int, *, seed: int) -> list[int]:
    """Return the places of some records: of every class alike, as far as there are so many, at random by the seed.

    Args:
        records: of one split.
        class_names: the order in which the chosen are returned.
        most: how many; all, where there are no more.
        seed: the same gives the same.
    """
    mixed = np.random.default_rng(seed).permutation(len(records))
    by_class: dict[str | None, list[int]] = {}
    for place in mixed:
        by_class.setdefault(records[place].label, []).append(int(place))
    rounds = zip_longest(*by_class.values())
    chosen = [place for one in rounds for place in one if place is not None][:most]
    order = {name: number for number, name in enumerate(class_names)}
    return sorted(chosen, key=lambda place: (order.get(records[place].label or "", -1), place))


def _chosen(augment: Augment, operation: str | None) -> Augment:
    """Return what is shown of the augmentation."""
    if not augment.operations and not augment.mixing:
        raise RequestError(
            "The recipe changes no images: there are no operations under augment.\n"
            "See a policy by its name: add --set augment=light (medium, strong, radiograph, photograph)"
        )
    if operation is None:
        return augment
    named = [one.name for one in augment.operations] + [one.name for one in augment.mixing]
    names = list(dict.fromkeys(named))
    if operation not in names:
        near = nearest(operation, names)
        hint = f"Did you mean '{near}'?" if near else f"It has {join_words(names, 'and')}."
        raise RequestError(f"The recipe has no operation {quote(operation)}. {hint}")
    return augment.model_copy(
        update={
            "operations": tuple(one for one in augment.operations if one.name == operation),
            "mixing": tuple(one for one in augment.mixing if one.name == operation),
        }
    )


def _decoded(recipe: Recipe, found: Datasets, records: Sequence[Record]) -> npt.NDArray[np.float32]:
    """Return `[batch, size, size, 3]` float32 in [0, 255], as training sees them before they are changed."""
    data = recipe.data.model_copy(update={"batch_size": len(records)})
    plain = recipe.model_copy(update={"augment": Augment(), "data": data})
    source = found.dataset(plain, records)
    ((images, _),) = source.batches(0)
    decoded: npt.NDArray[np.float32] = images.numpy()
    return decoded


def _blocks(
    augment: Augment,
    images: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.int32],
    records: Sequence[Record],
    class_names: Sequence[str],
    *,
    whole: bool,
) -> list[Block]:
    operations = [(one.name, one.options) for one in augment.operations]
    blocks = [
        operation_block(one, images, seeds)
        for one in track(operations, "drawing every operation", len(operations))
    ]
    if whole and len(operations) > 1 and len(seeds):
        blocks.append(policy_block(operations, images, seeds, exact=augment.exact))
    if augment.mixing:
        labels = label_indices(records, class_names)
        blocks += [
            mixing_block((one.name, one.options), images, labels, seeds, class_names=class_names)
            for one in augment.mixing
        ]
    return blocks


def _first_rows(block: Block, rows: int) -> Block:
    return replace(block, images=block.images[:rows], captions=block.captions[:rows])


def _notes(recipe: Recipe, seed: int, training: int, shown: int, blocks: Sequence[Block]) -> list[str]:
    notes = [f"{shown} of {training:,} training images, chosen by seed {seed}."]
    first_sees_source = recipe.phases[0].domain == "source"
    together = any(block.title == POLICY_TITLE for block in blocks)
    if together and seed == recipe.seed and first_sees_source:
        notes.append(
            f"Below '{POLICY_TITLE}', sample 1 is what training sees in epoch 1, and so on, before any mixing."
        )
    return notes


def _check_free(out: Path | None) -> None:
    if out is not None and not is_new_or_empty(out):
        raise RequestError(f"{out} exists already and is not overwritten. Name another: --out DIR")


def _made(out: Path | None, name: str) -> Path:
    """Make the folder."""
    numbered = (Path(f"preview-{name}{f'-{n}' if n > 1 else ''}") for n in count(1))
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            return out
        for folder in numbered:
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise RequestError(
            f"The folder {error.filename} cannot be made: {error.strerror}. Name another: --out DIR"
        ) from error
    raise AssertionError("there is always a next number")
