"""Divide the images of source and target into splits, and check that the domains fit together. No image is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl import data, evaluation, registry
from kerastl import recipe as recipes
from kerastl.data.duplicates import Duplicates
from kerastl.data.identity import SPELLINGS_FOOTER, Identity, check_spellings, normalize
from kerastl.errors import Problem, RequestError, pluralize, raise_problems, suggest

if TYPE_CHECKING:
    from kerastl.data import Collection, Record
    from kerastl.recipe import Reader, Recipe

NUM_LISTED = 5
"""Number of images that a message lists."""
TARGET_EVALUATION_SPLITS = ("target_val", "target_test")


def readers_by_domain(recipe: recipes.Recipe) -> dict[str, recipes.Reader]:
    """Return the reader of each domain that the recipe reads: `source`, `target` or both."""
    readers = {"source": recipe.data.reader, "target": recipe.target.reader if recipe.target else None}
    return {domain: reader for domain, reader in readers.items() if reader is not None}


def reader_options(recipe: recipes.Recipe, domain: str) -> Any:
    """Return the options of the reader of a domain, with the columns that `group_by` and `subgroups` name."""
    options = readers_by_domain(recipe)[domain].options
    split = recipe.target.split if domain == "target" and recipe.target else recipe.data.split
    if split.group_by is None and not recipe.evaluation.subgroups:
        return options
    subgroups = dict.fromkeys((*options.columns.subgroups, *recipe.evaluation.subgroups))
    update = {"group": split.group_by or options.columns.group, "subgroups": tuple(subgroups)}
    return options.model_copy(update={"columns": options.columns.model_copy(update=update)})


def split_domains(
    recipe: Recipe, collections: Mapping[str, Collection]
) -> tuple[Collection, Collection | None]:
    """Return the images of source and target in their splits.

    Args:
        recipe: The recipe.
        collections: The images of each domain of the recipe. With `source.model`, there are only target images.

    Raises:
        RequestError: The labels, the splits or the domains cannot be used.
    """
    if recipe.source:
        source = data.Collection(None, evaluation.read_description(recipe.source.model).class_names, ())
    else:
        source = _split_source(recipe, collections["source"])
    if recipe.evaluation.positive is not None:
        evaluation.positive_class(source.class_names, recipe.evaluation.positive)
    if recipe.target is None:
        return source, None
    target = _split_target(recipe, recipe.target, collections["target"], source.class_names)
    check_distinct_images(source, target, duplicates=recipe.data.duplicates)
    target = remove_patient_overlap(
        source, target, same_table=_reads_one_table(recipe), identity=_identity(recipe)
    )
    return source, target


def _split_source(recipe: Recipe, images: Collection) -> Collection:
    """Return the source images in their splits."""
    options = recipe.data.split
    check_labels("data.reader", readers_by_domain(recipe)["source"], images)
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
        check_labels("target.reader", target.reader, images)
        check_class_names(images, class_names)
    few = {"groups_per_class": target.few.groups_per_class} if target.few else {}
    return data.split_target(
        images, labels=target.labels, **few,
        val_fraction=target.split.val_fraction, test_fraction=target.split.test_fraction,
        seed=recipe.seed, allow_rare=target.split.allow_rare, duplicates=recipe.data.duplicates,
    )  # fmt: skip


def check_labels(key: str, reader: Reader, images: Collection) -> None:
    """Raise RequestError unless the images have labels of at least two classes."""
    where = f"{key}: {reader_path(reader) or reader.name}"
    labels = {record.label for record in images.records} - {None}
    if not labels:
        raise RequestError(f"{where}: No image has a label. {_how_to_label(key, reader)}")
    if len(labels) == 1:
        raise RequestError(f"{where}: All labels are {labels.pop()!r}. At least two classes are needed.")


def _how_to_label(key: str, reader: Reader) -> str:
    remedy = "Label the images."
    if reader.name == "folder":
        remedy = "Put the images of each class into their own subfolder, or use the folder above this one."
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
    problems = []
    for name in target.class_names:
        if name in class_names:
            continue
        first = next(record.path for record in target.records if record.label == name)
        hint = suggest(name, class_names)
        message = (
            f"is not a source class ({', '.join(class_names)}). {hint}Images: {counts[name]}, first: {first}"
        )
        problems.append(Problem(f"class {name!r}", message))
    remedy = "Correct the labels, or ignore all target labels: --set target.labels=none"
    raise_problems("The target", problems, remedy)


def drop_unknown_labels(
    target: Collection, class_names: Sequence[str], *, identity: Identity = "normalized"
) -> Collection:
    """Return the target images, with a note, after removing the labels that are not source classes.

    Raises:
        Problems: A label is a different spelling of a source class.
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


def reader_path(reader: Reader) -> Path | None:
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
    paths = map(reader_path, readers_by_domain(recipe).values())
    tables = [path.resolve() for path in paths if path is not None and path.is_file()]
    return len(tables) == 2 and tables[0] == tables[1]
