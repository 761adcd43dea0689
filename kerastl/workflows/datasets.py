"""Load the datasets of a recipe: read, check, split and describe the images of source and target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from kerastl import adaptation, data, registry, report
from kerastl import recipe as recipes
from kerastl.augment import build_mixing, build_policy
from kerastl.console import print_facts, print_status, status
from kerastl.data import CheckedImages, ImageDataset, Record
from kerastl.data.convert import NARROW, is_16_bit_file
from kerastl.data.decode import FULL_WINDOW
from kerastl.data.records import evenly_spaced
from kerastl.data.validate import PixelStatistics, pixel_statistics
from kerastl.errors import RequestError, join_words, pluralize, raise_request
from kerastl.evaluation import assign_subgroups, is_binned, subgroup_columns
from kerastl.image_size import Resize, Size
from kerastl.models import resolve_image_size
from kerastl.recipe import Recipe
from kerastl.runs import DataSummary, Run, Summary
from kerastl.workflows.check_recipe import check_outside, for_each_domain, head_problems
from kerastl.workflows.domains import (
    NUM_LISTED,
    reader_options,
    reader_path,
    readers_by_domain,
    split_domains,
)
from kerastl.workflows.summarize import MOST, summarize_data

CACHE_LIMIT_BYTES = 2**30
MAX_STATISTICS_IMAGES = 64
VALIDATION = ("val", "target_val")
TARGET_TRAINING = ("target_train", "target_unlabelled")
TARGET_SPLITS = (*TARGET_TRAINING, "target_val", "target_test")


@dataclass(frozen=True)
class Datasets:
    """All images of a run, each in one split.

    Args:
        records: Images of source and target. `split` is `train`, `val`, `test`, or one of
            `TARGET_SPLITS`.
        class_names: Class names in the order of the logits.
        image_size_px: (height, width) of the model's input.
        window: (low, high) in stored values for 16-bit images. None without such images, or if the window is
            full.
        cache: `memory` or `none`.
        root, target_root: Folders that the paths of the two domains are relative to.
        quarantined: `(path, reason)` of unreadable images.
        fingerprints: SHA-256 of the data as read, by domain (`source` and `target`).
        notes: Messages for the user.
        augment: Augmentation of the training images.
        batch_size: Images per batch.
        max_pixels: Images with more pixels are rejected.
        seed: Seed of the order and of the augmentation.
        resize: How images with a different aspect ratio are resized.
        summary: The images of `source` and `target` in numbers.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    image_size_px: Size
    window: tuple[float, float] | None
    cache: Literal["memory", "none"]
    root: Path | None
    target_root: Path | None
    quarantined: tuple[tuple[str, str], ...]
    fingerprints: dict[str, str]
    notes: tuple[str, ...]
    augment: recipes.Augment = field(default_factory=recipes.Augment)
    batch_size: int = 32
    max_pixels: int = 50_000_000
    seed: int = 0
    resize: Resize = "stretch"
    summary: dict[str, DataSummary] = field(default_factory=dict)

    def in_split(self, *splits: str) -> list[Record]:
        """Return the records of one or more splits, in the order of the splits."""
        return [record for split in splits for record in self.records if record.split == split]

    @property
    def has_source(self) -> bool:
        """Whether source images are available; they are not with `source.model`."""
        return "source" in self.fingerprints

    @property
    def has_target(self) -> bool:
        """Whether the run has a target."""
        return "target" in self.fingerprints

    def dataset(
        self, records: Sequence[Record], *, training: bool = False, mixed: bool = True
    ) -> ImageDataset:
        """Return records as a dataset for training (shuffled, augmented, mixed if `mixed`) or for evaluation."""
        # Without training, no policy is built, because building one imports keras-cv.
        augment = self.augment if training else recipes.Augment()
        operations = [(operation.name, operation.options) for operation in augment.operations]
        mixing = [(mixer.name, mixer.options) for mixer in augment.mixing if mixed]
        size, classes = self.image_size_px, len(self.class_names)
        policy = build_policy(operations, image_size_px=size, exact=augment.exact)
        mixer = build_mixing(mixing, image_size_px=size, num_classes=classes) if mixing else None
        return ImageDataset(
            records, class_names=self.class_names, image_size_px=size, resize=self.resize,
            batch_size=self.batch_size, window=self.window, max_pixels=self.max_pixels,
            seed=self.seed, shuffle=training, augment=policy if operations else None, mix=mixer,
            placement=augment.placement, cache=self.cache, views=augment.views,
        )  # fmt: skip

    @property
    def target_training_records(self) -> list[Record]:
        """The target images that training may use: all except validation and test images."""
        return self.in_split(*TARGET_TRAINING)

    def target_training(self) -> ImageDataset:
        """Return the target images as adaptation methods read them.

        They are augmented like source images, but not mixed, because most have no label.
        """
        return self.dataset(self.target_training_records, training=True, mixed=False)

    def print(self) -> None:
        """Print what was read, with all warnings and notes."""
        print_facts(report.summary_facts(Summary(data=self.summary), "data"))
        self.print_notes()

    def print_notes(self) -> None:
        """Print what the user must know about the images."""
        print_facts([("  Note", note) for note in self.notes])


