"""Rules between the values of a recipe, and rules that need the tables of the plug-ins. None needs data or TensorFlow.

A rule takes a model of the schema and yields `(path, message)`. The model may be partly valid: a rule stops
at the first attribute that is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kerastl import registry
from kerastl.errors import (
    Problems,
    RequestError,
    did_you_mean,
    in_syntax,
    join_words,
    missing_column,
    quote,
    setting,
    suggest,
)
from kerastl.options import hints
from kerastl.recipe.phase import FromBlock, Phase

if TYPE_CHECKING:
    from kerastl.image_size import Size
    from kerastl.recipe.schema import Adaptation, Backbone, Evaluation, Export, Reader, Recipe, Split, Target

Finding = tuple[str, str]
MAX_LISTED = 200
"""Maximum number of blocks in a message. No table has that many."""


def training_split_is_not_empty(split: Split) -> Iterator[Finding]:
    """Validation and test together leave images for training."""
    together = split.val_fraction + split.test_fraction
    if together >= 1:
        yield (
            "test_fraction",
            f"val_fraction and test_fraction together must be below 1, got {together:g}: "
            "no images are left for training.",
        )


def target_has_one_source_of_images(target: Target) -> Iterator[Finding]:
    """The target's images come from its own reader or from the source's table, not from both."""
    has_reader = target.reader.name != ""
    if not has_reader and not target.domains:
        yield (
            "reader",
            "Missing required key 'reader'. If both sites are in the source's table, add: domains: [NAME]",
        )
    if has_reader and target.domains:
        yield (
            "domains",
            "selects rows of the source's table and cannot be combined with reader. "
            "For a different table, use target.reader.domains.",
        )


def weights_belong_to_backbone(backbone: Backbone) -> Iterator[Finding]:
    """`imagenet` names published weights of keras.applications, `preset` those of a preset."""
    name, weights = backbone.name, backbone.weights
    if weights == "imagenet" and registry.has_own_weights(name):
        yield (
            "weights",
            f"{name} has its own weights. Use {setting('weights', 'preset')}, or remove the key.",
        )
    if weights == "preset" and not registry.has_own_weights(name):
        yield (
            "weights",
            f"{name} is not a preset of KerasHub or a .keras file. Use {setting('weights', 'imagenet')}.",
        )


def binary_problem(class_names: Sequence[str]) -> str:
    """Return why a binary head cannot have these classes, or an empty string."""
    if len(class_names) <= 2:
        return ""
    names = f"{', '.join(map(quote, class_names[:5]))}{', ...' if len(class_names) > 5 else ''}"
    return (
        f"a binary head is for two classes, but there are {len(class_names):,}: {names}. "
        f"Use {in_syntax('binary: false', 'binary=False')}."
    )


def methods_and_validators_differ(adaptation: Adaptation) -> Iterator[Finding]:
    """Each method and each validator is listed once."""
    for key in ("methods", "select_by"):
        yield from _repeated(key, [item and item.name for item in getattr(adaptation, key)])


def formats_differ(export: Export) -> Iterator[Finding]:
    """Each format is listed once."""
    yield from _repeated("formats", export.formats)


def quantized_format_is_exported(export: Export) -> Iterator[Finding]:
    """A format that can be quantized is exported."""
    if export.quantize is None:
        return
    able = [name for name in registry.names("format") if export.quantize in registry.quantize_choices(name)]
    if not set(able) & set(export.formats):
        yield (
            "quantize",
            f"{export.quantize} applies to the format {join_words(able)}, which is not in formats.",
        )


def resizing_format_is_exported(export: Export) -> Iterator[Finding]:
    """A format that can contain the resize is exported, without 8-bit computation."""
    if not export.with_resize:
        return
    able = [name for name in registry.names("format") if registry.can_resize(name)]
    if not set(able) & set(export.formats):
        yield "with_resize", f"true requires the format {join_words(able)} in formats. Add one, or use false."
    if export.quantize == "int8" and "litert" in export.formats:
        yield (
            "with_resize",
            "true is not allowed with quantize: int8, which would resize in 8 bits. Use float16, or false.",
        )


def subgroups_differ(evaluation: Evaluation) -> Iterator[Finding]:
    """Each column is listed once."""
    yield from _repeated("subgroups", evaluation.subgroups)


def _repeated(key: str, names: Sequence[str | None]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield f"{key}[{index}]", f"'{name}' is already in the list."


def phase_names_differ(recipe: Recipe) -> Iterator[Finding]:
    """Each phase has its own name."""
    first: dict[str, int] = {}
    for index, phase in enumerate(recipe.phases):
        name = getattr(phase, "name", None)
        if name in first:
            yield (f"phases[{index}].name", f"'{name}' is already the name of phases[{first[name]}].")
        elif name is not None:
            first[name] = index


def _random_weights_are_trained(recipe: Recipe) -> Iterator[Finding]:
    if recipe.backbone.weights == "none":
        pretrained = "preset" if registry.has_own_weights(recipe.backbone.name) else "imagenet"
        yield from random_weights_are_trained(recipe.phases, pretrained)


def random_weights_are_trained(phases: Sequence[Phase], pretrained: str = "imagenet") -> Iterator[Finding]:
    """Random weights are not frozen before a phase has trained all of them.

    A frozen random network gives random features to the head, and random weights behind frozen BatchNorm
    statistics (mean 0, variance 1) hardly train.
    """
    for index, phase in enumerate(phases):
        if phase is None:
            return
        if phase.trainable != "all":
            yield (
                f"phases[{index}].trainable",
                in_syntax(
                    f"must be 'all' with {setting('backbone.weights', None)}, because otherwise random features would be frozen. "
                    f"Use {setting('trainable', 'all')}, or {setting('weights', pretrained)}.",
                    "must be 'all', because the backbone has initial weights, and random features would be frozen. Use "
                    "trainable='all', or a backbone with trained weights.",
                ),
            )
        elif phase.batch_norm == "frozen":
            yield (
                f"phases[{index}].batch_norm",
                f"must not be 'frozen' with random weights. Use {setting('batch_norm', 'trainable')}.",
            )
        else:
            return


def _target_phases_have_labels(recipe: Recipe) -> Iterator[Finding]:
    for index, phase in enumerate(recipe.phases):
        if phase is None or phase.domain != "target":
            continue
        if recipe.target is None:
            yield (
                f"phases[{index}].domain",
                "'target' is not allowed, because the recipe has no target. Add target, or use domain: source.",
            )
        elif recipe.target.labels == "none" and recipe.adaptation is None:
            yield (
                f"phases[{index}].domain",
                "'target' is not allowed, because target.labels is none. Use labels: few or labels: all, or add methods "
                "that adapt without labels, such as adaptation: {methods: [adabn, coral]}.",
            )


def _adaptation_has_its_phases(recipe: Recipe) -> Iterator[Finding]:
    if recipe.adaptation is None or None in recipe.phases:
        return
    domains = [phase.domain for phase in recipe.phases]
    if recipe.target is None:
        yield "adaptation", "requires a target, but the recipe has none. Add target."
    elif "target" not in domains:
        yield (
            "phases",
            "contains no phase for the adaptation methods. Add a phase with domain: target after the source phases.",
        )
    elif "source" in domains[domains.index("target") :]:
        index = len(domains) - 1 - domains[::-1].index("source")
        yield (
            f"phases[{index}].domain",
            "'source' is not allowed after a target phase, because adaptation methods start where the source phases end.",
        )


def _mixing_needs_two_images(recipe: Recipe) -> Iterator[Finding]:
    if recipe.augment.mixing and recipe.data.batch_size == 1:
        yield "augment.mixing", "needs batches of at least two images, got data.batch_size 1."


def _calibration_needs_files(recipe: Recipe) -> Iterator[Finding]:
    """Quantization to 8 bits is calibrated on training images, which are read again as files."""
    sections = [section for section in (recipe.data, recipe.target) if section is not None]
    readers = [section.reader for section in sections if section.reader is not None]
    if recipe.export.quantize == "int8" and readers and all(reader.name == "tfds" for reader in readers):
        yield (
            "export.quantize",
            "int8 is calibrated on image files, which the reader tfds does not have. "
            "Use float16, or read a folder.",
        )


RECIPE_RULES = (
    phase_names_differ,
    _random_weights_are_trained,
    _target_phases_have_labels,
    _adaptation_has_its_phases,
    _mixing_needs_two_images,
    _calibration_needs_files,
)


def value_at(recipe: Any, path: str) -> Any:
    """Return a value of a partly valid recipe by its path, None where it is missing."""
    for key in path.split("."):
        recipe = getattr(recipe, key, None)
    return recipe


def backbone_findings(recipe: Any, tables: ModuleType) -> Iterator[Finding]:
    """Yield what the tables of the backbones refuse.

    Args:
        recipe: The recipe, which may be only partly valid.
        tables: The look-ups in the tables of the backbones.
    """
    name = recipe.backbone.name
    size = value_at(recipe, "data.image_size_px")
    if registry.has_own_weights(name):
        if recipe.source is not None:
            return
        yield from tables.preset_findings(recipe.backbone, size, value_at(recipe, "head.pooling"))
    else:
        yield from _table_findings(recipe, size, tables)
    known = tables.possible_blocks(name)
    listed = (
        ", ".join(known) if len(known) <= MAX_LISTED else f"kerastl.models.get_blocks({name!r}) lists them"
    )
    for path, block in _named_blocks(recipe):
        if known and block not in known:
            yield (
                path,
                f"{tables.public_name(name)} has no block {quote(block)}. {suggest(block, known)}Blocks: {listed}.",
            )


def _table_findings(recipe: Any, size: int | Size | None, tables: ModuleType) -> Iterator[Finding]:
    name = recipe.backbone.name
    try:
        tables.resolve_image_size(name, size)
    except RequestError as error:
        yield "data.image_size_px", str(error)
        size = None
    if problem := tables.pooling_problem(value_at(recipe, "head.pooling") or "auto", 4, None):
        yield "head.pooling", problem
    yield from _weights_are_published(recipe.backbone, size, tables)


def _named_blocks(recipe: Any) -> Iterator[tuple[str, str]]:
    """Yield each block that a phase names, with its path."""
    for index, phase in enumerate(value_at(recipe, "phases") or ()):
        choice = getattr(phase, "trainable", None)
        if isinstance(choice, FromBlock) and hasattr(choice, "from_block"):
            yield f"phases[{index}].trainable.from_block", choice.from_block
        for rate_index, rate in enumerate(getattr(phase, "rates", ())):
            if hasattr(rate, "block"):
                yield f"phases[{index}].rates[{rate_index}].block", rate.block


def _weights_are_published(backbone: Any, size: int | Size | None, tables: ModuleType) -> Iterator[Finding]:
    options: Any = getattr(backbone, "options", None)
    names = type(options).model_fields if options is not None else {}
    if getattr(backbone, "weights", None) != "imagenet":
        return
    if not all(hasattr(options, name) for name in names):
        return
    given = {name: getattr(options, name) for name in names if name in options.model_fields_set}
    try:
        tables.published_weights(backbone.name, image_size_px=size, **given)
    except RequestError as error:
        yield f"backbone.{next(iter(given), 'weights')}", str(error)


def reader_findings(recipe: Any) -> Iterator[Finding]:
    """Yield keys that need an option that their reader does not have.

    Args:
        recipe: The recipe, which may be only partly valid.
    """
    reader = value_at(recipe, "data.reader")
    target = value_at(recipe, "target")
    other = value_at(target, "reader")
    is_shared = target is not None and getattr(other, "name", "") == ""
    uses = [
        (reader, "data.split.group_by", "columns"),
        (reader, "evaluation.subgroups", "columns"),
        (reader if is_shared else other, "target.split.group_by", "columns"),
        (reader if is_shared else other, "evaluation.subgroups", "columns"),
        (reader if is_shared else None, "target.domains", "domains"),
    ]
    reported = set[str]()
    for used, path, option in uses:
        name = getattr(used, "name", None)
        if not name or path in reported or not value_at(recipe, path) or _has(name, option):
            continue
        reported.add(path)
        able = [reader_name for reader_name in registry.names("reader") if _has(reader_name, option)]
        yield (
            path,
            f"the reader {name} has no {option}. Readers with {option}: {', '.join(able)}. "
            "Use one of these, or remove this key.",
        )


def _has(reader: str, option: str) -> bool:
    options: Any = registry.options_of("reader", reader)
    return options is not None and option in hints(options)


def with_shared_table(recipe: Recipe) -> Recipe:
    """Return a recipe in which source and target name their own domains of one table.

    The table is read only if the source does not name its own domains.

    Args:
        recipe: A valid recipe; where its target has domains, the source's reader has an option `domains`.

    Raises:
        ValueError: No domain is left for the source, or its domains are unknown.
    """
    target, reader = recipe.target, recipe.data.reader
    if target is None or reader is None or not target.domains:
        return recipe
    known = _domains(reader, target.domains)
    rest = tuple(name for name in known if name not in target.domains)
    if not rest:
        raise ValueError("selects all domains of the table, so none is left for the source.")
    # The same table has the same column of patients, who are not divided at the target either.
    group_by = target.split.group_by or recipe.data.split.group_by
    target = target.model_copy(
        update={
            "reader": _with_domains(reader, target.domains),
            "domains": (),
            "split": target.split.model_copy(update={"group_by": group_by}),
        }
    )
    data = recipe.data.model_copy(update={"reader": _with_domains(reader, rest)})
    return recipe.model_copy(update={"data": data, "target": target})


def _with_domains(reader: Reader, domains: tuple[str, ...]) -> Reader:
    options = reader.options.model_copy(update={"domains": domains})
    return reader.model_copy(update={"options": options})


def _domains(reader: Reader, wanted: Sequence[str]) -> Sequence[str]:
    if reader.options.domains:
        return tuple(reader.options.domains)
    try:
        known = registry.read_domains(reader.name, reader.options)
    except RequestError as error:
        raise ValueError(
            f"the other domains of the table cannot be read: {_in_one_line(error)}. "
            "Name the domains of the source: data.reader.domains=[NAME]"
        ) from None
    for name in wanted:
        if name not in known:
            raise ValueError(f"no row has the domain {quote(name)}. {did_you_mean(name, known)}")
    return known


def _in_one_line(error: RequestError) -> str:
    """Return the message, fit for a terminal; of several problems the first."""
    text = str(error.problems[0] if isinstance(error, Problems) else error)
    return "".join(letter for letter in text if letter.isprintable()).rstrip(".")


def _named_columns(recipe: Any, section: str, options: Any) -> list[tuple[str, str]]:
    """Return the path and the name of each column that a section of a recipe names or needs."""
    columns = options.columns
    named = [(f"{section}.reader.columns.{key}", name) for key, name in columns if isinstance(name, str)]
    # A Parquet file can contain the images. Its reader reports a missing column.
    if getattr(columns, "path", "") is None and options.path.suffix.lower() != ".parquet":
        named.insert(0, (f"{section}.reader.columns.path", "path"))
    if group_by := value_at(recipe, f"{section}.split.group_by"):
        named.append((f"{section}.split.group_by", group_by))
    is_labeled = section == "data" or value_at(recipe, "target.labels") in ("few", "all")
    if is_labeled and getattr(columns, "label", "") is None:
        named.append((f"{section}.reader.columns.label", "label"))
    return named


def missing_columns(recipe: Any) -> Iterator[Finding]:
    """Yield the columns that a recipe names, or needs for its labels, and that a table lacks. Only headers are read.

    A table that cannot be read is reported by `missing_paths` or by the run.

    Args:
        recipe: The recipe, which may be only partly valid.
    """
    reported: list[Sequence[str]] = []
    for section in ("data", "target"):
        options = value_at(recipe, f"{section}.reader.options")
        if getattr(options, "columns", None) is None:
            continue
        try:
            known = registry.read_columns(value_at(recipe, f"{section}.reader.name"), options)
        except (RequestError, OSError, AttributeError):
            continue
        named = _named_columns(recipe, section, options)
        if known not in reported:  # not the same table, or one with the same columns
            named += [
                ("evaluation.subgroups", name) for name in value_at(recipe, "evaluation.subgroups") or ()
            ]
        reported.append(known)
        if not any(known):
            yield (
                f"{section}.reader.path",
                "the table is empty. Expected a header, such as path,label, and one row per image.",
            )
            continue
        for path, name in named:
            if name not in known:
                fix = f" Name it with --set {path}=COLUMN." if ".columns." in path else ""
                yield path, missing_column(name, known, f"the table of {section}.reader") + fix


def missing_paths(recipe: Any) -> Iterator[Finding]:
    """Yield the paths of readers and weights that do not exist, and the tables that cannot be read.

    Args:
        recipe: The recipe, which may be only partly valid.
    """
    for section in ("data", "target"):
        name, options = (value_at(recipe, f"{section}.reader.{key}") for key in ("name", "options"))
        problems = []
        with suppress(AttributeError):  # an option is invalid or missing
            problems = [text.partition(": ") for text in options.problems()]
        for key, _, message in problems:
            yield f"{section}.reader.{key}", f"{message}."
        is_table = hasattr(options, "path") and hasattr(registry.module("reader", name), "read_columns")
        if is_table and not problems:
            try:
                registry.read_columns(name, options)
            except RequestError as error:
                yield f"{section}.reader.path", str(error)
    weights = value_at(recipe, "backbone.weights")
    if isinstance(weights, Path) and recipe.source is None and not os.path.exists(weights):  # noqa: PTH110
        yield "backbone.weights", f"{weights} does not exist."
