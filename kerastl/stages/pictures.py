"""From the recipe's readers to pictures that can be decoded and know their split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kerastl import data, registry
from kerastl import recipe as recipes
from kerastl.augment import build_mixing, build_policy
from kerastl.console import say
from kerastl.data import Checked, Collection, ImageDataset, Record
from kerastl.errors import RequestError
from kerastl.evaluation import positive_class, read_description
from kerastl.models import checked_size
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.both_domains import kept_apart
from kerastl.stages.known_labels import check_classes, check_labels, without_strange_labels
from kerastl.stages.subgroups import with_subgroups
from kerastl.stages.whose import both_told, one_table, tagged, whose

MEMORY_FOR_PICTURES_BYTES = 2**30
SPLITS = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")


@dataclass(frozen=True)
class Pictures:
    """All pictures of a run, each in one split.

    Args:
        records: of source and target; `split` is one of `SPLITS`.
        class_names: in the order of the logits.
        image_size_px: side of the square the network sees.
        window: (low, high) in stored values for 16-bit pictures; None where there are none, or full.
        cache: `memory` or `none`.
        root, target_root: folders that the paths of the two domains are relative to.
        quarantined: `(path, reason)` of what cannot be read.
        fingerprints: sha256 by domain, `source` and `target`, of the data as they were read.
        notes: one line each, for the user.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    image_size_px: int
    window: tuple[float, float] | None
    cache: Literal["memory", "none"]
    root: Path | None
    target_root: Path | None
    quarantined: tuple[tuple[str, str], ...]
    fingerprints: dict[str, str]
    notes: tuple[str, ...]

    def of(self, split: str) -> list[Record]:
        """Return the records of one split."""
        return [record for record in self.records if record.split == split]

    def source(self, recipe: Recipe, split: str, *, training: bool) -> ImageDataset:
        """Return the pictures of one split for training (shuffled, augmented) or for judging."""
        return self.source_of(recipe, self.of(split), training=training)

    def source_of(
        self, recipe: Recipe, records: Sequence[Record], *, training: bool = False
    ) -> ImageDataset:
        """Return chosen pictures for training (shuffled, augmented, mixed) or for judging."""
        # Judging changes no picture: to build a policy for it would load keras-cv for nothing.
        augment = recipe.augment if training else recipes.Augment()
        operations = [(one.name, one.options) for one in augment.operations]
        mixing = [(one.name, one.options) for one in augment.mixing]
        size, classes = self.image_size_px, len(self.class_names)
        policy = build_policy(operations, image_size_px=size, exact=augment.exact)
        mixer = build_mixing(mixing, image_size_px=size, num_classes=classes) if mixing else None
        return ImageDataset(
            records, class_names=self.class_names, image_size_px=size,
            batch_size=recipe.data.known_batch_size, window=self.window, max_pixels=recipe.data.max_pixels,
            seed=recipe.seed, shuffle=training, augment=policy if operations else None, mix=mixer,
            placement=augment.placement, cache=self.cache, views=augment.views,
        )  # fmt: skip

    def split_rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of `split.csv`: path, label, split, group, domain."""
        return [(r.path, r.label, r.split, r.group, r.domain) for r in self.records]


def gather_pictures(recipe: Recipe, run: Run) -> Pictures:
    """Read, decode once, divide: everything about the pictures that must hold before training.

    Args:
        recipe: the readers, the splits, the limits.
        run: converted TIFF files are kept in its folder.

    Raises:
        RequestError: the data will not do; all that is wrong is told together.
    """
    size = checked_size(recipe.backbone.name, recipe.data.image_size_px)
    found = _source(recipe, run)
    # Before anything is divided: the same data have the same fingerprint whatever the seed and the split.
    prints = {} if recipe.source else {"source": found.collection.fingerprint()}
    source = found.collection if recipe.source else _divided(recipe, found.collection)
    positive_class(source.class_names, recipe.evaluation.positive)
    records, notes = list(source.records), list(source.notes)
    # A model that comes with a window needs it, whatever the target's pictures are.
    bad, deep = found.quarantined, found.has_16_bit or recipe.source is not None
    target_root = None
    if recipe.target:
        found = _checked(recipe, recipe.target.reader, recipe.target.split, run)
        prints["target"], target_root = found.collection.fingerprint(), found.collection.root
        target = _divided_target(recipe, recipe.target, found.collection, source.class_names)
        target = kept_apart(source, target, one_table=one_table(recipe))
        records = [*_named(records, "source"), *_named(target.records, "target")]
        notes += target.notes
        bad, deep = (*bad, *found.quarantined), deep or found.has_16_bit
    records, cut = with_subgroups(records)
    notes += cut
    notes = list(dict.fromkeys(notes))
    for line in notes:
        say(line)
    return Pictures(
        tuple(records), source.class_names, size, _window(recipe, records) if deep else None,
        _cache(recipe, len(records), size), source.root, target_root, bad, prints, tuple(notes),
    )  # fmt: skip


def _source(recipe: Recipe, run: Run) -> Checked:
    """Return the source's pictures; of a model that came without, the classes that it knows."""
    if recipe.source is not None:
        if recipe.target is None:
            raise RequestError(
                "There are no labelled training pictures: source.model stands in their place, and no label is learnt from."
            )
        known = read_description(recipe.source.model)
        return Checked(Collection(None, known.class_names, ()), (), has_16_bit=False)
    if recipe.data.reader is None:
        raise RequestError("data.reader: is needed: there are no pictures.")
    target = recipe.target
    look = (lambda: _checked(recipe, target.reader, target.split, run)) if target else None
    with both_told(look):
        return _checked(recipe, recipe.data.reader, recipe.data.split, run)