def load_datasets(recipe: Recipe, run: Run) -> Datasets:
    """Read, check and split the images of a recipe.

    Args:
        recipe: The recipe.
        run: Converted images are written to its folder.

    Returns:
        The images of source and target, each in one split.

    Raises:
        RequestError: The data cannot be used. All problems are reported together.
    """
    size = resolve_image_size(recipe.backbone.name, recipe.data.image_size_px)
    with status("Reading the images"):
        images = _read_images(recipe, run)
        # The fingerprint is taken before the split, so that it does not depend on the seed.
        fingerprints = {domain: checked.collection.fingerprint() for domain, checked in images.items()}
    source, target = split_domains(recipe, {domain: checked.collection for domain, checked in images.items()})
    records, notes = list(source.records), list(source.notes)
    if target is not None:
        records = [*_with_domain(records, "source"), *_with_domain(target.records, "target")]
        notes += target.notes
    quarantined = tuple(image for checked in images.values() for image in checked.quarantined)
    # The window of a source model applies whether or not the target has 16-bit images.
    needs_window = recipe.source is not None or any(checked.has_16_bit for checked in images.values())
    records, subgroup_notes = _with_subgroups(records)
    notes = list(dict.fromkeys([*notes, *subgroup_notes]))
    summary = _summarize(recipe, images, records)
    return Datasets(
        tuple(records), source.class_names, size, _window(recipe, records) if needs_window else None,
        _cache(recipe, len(records), size), source.root, target.root if target else None, quarantined, fingerprints, tuple(notes),
        augment=recipe.augment, batch_size=recipe.data.known_batch_size, max_pixels=recipe.data.max_pixels,
        seed=recipe.seed, resize=recipe.data.resize, summary=summary,
    )  # fmt: skip


def _summarize(
    recipe: Recipe, images: Mapping[str, CheckedImages], records: Sequence[Record]
) -> dict[str, DataSummary]:
    """Return the summary of the images of each domain."""
    operations = {operation.name for operation in recipe.augment.operations}
    summaries = {}
    for domain, reader in readers_by_domain(recipe).items():
        members = [record for record in records if (record.split in TARGET_SPLITS) == (domain == "target")]
        path = str(reader_path(reader) or reader.name)
        summaries[domain] = summarize_data(path, images[domain], members, augment=operations)
    return summaries


def _read_images(recipe: Recipe, run: Run) -> dict[str, CheckedImages]:
    """Return the images of each domain. With `source.model`, there are only target images."""
    if recipe.source is not None and recipe.target is None:
        raise RequestError(
            "There are no labeled training images, because source.model replaces the source images. "
            "Use data.reader instead of source.model, or add a target."
        )
    check_outside(recipe, run.path, "run")
    return for_each_domain(recipe, partial(_read_domain, recipe, run))


