"""From the recipe's readers to images that can be decoded and know their split."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kerastl import adaptation, data, registry
from kerastl import recipe as recipes
from kerastl.augment import build_mixing, build_policy
from kerastl.console import print_status
from kerastl.data import CheckedImages, Collection, ImageDataset, Record
from kerastl.data.convert import PixelStatistics, is_16_bit_file, pixel_statistics, sample_records
from kerastl.errors import Problem, Problems, RequestError
from kerastl.evaluation import assign_subgroups, is_binned, positive_class, read_description
from kerastl.models import checked_size
from kerastl.recipe import Reader, Recipe
from kerastl.runs import Run

SHOWN = 5
TESTED = ("target_test", "target_val")


def kept_apart(source: Collection, target: Collection, *, one_table: bool) -> Collection:
    """Return the target without what would be tested in one domain and learnt from in the other.

    Where both domains stand in one table, a group of one name is one person. Who is learnt from or validates at the source is
    not tested at the target but joins what is learnt from there, and who is tested at the source is not learnt from at the
    target. In two tables equal names may be chance: they are noted and nothing is moved.

    Args:
        source, target: divided; files are absolute.
        one_table: whether the two are rows of one table.

    Raises:
        RequestError: the same image stands in both.
    """
    _refuse_same_images(source, target)
    roles = {one.group: one.split for one in source.records if one.group}
    both = {one.group for one in target.records if one.group in roles}
    if not both:
        return target
    people = f"{len(both)} {'group' if len(both) == 1 else 'groups'} (patients) of the target"
    if not one_table:
        note = (
            f"{people} have names that the source's have, too, as {min(map(str, both))!r}. If they are the same people, the target's "
            "test is not unseen: put both domains into one table, with a column domain."
        )
        return replace(target, notes=(*target.notes, note))
    labels_learnt = any(one.split == "target_train" for one in target.records)
    kept = [_moved(one, roles.get(one.group or ""), labels_learnt) for one in target.records]
    left = sum(one is None for one in kept)
    note = (
        f"{people} are at the source, too: whoever is learnt from or validates there is not tested at the target, and "
        f"whoever is tested there is not learnt from ({left} images of the target are left out)."
    )
    records = tuple(one for one in kept if one is not None)
    return replace(target, records=records, notes=(*target.notes, note))


def _moved(record: Record, role: str | None, labels_learnt: bool) -> Record | None:
    """Return an image of the target in the split that its group's role at the source allows; None: in none."""
    if role is None:
        return record
    if role == "test":
        return record if record.split == "target_test" else None
    if record.split not in TESTED:
        return record
    if labels_learnt and record.split == "target_val":
        return replace(record, split="target_train")
    return replace(record, label=None, split="target_unlabelled")


def _refuse_same_images(source: Collection, target: Collection) -> None:
    known = {one.file for one in source.records}
    same = [one.path for one in target.records if one.file in known]
    if same:
        raise RequestError(
            f"{len(same)} images of the target are images of the source, too: {', '.join(same[:SHOWN])}"
            f"{', ...' if len(same) > SHOWN else ''}. An image is of one domain: name the target's own, or for one "
            "table of both domains write target.domains."
        )


NOTHING_RUN = "Nothing was run."


def place_of(reader: Reader) -> Path | None:
    """Return the file or folder that a reader reads; None where it has none."""
    place = getattr(reader.options, "path", None)
    return place if isinstance(place, Path) else None


def one_table(recipe: Recipe) -> bool:
    """Return whether both domains stand in one table, so that a patient of one name is one person."""
    if recipe.target is None or recipe.data.reader is None:
        return False
    source, target = place_of(recipe.data.reader), place_of(recipe.target.reader)
    if source is None or target is None or not source.is_file():
        return False
    return source.resolve() == target.resolve()


def whose(recipe: Recipe, reader: Reader) -> str:
    """Return `the target (b/labels.csv)` for a reader of a recipe; empty where there is one data set."""
    if recipe.target is None or recipe.data.reader is None:
        return ""
    place = place_of(reader)
    shown = f" ({'/'.join(place.parts[-2:])})" if place else ""
    return f"the {_domain(recipe, reader)}{shown}"