def _divided(recipe: Recipe, found: Collection) -> Collection:
    """Return the source's pictures in their splits."""
    asked = recipe.data.split
    if recipe.data.reader is not None:
        check_labels("data.reader", recipe.data.reader, found)
    return data.split(
        found, val_fraction=asked.val_fraction, test_fraction=asked.test_fraction,
        seed=recipe.seed, allow_rare=asked.allow_rare,
    )  # fmt: skip


def check_outside(out: Path, root: Path | None, what: str) -> None:
    """Refuse to write among the data: a reader of folders would take it for pictures of them.

    Args:
        out: where something is to be written.
        root: folder of the data; None where there is none.
        what: is to be written, in words.

    Raises:
        RequestError: `out` lies in the folder.
    """
    if root is not None and out.resolve().is_relative_to(root.resolve()):
        raise RequestError(
            f"The {what} would lie among the data, in {root}. Write it elsewhere: --out DIR"
        )


def _checked(recipe: Recipe, reader: recipes.Reader, split: recipes.Split, run: Run) -> Checked:
    """Return what can be read, what cannot, and whether any picture is 16-bit grey."""
    options = _with_columns(recipe, reader, split)
    cache = data.cache_folder()
    module = registry.module("reader", reader.name)
    collection = module.read(options, seed=recipe.seed, cache_dir=cache)
    collection = replace(collection, notes=tagged(recipe, reader, collection.notes))
    named = whose(recipe, reader)
    checked = data.check_pictures(
        collection, max_pixels=recipe.data.max_pixels, cache_dir=cache,
        converted_dir=run.file("converted"),
        max_unreadable_fraction=recipe.data.max_unreadable_fraction, whose=named,
    )  # fmt: skip
    if checked.quarantined:
        names = ", ".join(path for path, _ in checked.quarantined[:5])
        count = len(checked.quarantined)
        more = f" and {count - 5} more, all are in quarantine.csv" if count > 5 else ""
        of = f" of {named}" if named else ""
        say(f"Warning: {count} pictures{of} cannot be read and are left out: {names}{more}")
    return checked


def _with_columns(recipe: Recipe, reader: recipes.Reader, split: recipes.Split) -> Any:
    """Return a reader's options with the columns that the recipe names outside of them."""
    options = reader.options
    named = {
        "data.split.group_by": split.group_by,
        "evaluation.subgroups": recipe.evaluation.subgroups,
    }
    for key, value in named.items():
        if value and not hasattr(options, "columns"):
            raise RequestError(f"{key}: the reader {reader.name} has no columns; only a table has")
    if not any(named.values()):
        return options
    columns = options.columns
    if split.group_by is not None:
        columns = columns.model_copy(update={"group": split.group_by})
    come_along = dict.fromkeys((*columns.subgroups, *recipe.evaluation.subgroups))
    columns = columns.model_copy(update={"subgroups": tuple(come_along)})
    return options.model_copy(update={"columns": columns})


def _divided_target(
    recipe: Recipe, target: recipes.Target, found: Collection, class_names: Sequence[str]
) -> Collection:
    """Return the target's pictures in their splits; its classes must be among the source's where labels are learnt from."""
    if target.labels == "none":
        found = without_strange_labels(found, class_names)
    else:
        check_labels("target.reader", target.reader, found)
        check_classes(found, class_names)
    groups_per_class = target.few.groups_per_class if target.few else 0
    return data.split_target(
        found, labels=target.labels, groups_per_class=groups_per_class,
        val_fraction=target.split.val_fraction, test_fraction=target.split.test_fraction,
        seed=recipe.seed, allow_rare=target.split.allow_rare,
    )  # fmt: skip


def _named(records: Sequence[Record], domain: str) -> list[Record]:
    return [record if record.domain else replace(record, domain=domain) for record in records]


def _window(recipe: Recipe, records: Sequence[Record]) -> tuple[float, float] | None:
    window = recipe.data.window
    if window == "full":
        return None
    if isinstance(window, recipes.Window):
        return window.center - window.width / 2, window.center + window.width / 2
    training = [record for record in records if record.split == "train"]
    return data.auto_window(training)


def _cache(recipe: Recipe, count: int, size: int) -> Literal["memory", "none"]:
    if recipe.data.cache != "auto":
        return recipe.data.cache
    return "memory" if count * size * size * 12 <= MEMORY_FOR_PICTURES_BYTES else "none"