def _read_domain(recipe: Recipe, run: Run, domain: str, reader: recipes.Reader) -> CheckedImages:
    """Read the images of a domain and check that each can be decoded."""
    paths = {name: reader_path(reader) for name, reader in readers_by_domain(recipe).items()}
    name, path, different = "", paths[domain], set(paths.values()) - {None}
    cache = data.cache_folder()
    collection = registry.module("reader", reader.name).read(
        reader_options(recipe, domain), seed=recipe.seed, cache_dir=cache
    )
    raise_request(head_problems(recipe, domain, collection))  # before each image is decoded
    if len(paths) > 1:
        name = f"the {domain}" + (f" ({'/'.join(path.parts[-2:])})" if path else "")
    if len(different) > len({path.name for path in different if path}):
        # Two different files have the same name.
        notes = tuple(f"{domain}: {note}" for note in collection.notes)
        collection = replace(collection, notes=notes)
    images = data.check_images(
        collection, max_pixels=recipe.data.max_pixels, cache_dir=cache,
        converted_dir=run.file("converted"),
        max_unreadable_fraction=recipe.data.max_unreadable_fraction, dataset_name=name,
    )  # fmt: skip
    if count := len(images.quarantined):
        paths_shown = "; ".join(f"{path}: {reason}" for path, reason in images.quarantined[:NUM_LISTED])
        more = f" and {count - NUM_LISTED} more, all listed in quarantine.csv" if count > NUM_LISTED else ""
        of_dataset = f" of {name}" if name else ""
        print_status(
            f"Warning: Excluded {pluralize(count, 'unreadable image')}{of_dataset}: {paths_shown}{more}"
        )
    return images


def _with_domain(records: Sequence[Record], domain: str) -> list[Record]:
    return [record if record.domain else replace(record, domain=domain) for record in records]