def tagged(recipe: Recipe, reader: Reader, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return notes that begin with the domain where the names of the two files would not tell it."""
    if recipe.target is None or recipe.data.reader is None:
        return notes
    source, target = place_of(recipe.data.reader), place_of(recipe.target.reader)
    if source is None or target is None or source == target or source.name != target.name:
        return notes
    return tuple(f"{_domain(recipe, reader)}: {line}" for line in notes)


@contextmanager
def both_told(look_at_target: Callable[[], object] | None) -> Iterator[None]:
    """Tell what is wrong with the target together with what is wrong with the source, which is read inside.

    Args:
        look_at_target: raises what is wrong with it; it is called only where the source is refused.

    Raises:
        RequestError: the source is refused; of both where the target is, too.
    """
    try:
        yield
    except RequestError as error:
        if look_at_target is None:
            raise
        try:
            look_at_target()
        except RequestError as other:
            # One table with two sites has its faults once.
            if str(other) == str(error):
                raise error from None
            first = str(error).removesuffix(NOTHING_RUN).rstrip()
            raise RequestError(f"{first}\n{other}") from error
        raise


def _domain(recipe: Recipe, reader: Reader) -> str:
    return "target" if recipe.target and reader is recipe.target.reader else "source"


REMEDY = "Mend them, or run without them: --set target.labels=none takes such images as unlabelled."


def check_labels(key: str, reader: recipes.Reader, found: Collection) -> None:
    """Check that images of two classes have labels.

    Args:
        key: of the reader in the recipe, `data.reader` or `target.reader`.
        reader: that read them.
        found: what it gave.

    Raises:
        RequestError: no label, or one class; where the images come from, and what to set.
    """
    place = place_of(reader)
    where = f"{key}: {place if place is not None else reader.name}"
    labels = {record.label for record in found.records} - {None}
    if not labels:
        raise RequestError(f"{where}: no image has a label. {_how_to_label(key, reader)}")
    if len(labels) == 1:
        raise RequestError(f"{where} holds only the class {labels.pop()!r}: at least two are needed.")


def _how_to_label(key: str, reader: recipes.Reader) -> str:
    told = "Give each image its class."
    if hasattr(reader.options, "columns"):
        columns = ", ".join(registry.read_columns(reader.name, reader.options))
        told = f"Its columns are {columns}: say which one holds them, --set {key}.columns.label=COLUMN."
    return told + (" Or learn without them: --set target.labels=none." if "target" in key else "")


def check_classes(found: Collection, class_names: Sequence[str]) -> None:
    """Check that the target's classes are among the source's.

    Raises:
        Problems: they are not; all that are strange, with the nearest name and the first image.
    """
    counts = Counter(record.label for record in found.records)
    problems = []
    for name in found.class_names:
        if name in class_names:
            continue
        first = next(record.path for record in found.records if record.label == name)
        near = difflib.get_close_matches(name.lower(), [one.lower() for one in class_names], n=1)
        meant = next((one for one in class_names if near and one.lower() == near[0]), None)
        hint = f" Did you mean {meant!r}?" if meant else ""
        what = f"is not among the source's: {', '.join(class_names)}.{hint} Images: {counts[name]}, the first {first}"
        problems.append(Problem(f"class {name!r}", what))
    if problems:
        raise Problems("The target", problems, REMEDY)


def without_strange_labels(found: Collection, class_names: Sequence[str]) -> Collection:
    """Return a target whose labels are not learnt from, those that the source does not know left out, with a note."""
    strange = [name for name in found.class_names if name not in class_names]
    if not strange:
        return found
    records = tuple(
        replace(record, label=None) if record.label in strange else record for record in found.records
    )
    count = sum(record.label in strange for record in found.records)
    note = (
        f"{count} images of the target are of classes that the source does not know ({', '.join(map(repr, strange))}): "
        "they are taken as unlabelled, and no score tells of them."
    )
    known = tuple(name for name in found.class_names if name in class_names)
    return replace(found, records=records, class_names=known, notes=(*found.notes, note))


def with_subgroups(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records with a subgroup instead of each cell, and a line for each column that was cut into ranges.

    Args:
        records: of source and target, each in its split.

    Raises:
        RequestError: a column has too many different texts.
    """
    told = [dict(record.subgroups) for record in records]
    names = dict.fromkeys(name for one in told for name in one)
    if not names:
        return list(records), []
    columns = {name: [one.get(name, "") for one in told] for name in names}
    found = assign_subgroups(columns, [record.split == "train" for record in records])
    notes = [
        f"Subgroups by {name!r}: its numbers are cut at the quartiles of the training images."
        for name, values in columns.items()
        if is_binned(values)
    ]
    grouped = [
        replace(record, subgroups=tuple((name, found[name][row]) for name in names))
        for row, record in enumerate(records)
    ]
    return grouped, notes


MEMORY_FOR_IMAGES_BYTES = 2**30
SPLITS = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")


@dataclass(frozen=True)
class Datasets:
    """All images of a run, each in one split.

    Args:
        records: of source and target; `split` is one of `SPLITS`.
        class_names: in the order of the logits.
        image_size_px: side of the square the network sees.
        window: (low, high) in stored values for 16-bit images; None where there are none, or full.
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
        """Return the images of one split for training (shuffled, augmented) or for judging."""
        return self.source_of(recipe, self.of(split), training=training)

    def source_of(self, recipe: Recipe, records: Sequence[Record], *, training: bool = False) -> ImageDataset:
        """Return chosen images for training (shuffled, augmented, mixed) or for judging."""
        # Judging changes no image: to build a policy for it would load keras-cv for nothing.
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


def load_datasets(recipe: Recipe, run: Run) -> Datasets:
    """Read, decode once, divide: everything about the images that must hold before training.

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
    # A model that comes with a window needs it, whatever the target's images are.
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
        print_status(line)
    return Datasets(
        tuple(records), source.class_names, size, _window(recipe, records) if deep else None,
        _cache(recipe, len(records), size), source.root, target_root, bad, prints, tuple(notes),
    )  # fmt: skip


def _source(recipe: Recipe, run: Run) -> CheckedImages:
    """Return the source's images; of a model that came without, the classes that it knows."""
    if recipe.source is not None:
        if recipe.target is None:
            raise RequestError(
                "There are no labelled training images: source.model stands in their place, and no label is learnt from."
            )
        known = read_description(recipe.source.model)
        return CheckedImages(Collection(None, known.class_names, ()), (), has_16_bit=False)
    if recipe.data.reader is None:
        raise RequestError("data.reader: is needed: there are no images.")
    target = recipe.target
    look = (lambda: _checked(recipe, target.reader, target.split, run)) if target else None
    with both_told(look):
        return _checked(recipe, recipe.data.reader, recipe.data.split, run)


def _divided(recipe: Recipe, found: Collection) -> Collection:
    """Return the source's images in their splits."""
    asked = recipe.data.split
    if recipe.data.reader is not None:
        check_labels("data.reader", recipe.data.reader, found)
    return data.split(
        found, val_fraction=asked.val_fraction, test_fraction=asked.test_fraction,
        seed=recipe.seed, allow_rare=asked.allow_rare,
    )  # fmt: skip


def check_outside(out: Path, root: Path | None, what: str) -> None:
    """Refuse to write among the data: a reader of folders would take it for images of them.

    Args:
        out: where something is to be written.
        root: folder of the data; None where there is none.
        what: is to be written, in words.

    Raises:
        RequestError: `out` lies in the folder.
    """
    if root is not None and out.resolve().is_relative_to(root.resolve()):
        raise RequestError(f"The {what} would lie among the data, in {root}. Write it elsewhere: --out DIR")


def _checked(recipe: Recipe, reader: recipes.Reader, split: recipes.Split, run: Run) -> CheckedImages:
    """Return what can be read, what cannot, and whether any image is 16-bit grey."""
    options = _with_columns(recipe, reader, split)
    cache = data.cache_folder()
    module = registry.module("reader", reader.name)
    collection = module.read(options, seed=recipe.seed, cache_dir=cache)
    collection = replace(collection, notes=tagged(recipe, reader, collection.notes))
    named = whose(recipe, reader)
    checked = data.check_images(
        collection, max_pixels=recipe.data.max_pixels, cache_dir=cache,
        converted_dir=run.file("converted"),
        max_unreadable_fraction=recipe.data.max_unreadable_fraction, dataset_name=named,
    )  # fmt: skip
    if checked.quarantined:
        names = ", ".join(path for path, _ in checked.quarantined[:5])
        count = len(checked.quarantined)
        more = f" and {count - 5} more, all are in quarantine.csv" if count > 5 else ""
        of = f" of {named}" if named else ""
        print_status(f"Warning: {count} images{of} cannot be read and are left out: {names}{more}")
    return checked


def _with_columns(recipe: Recipe, reader: recipes.Reader, split: recipes.Split) -> Any:
    """Return a reader's options with the columns that the recipe names outside of them."""
    options = reader.options
    named = {"data.split.group_by": split.group_by, "evaluation.subgroups": recipe.evaluation.subgroups}
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
    """Return the target's images in their splits; its classes must be among the source's where labels are learnt from."""
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
    return "memory" if count * size * size * 12 <= MEMORY_FOR_IMAGES_BYTES else "none"


MOST_OF = 0.5
"""Share of the images, or pixels, from which on a note is due."""
TARGET = ("target_train", "target_val", "target_test", "target_unlabelled")


def warn_about_target(recipe: Recipe, images: Datasets, *, oracle: bool = False) -> Datasets:
    """Say what is remarkable about the target, and return the images with these notes among theirs.

    Args:
        recipe: asks for a target, or not; then nothing is looked at.
        images: of a few of the target the pixels are looked at; no test image is opened.
        oracle: every way to adapt is to be judged by the target's test images.
    """
    notes = []
    if oracle and not images.of("target_test"):
        notes.append("--oracle: no labelled test image of the target is there to judge by.")
    if recipe.target is not None:
        notes += [*_labels(recipe), *_patients(recipe, images), *_pixels(recipe, images)]
    for line in notes:
        print_status(line)
    return dataclasses.replace(images, notes=(*images.notes, *notes))


def _labels(recipe: Recipe) -> Iterator[str]:
    """Tell of labels that none of the methods reads."""
    if recipe.adapts_by is None or recipe.target is None or recipe.target.labels == "none":
        return
    methods = [one.name for one in recipe.adapts_by.methods]
    if any(adaptation.method_named(name).target_labels == "some" for name in methods):
        return
    remedy = "" if recipe.source else " Add fine_tune to them, or take the recipe hospital-adaptation."
    yield (
        f"target.labels is {recipe.target.labels}, and none of the methods ({', '.join(methods)}) learns from the "
        f"target's labels.{remedy}"
    )


def _patients(recipe: Recipe, images: Datasets) -> Iterator[str]:
    """Tell of a target without groups beside a source that has some."""
    target = [record for split in TARGET for record in images.of(split)]
    source = [record for split in ("train", "val", "test") for record in images.of(split)]
    without = target and not any(record.group for record in target)
    if not without or not any(record.group for record in source):
        return
    assert recipe.target is not None
    options = recipe.target.reader.options
    keys = [one for one in ("columns", "group_pattern") if hasattr(options, one)]
    key = "columns.group" if keys == ["columns"] else "".join(keys)
    remedy = f" Say whose they are with target.reader.{key}." if key else ""
    yield (
        "The source's images have groups (patients), the target's have none: each image of it counts by itself, and "
        f"images of one patient may be torn apart between training and test.{remedy}"
    )


def _pixels(recipe: Recipe, images: Datasets) -> Iterator[str]:
    """Tell of images that hold nothing, or that are stored in another way than the source's."""
    target = [record for split in TARGET if split != "target_test" for record in images.of(split)]
    if not target:
        return
    few = sample_records(target)
    seen = pixel_statistics(few, window=images.window, max_pixels=recipe.data.max_pixels)
    some = f"of the {len(few)} that were looked at" if len(few) < len(target) else f"of {len(few)}"
    if seen.constant > MOST_OF * seen.num_images:
        yield (
            f"Images of the target outside its test, {seen.constant} {some}, are one grey value throughout: "
            "nothing can be learnt from these."
        )
    source = [is_16_bit_file(record.file) for record in sample_records(images.of("train"))]
    deep = [is_16_bit_file(record.file) for record in few]
    if source and (sum(source) > MOST_OF * len(source)) != (sum(deep) > MOST_OF * len(deep)):
        kinds = ("16-bit grey", "8-bit") if sum(source) > sum(deep) else ("8-bit", "16-bit grey")
        yield (
            f"Most images of the source are {kinds[0]}, most of the target are {kinds[1]}: the window of grey values "
            "holds for 16-bit images alone."
        )
    yield from _outside(recipe, images, seen)


def _outside(recipe: Recipe, images: Datasets, seen: PixelStatistics) -> Iterator[str]:
    if images.window is None or seen.outside is None or seen.outside <= MOST_OF:
        return
    low, high = images.window
    measured = " that was measured at the source" if recipe.data.window == "auto" else ""
    yield (
        f"{100 * seen.outside:.0f} % of the pixels of the target's 16-bit images lie outside the window "
        f"{low:g} to {high:g}{measured}: they become black or white."
    )
