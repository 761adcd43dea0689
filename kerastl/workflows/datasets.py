"""Load the datasets of a recipe: read, check, split and describe the images of source and target."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from kerastl import adaptation, data, registry, report
from kerastl import recipe as recipes
from kerastl.augment import build_mixing, build_policy
from kerastl.console import print_facts, print_status, status
from kerastl.data import CheckedImages, Collection, ImageDataset, Record
from kerastl.data.convert import NARROW, is_16_bit_file
from kerastl.data.decode import FULL_WINDOW
from kerastl.data.duplicates import Duplicates
from kerastl.data.identity import SPELLINGS_FOOTER, Identity, check_spellings, normalize
from kerastl.data.records import evenly_spaced, pluralize
from kerastl.data.validate import PixelStatistics, pixel_statistics
from kerastl.errors import Problem, RequestError, raise_problems
from kerastl.evaluation import assign_subgroups, is_binned, positive_class, read_description, subgroup_columns
from kerastl.models import resolve_image_size
from kerastl.recipe import Reader, Recipe
from kerastl.runs import DataSummary, Run, Summary
from kerastl.workflows.check_recipe import raise_together, reader_options, readers_by_domain
from kerastl.workflows.summarize import MOST, summarize_data

NUM_LISTED = 5
"""Number of images that a message lists."""
CACHE_LIMIT_BYTES = 2**30
MAX_STATISTICS_IMAGES = 64
TARGET_EVALUATION_SPLITS = ("target_val", "target_test")
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
        image_size_px: Height and width of the model's input.
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
        summary: The images of `source` and `target` in numbers.
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
    augment: recipes.Augment = field(default_factory=recipes.Augment)
    batch_size: int = 32
    max_pixels: int = 50_000_000
    seed: int = 0
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
            records, class_names=self.class_names, image_size_px=size,
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
    if recipe.source:
        source = Collection(None, read_description(recipe.source.model).class_names, ())
    else:
        source = _split_source(recipe, images["source"].collection)
    positive_class(source.class_names, recipe.evaluation.positive)
    records, notes, target_root = list(source.records), list(source.notes), None
    if recipe.target:
        target_root = images["target"].collection.root
        target = _split_target(recipe, recipe.target, images["target"].collection, source.class_names)
        check_distinct_images(source, target, duplicates=recipe.data.duplicates)
        target = remove_patient_overlap(
            source, target, same_table=_reads_one_table(recipe), identity=_identity(recipe)
        )
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
        _cache(recipe, len(records), size), source.root, target_root, quarantined, fingerprints, tuple(notes),
        augment=recipe.augment, batch_size=recipe.data.known_batch_size, max_pixels=recipe.data.max_pixels,
        seed=recipe.seed, summary=summary,
    )  # fmt: skip


def _summarize(
    recipe: Recipe, images: Mapping[str, CheckedImages], records: Sequence[Record]
) -> dict[str, DataSummary]:
    """Return the summary of the images of each domain."""
    operations = {operation.name for operation in recipe.augment.operations}
    summaries = {}
    for domain, reader in readers_by_domain(recipe).items():
        own = [record for record in records if (record.split in TARGET_SPLITS) == (domain == "target")]
        path = str(_reader_path(reader) or reader.name)
        summaries[domain] = summarize_data(path, images[domain], own, augment=operations)
    return summaries


def check_outside(out: Path, root: Path | None, content: str) -> None:
    """Check that `out` is outside the folder of the data, where a reader would read its files as images.

    Args:
        out: The output folder.
        root: The folder of the data, or None.
        content: What is written to `out`, for the message.

    Raises:
        RequestError: `out` is inside the folder.
    """
    if root is not None and out.resolve().is_relative_to(root.resolve()):
        raise RequestError(
            f"The {content} cannot be written to {out}, because the folder of the data, {root}, contains it. "
            "Choose another folder: --out DIR"
        )


def _read_images(recipe: Recipe, run: Run) -> dict[str, CheckedImages]:
    """Return the images of each domain. With `source.model`, there are only target images."""
    if recipe.source is not None and recipe.target is None:
        raise RequestError(
            "There are no labeled training images, because source.model replaces the source images. "
            "Use data.reader instead of source.model, or add a target."
        )
    images: dict[str, CheckedImages] = {}
    errors: list[RequestError] = []
    for domain in readers_by_domain(recipe):
        try:
            images[domain] = _read_domain(recipe, domain, run)
        except RequestError as error:
            errors.append(error)
    raise_together(errors)
    return images


def _read_domain(recipe: Recipe, domain: str, run: Run) -> CheckedImages:
    """Read the images of a domain and check that each can be decoded."""
    paths = {name: _reader_path(reader) for name, reader in readers_by_domain(recipe).items()}
    cache, reader = data.cache_folder(), readers_by_domain(recipe)[domain]
    collection = registry.module("reader", reader.name).read(
        reader_options(recipe, domain), seed=recipe.seed, cache_dir=cache
    )
    name, path, different = "", paths[domain], set(paths.values()) - {None}
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


def _split_source(recipe: Recipe, images: Collection) -> Collection:
    """Return the source images in their splits."""
    options = recipe.data.split
    _check_labels("data.reader", readers_by_domain(recipe)["source"], images)
    return data.split(
        images, val_fraction=options.val_fraction, test_fraction=options.test_fraction,
        seed=recipe.seed, allow_rare=options.allow_rare, duplicates=recipe.data.duplicates,
    )  # fmt: skip


def _split_target(
    recipe: Recipe, target: recipes.Target, images: Collection, class_names: Sequence[str]
) -> Collection:
    """Return the target images in their splits. Labels that are used for training must be source classes."""
    if target.labels == "none":
        images = drop_unknown_labels(images, class_names, identity=_identity(recipe))
    else:
        _check_labels("target.reader", target.reader, images)
        check_class_names(images, class_names)
    few = {"groups_per_class": target.few.groups_per_class} if target.few else {}
    return data.split_target(
        images, labels=target.labels, **few,
        val_fraction=target.split.val_fraction, test_fraction=target.split.test_fraction,
        seed=recipe.seed, allow_rare=target.split.allow_rare, duplicates=recipe.data.duplicates,
    )  # fmt: skip


def _check_labels(key: str, reader: Reader, images: Collection) -> None:
    """Raise RequestError unless the images have labels of at least two classes."""
    where = f"{key}: {_reader_path(reader) or reader.name}"
    labels = {record.label for record in images.records} - {None}
    if not labels:
        raise RequestError(f"{where}: No image has a label. {_how_to_label(key, reader)}")
    if len(labels) == 1:
        raise RequestError(f"{where}: All labels are {labels.pop()!r}. At least two classes are needed.")


def _how_to_label(key: str, reader: Reader) -> str:
    remedy = "Label the images."
    if reader.name == "folder":
        remedy = (
            "Put the images of each class into a subfolder of their own, or name the folder above this one."
        )
    if hasattr(reader.options, "columns"):
        columns = ", ".join(registry.read_columns(reader.name, reader.options))
        remedy = f"The columns are {columns}. Choose the label column: --set {key}.columns.label=COLUMN."
    return remedy + (" To adapt without target labels: --set target.labels=none." if "target" in key else "")


def check_class_names(target: Collection, class_names: Sequence[str]) -> None:
    """Check that all target classes are source classes.

    Args:
        target: The target images.
        class_names: The source classes.

    Raises:
        Problems: Some are not. Each problem has the closest class name and the first image.
    """
    counts = Counter(record.label for record in target.records)
    lower_case = {name.lower(): name for name in class_names}
    problems = []
    for name in target.class_names:
        if name in class_names:
            continue
        first = next(record.path for record in target.records if record.label == name)
        close = difflib.get_close_matches(name.lower(), lower_case, n=1)
        hint = f" Did you mean {lower_case[close[0]]!r}?" if close else ""
        message = (
            f"is not a source class ({', '.join(class_names)}).{hint} Images: {counts[name]}, first: {first}"
        )
        problems.append(Problem(f"class {name!r}", message))
    remedy = "Correct the labels, or ignore all target labels: --set target.labels=none"
    raise_problems("The target", problems, remedy)


def drop_unknown_labels(
    target: Collection, class_names: Sequence[str], *, identity: Identity = "normalized"
) -> Collection:
    """Return the target images without labels that are not source classes, and with a note.

    Raises:
        Problems: A label is another spelling of a source class.
    """
    both = dict.fromkeys(class_names, "source") | dict.fromkeys(target.class_names, "target")
    raise_problems("The target", check_spellings(both, "class names", identity), SPELLINGS_FOOTER)
    unknown = [name for name in target.class_names if name not in class_names]
    if not unknown:
        return target
    count = sum(record.label in unknown for record in target.records)
    note = (
        f"{count} target images have labels that are not source classes ({', '.join(map(repr, unknown))}). "
        "They are treated as unlabeled and are not scored."
    )
    records = (
        replace(record, label=None) if record.label in unknown else record for record in target.records
    )
    known = tuple(name for name in target.class_names if name in class_names)
    return replace(target.with_records(records, note), class_names=known)


def remove_patient_overlap(
    source: Collection, target: Collection, *, same_table: bool, identity: Identity = "normalized"
) -> Collection:
    """Return the target without images whose group is in training at one domain and in test at the other.

    Within one table, a group name identifies one patient. If a patient is in the source training or
    validation set, the patient's target images are moved from the evaluation splits to the training images.
    If a patient is in the source test set, the target images are not used for training. Across two tables,
    equal names can be a coincidence, so they are only reported.

    Args:
        source, target: Images in their splits, with absolute `file` paths.
        same_table: Whether both domains are read from one table.
        identity: How the groups of the two domains are compared.
    """
    compare = normalize if identity == "normalized" else str
    source_splits = {compare(record.group): record.split for record in source.records if record.group}
    shared = {
        record.group for record in target.records if record.group and compare(record.group) in source_splits
    }
    if not shared:
        return target
    groups = f"{len(shared)} target {'group' if len(shared) == 1 else 'groups'} (patients)"
    if not same_table:
        example = min(shared)
        names = {compare(record.group): record.group for record in source.records if record.group}
        other = names[compare(example)]
        spelling = f" (in the source, {other!r})" if other != example else ""
        note = (
            f"{groups} have the name of a source group, for example {example!r}{spelling}. If they are the same "
            "patients, test scores at the target are biased. Put both domains into one table with a domain column."
        )
        return target.with_records(target.records, note)
    has_labels = any(record.split == "target_train" for record in target.records)
    moved = [
        _without_overlap(record, source_splits.get(compare(record.group or "")), has_labels)
        for record in target.records
    ]
    records = [record for record in moved if record is not None]
    note = (
        f"{groups} are also source patients. Those in source training or validation are not tested at the target; "
        f"those in the source test are not trained on ({len(moved) - len(records)} target images are excluded)."
    )
    return target.with_records(records, note)


def _without_overlap(record: Record, source_split: str | None, has_labels: bool) -> Record | None:
    """Return a target image in a split that the source split of its group allows, or None if there is none."""
    if source_split is None:
        return record
    if source_split == "test":
        return record if record.split == "target_test" else None
    if record.split not in TARGET_EVALUATION_SPLITS:
        return record
    if has_labels and record.split == "target_val":
        return replace(record, split="target_train")
    return replace(record, label=None, split="target_unlabelled")


def check_distinct_images(source: Collection, target: Collection, *, duplicates: Duplicates = "auto") -> None:
    """Check that no image is in both domains.

    Args:
        source, target: Images with absolute `file` paths.
        duplicates: `allow` accepts two files with the same bytes, but not one file in both domains.

    Raises:
        RequestError: An image is in both domains.
    """
    files = {record.file: record.path for record in source.records}
    contents = {} if duplicates == "allow" else {record.sha256: record.path for record in source.records}
    contents.pop("", None)
    pairs = [(record, files.get(record.file) or contents.get(record.sha256)) for record in target.records]
    shared = [f"{record.path} ({path} in the source)" for record, path in pairs if path is not None]
    if not shared:
        return
    is_copy = not any(record.file in files for record in target.records)
    remedy = (
        "accept copies: --set data.duplicates=allow"
        if is_copy
        else "set target.domains if one table holds both domains"
    )
    raise RequestError(
        f"{pluralize(len(shared), 'image')} of the target {'is' if len(shared) == 1 else 'are'} also in the source: "
        f"{', '.join(shared[:NUM_LISTED])}{', ...' if len(shared) > NUM_LISTED else ''}. An image must be in one domain. "
        f"Choose other target images, or {remedy}."
    )


def _reader_path(reader: Reader) -> Path | None:
    """Return the file or folder that a reader reads, or None if it has none."""
    path = getattr(reader.options, "path", None)
    return path if isinstance(path, Path) else None


def _identity(recipe: Recipe) -> Identity:
    """Return how labels and groups are compared between the domains: `exact` if all readers are."""
    options = [reader.options for reader in readers_by_domain(recipe).values()]
    is_exact = all(getattr(each, "identity", "normalized") == "exact" for each in options)
    return "exact" if is_exact else "normalized"


def _reads_one_table(recipe: Recipe) -> bool:
    """Return whether both domains are read from one table, so that a group name is one patient."""
    paths = map(_reader_path, readers_by_domain(recipe).values())
    tables = [path.resolve() for path in paths if path is not None and path.is_file()]
    return len(tables) == 2 and tables[0] == tables[1]


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


def _cache(recipe: Recipe, num_images: int, size: int) -> Literal["memory", "none"]:
    if recipe.data.cache != "auto":
        return recipe.data.cache
    return "memory" if num_images * size * size * 3 * 4 <= CACHE_LIMIT_BYTES else "none"


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
        notes += _pixel_warnings(recipe, datasets)
    for note in notes:
        print_status(note)
    return dataclasses.replace(datasets, notes=(*datasets.notes, *notes))


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
        remedy += f" To set another window: --set 'data.window={{center: {center:g}, width: {width:g}}}'"
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