def _with_subgroups(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records with each cell replaced by its subgroup, and a note for each binned column."""
    columns = subgroup_columns(records)
    subgroups = assign_subgroups(columns, [record.split == "train" for record in records])
    notes = [
        f"Subgroups by {name!r}: values are binned at the quartiles of the training images."
        for name, values in columns.items()
        if is_binned(values)
    ]
    grouped = [
        replace(record, subgroups=tuple((name, values[row]) for name, values in subgroups.items()))
        for row, record in enumerate(records)
    ]
    return grouped, notes


def _window(recipe: Recipe, records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the window of 16-bit images.

    `auto` is estimated on source training images, or on target training images if only the target is 16-bit.

    Raises:
        RequestError: The window is `auto`, but only validation or test images are 16-bit.
    """
    window = recipe.data.window
    if window == "full":
        return None
    if isinstance(window, recipes.Window):
        return window.limits
    for splits in (("train",), TARGET_TRAINING):
        if estimated := data.auto_window([record for record in records if record.split in splits]):
            return estimated
    deep = [record.path for record in records if is_16_bit_file(record.file)]
    if deep:
        raise RequestError(
            f"{pluralize(len(deep), 'validation or test image')} of 16 bits, e.g. {deep[0]}, but all training images "
            "have 8 bits, so that no window can be estimated. Set the range of values from black to white, for 12 bits "
            "--set 'data.window={center: 2047.5, width: 4095}', or convert the images to 8 bits."
        )
    return None


def _cache(recipe: Recipe, num_images: int, size: Size) -> Literal["memory", "none"]:
    if recipe.data.cache != "auto":
        return recipe.data.cache
    return "memory" if num_images * math.prod(size) * 3 * 4 <= CACHE_LIMIT_BYTES else "none"


def warn_about_target(recipe: Recipe, datasets: Datasets, *, oracle: bool = False) -> Datasets:
    """Print warnings about the target, and return the datasets with these warnings added to their notes.

    Args:
        recipe: The recipe. Without a target, only `oracle` is checked.
        datasets: A sample of the target images is decoded, except test images.
        oracle: Whether all candidates will be evaluated on the target test images.
    """
    notes = []
    if oracle and not datasets.in_split("target_test"):
        notes.append("--oracle has no effect, because the target has no labeled test images.")
    if recipe.target is not None:
        notes += _label_warnings(recipe, recipe.target)
        notes += _group_warnings(recipe.target, datasets)
        notes += _padding_warnings(recipe)
        notes += _pixel_warnings(recipe, datasets)
    for note in notes:
        print_status(note)
    return replace(datasets, notes=(*datasets.notes, *notes))


def _label_warnings(recipe: Recipe, target: recipes.Target) -> Iterator[str]:
    """Warn about target labels that no method uses."""
    if recipe.adapts_by is None or target.labels == "none":
        return
    methods = [method.name for method in recipe.adapts_by.methods]
    if any(adaptation.get_method(name).target_labels == "some" for name in methods):
        return
    remedy = "" if recipe.source else " Add fine_tune to the methods, or use the recipe hospital-adaptation."
    yield (
        f"target.labels is {target.labels}, but none of the methods ({', '.join(methods)}) uses target labels."
        f"{remedy}"
    )


def _padding_warnings(recipe: Recipe) -> Iterator[str]:
    """Warn about methods that count padding as part of the image."""
    methods = [method.name for method in recipe.adapts_by.methods] if recipe.adapts_by else []
    counting = [name for name in methods if adaptation.get_method(name).transfers_styles]
    if recipe.data.resize == "pad" and counting:
        verb = "counts" if len(counting) == 1 else "count"
        yield (
            f"{join_words(counting, 'and')} {verb} the padding of data.resize: pad as part of the image, so colors are wrong if "
            "the aspect ratios differ. Use data.resize: stretch or crop."
        )


def _group_warnings(target: recipes.Target, datasets: Datasets) -> Iterator[str]:
    """Warn about a target without groups if the source has groups."""
    images, source_images = datasets.in_split(*TARGET_SPLITS), datasets.in_split("train", "val", "test")
    if not images or any(record.group for record in images):
        return
    if not any(record.group for record in source_images):
        return
    keys = {"columns": "columns.group", "group_pattern": "group_pattern"}
    options = [option for option in keys if hasattr(target.reader.options, option)]
    remedy = "".join(f" Set target.reader.{keys[option]}." for option in options)
    yield (
        "The source images have groups (patients), the target images have none: each target image counts as its own "
        f"group, and images of one patient can be in both training and test.{remedy}"
    )


def _pixel_warnings(recipe: Recipe, datasets: Datasets) -> Iterator[str]:
    """Warn about target images that are constant, or are stored differently from the source images."""
    splits = set(TARGET_SPLITS) - {"target_test"}
    target = [record for record in datasets.records if record.split in splits]
    if not target:
        return
    sample = evenly_spaced(target, MAX_STATISTICS_IMAGES)
    statistics = pixel_statistics(sample, window=datasets.window, max_pixels=datasets.max_pixels)
    if statistics.num_constant > MOST * len(sample):
        sampled = "sampled " if len(sample) < len(target) else ""
        yield (
            f"{statistics.num_constant} of {len(sample)} {sampled}target images outside the test split have a single "
            "gray value. They contain no information."
        )
    source_sample = evenly_spaced(datasets.in_split("train"), MAX_STATISTICS_IMAGES)
    num_16_bit = sum(is_16_bit_file(record.file) for record in source_sample)
    source_is_16_bit = num_16_bit > MOST * len(source_sample)
    if source_sample and source_is_16_bit != (statistics.num_16_bit > MOST * len(sample)):
        source_depth, target_depth = ("16-bit", "8-bit") if source_is_16_bit else ("8-bit", "16-bit")
        low, high = datasets.window or FULL_WINDOW
        yield (
            f"Most source images are {source_depth}, but most target images are {target_depth}. "
            f"The window {low:g} to {high:g} applies to the {'source' if source_is_16_bit else 'target'} only."
        )
    _check_range(recipe, datasets, statistics)
    yield from _window_warnings(recipe, datasets, statistics)


def _check_range(recipe: Recipe, datasets: Datasets, statistics: PixelStatistics) -> None:
    """Raise RequestError if target images are nearly uniform in a window that the recipe does not state."""
    is_stated = recipe.source is None and recipe.data.window != "auto"
    low, high = datasets.window or FULL_WINDOW
    first, last = statistics.range_16_bit or (low, high)
    if is_stated or last - first >= NARROW * (high - low) or last - first <= 1:
        return
    remedy = "If they are stored with fewer bits, rescale them."
    if recipe.source is None or datasets.window is None:
        center, width = (first + last) / 2, last - first
        remedy += f" To set a different window: --set 'data.window={{center: {center:g}, width: {width:g}}}'"
    raise RequestError(
        f"The values of the target's 16-bit images are {first:g} to {last:g}, only {(last - first) / (high - low):.1%} of the "
        f"window {low:g} to {high:g}, so that the images would be nearly uniform. {remedy}"
    )


def _window_warnings(recipe: Recipe, datasets: Datasets, statistics: PixelStatistics) -> Iterator[str]:
    """Warn if most target pixels are outside the window."""
    outside = statistics.fraction_outside_window
    if datasets.window is None or outside is None or outside <= MOST:
        return
    low, high = datasets.window
    estimated = ", which was estimated on source images," if recipe.data.window == "auto" else ""
    yield (
        f"{100 * outside:.0f}% of the pixels of the target's 16-bit images are outside the window {low:g} to "
        f"{high:g}{estimated} and become black or white."
    )
