"""From the text of a recipe to a validated Recipe, or to every problem at once. No TensorFlow, no images, no network."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from kerastl import errors, registry
from kerastl.errors import RequestError, join_words, nearest, quote, raise_problems, shell_command
from kerastl.options import MISSING, Loc, hints, iter_findings, join_path, means_null, section_of, split_path
from kerastl.recipe import loader, rules
from kerastl.recipe.loader import Document
from kerastl.recipe.phase import Phase
from kerastl.recipe.rules import Finding, value_at
from kerastl.recipe.schema import (
    Augment,
    Backbone,
    Data,
    Few,
    Head,
    Operation,
    Recipe,
    Source,
    Split,
    Window,
)  # fmt: skip

PolicyOf = Callable[[str], Sequence[tuple[str, Any]]]
PLACEHOLDER = re.compile(r"Add: \w+: (DIR|[A-Z]+\.\w+)$")
SECTIONS = {"data.split": Split, "data": Data, "phases[0]": Phase, "backbone": Backbone, "head": Head}
"""Sections in which an unknown top-level key is looked up."""
DEFINED_BY_MODEL = ("backbone", "head", "data.image_size_px", "data.resize", "data.window")
# Keys that use source images, and why they are refused with `source.model`.
FOR_SOURCE_IMAGES = {
    "data.reader": "reads source images and cannot be combined with source.model. Remove one of the two.",
    "data.split": (
        "splits the images of data.reader, but there are none. Remove it. target.split splits the target images."
    ),
    "target.domains": "selects rows of the table of data.reader, but there is none. Use target.reader.domains.",
    "augment.mixing": "mixes labeled images, but none are used for training. Remove it.",
}


@errors.recipe_syntax()
def check(
    text: str,
    *,
    name: str,
    tables: ModuleType | None = None,
    policy_of: PolicyOf | None = None,
    models: ModuleType | None = None,
    readers: Mapping[str, tuple[str, Path]] | None = None,
    sets: Sequence[str] = (),
    data_findings: Callable[[Any, str], Iterable[Finding]] | None = None,
) -> Recipe:
    """Check a recipe and return it with every default filled in.

    Args:
        text: YAML.
        name: The recipe as the user calls it: a shipped name or a file.
        tables: Tables of the backbones, the package `kerastl.models`. None skips the checks of the backbone.
        policy_of: Returns `(name, options)` of the operations of a policy. None knows only the policy `none`.
        models: Trained models, the module `kerastl.adaptation.method`, read only for a recipe with `source`.
        readers: Name and path of the reader of `data` and `target`, from `--data` and `--target`.
        sets: Changes before the check, such as `data.batch_size=8`.
        data_findings: Returns the problems of the data of a section of a recipe, which may be only partly valid but
            has a valid reader. It is called if the recipe has other problems. None also skips the checks of paths and tables.

    Returns:
        The recipe with absolute paths. Values that depend on others (`batch_norm`, `few`, the domains of a
        shared table, the operations of a named policy) are filled in, so that the recipe repeats the run.

    Raises:
        Problems: Every problem, in the order of the file.
    """
    readers = readers or {}
    footer = f"Nothing was run. Check again: {recipe_command('check', name, readers, sets)}"
    document = loader.read(text, subject=name, footer=footer)
    for section, (reader, images) in readers.items():
        loader.apply_reader(document, section, reader, images, sets)
    loader.apply_sets(document, sets)
    defined, problem = _fill_from_model(document, models)
    recipe, errors = Recipe.read(document.data)
    for loc, message in errors:
        _add(document, loc, message)
    if recipe is not None:
        findings = [*rules.reader_findings(recipe), *rules.missing_columns(recipe)]
        if data_findings is not None:
            findings += rules.missing_paths(recipe)
        if problem:
            findings.append(("source.model", problem))
        if tables is not None and defined is not None:
            findings += iter_findings(rules.backbone_findings(recipe, tables))
            findings += iter_findings(_weights_findings(recipe, tables, models))
        findings += iter_findings(_source_findings(recipe, defined or {}, models))
        for path, message in findings:
            _add(document, split_path(path) or (), message)
        if data_findings is not None:
            paths = [join_path("", loc) for loc, _ in errors] + [path for path, _ in findings]
            _add_data_problems(document, recipe, paths, data_findings)
    if not document.problems:
        recipe = _with_tables(recipe, document)
    raise_problems(name, document.sorted_problems(), footer)
    recipe = recipe.model_copy(update={"augment": _without_policy_name(recipe.augment, policy_of)})
    return _with_defaults(_with_validators(recipe, models))


def recipe_command(verb: str, name: str, readers: Mapping[str, tuple[str, Path]], sets: Sequence[str]) -> str:
    """Return the command that checks or runs a recipe with these changes."""
    # A file name that starts with - would be read as an option.
    words: list[object] = ["kerastl", verb, f"./{name}" if name.startswith("-") else name]
    words += [word for section, (_, path) in readers.items() for word in (f"--{section}", path)]
    return shell_command(*words, *(word for change in sets for word in ("--set", change)))


def nearest_key(word: str) -> str:
    """Return the path of the key that was probably meant by a word, such as `phases[0].epochs`, or an empty string."""
    near = ((section, nearest(word, hints(model))) for section, model in {"": Recipe, **SECTIONS}.items())
    paths = (f"{section}.{key}".lstrip(".") for section, key in near if key)
    return next(paths, "")


def _add(document: Document, loc: Loc, message: str) -> None:
    placeholder = PLACEHOLDER.search(message)
    if placeholder and message.startswith(MISSING):
        is_reader = loc[1:] == ("reader", "path")
        option = f"--{loc[0]} " if is_reader else f"--set {join_path('', loc)}="
        message = f"{message}, or use {option}{placeholder[1]}"
    if len(loc) == 1 and message.startswith("unknown key. Known:") and (key := nearest_key(str(loc[0]))):
        message = f"unknown key. Did you mean {quote(key)}?"
    is_without_section = document.lines.get(loc[:1]) == loader.READER_OPTIONS["target"]
    if loc == ("target", "labels") and message.startswith(MISSING) and is_without_section:
        message += " Set it with --set target.labels=none, or use a recipe with a target, such as hospital-adaptation."
    document.add(section_of(loc, message), message)


def _add_data_problems(
    document: Document,
    recipe: Any,
    reported: Sequence[str],
    data_findings: Callable[[Any, str], Iterable[Finding]],
) -> None:
    """Check the data of an invalid recipe, except for readers that already have a problem, and add what is wrong."""
    for section in ("data", "target") if document.problems else ():
        path = f"{section}.reader"
        is_reported = any(f"{other}.".startswith(f"{path}.") for other in reported)
        if value_at(recipe, path) is not None and not is_reported:
            for where, message in data_findings(recipe, section):
                document.add(split_path(where) or (), message)


def _with_tables(recipe: Recipe, document: Document) -> Recipe:
    """Return a valid recipe with the domains that its table defines, and add a problem if they are unknown."""
    try:
        return rules.with_shared_table(recipe)
    except ValueError as error:
        document.add(("target", "domains"), str(error))
        return recipe


def _with_validators(recipe: Recipe, models: ModuleType | None) -> Recipe:
    """Return a recipe in which the default validators are those that work with its images."""
    block = recipe.adaptation
    if block is None or recipe.source is None or models is None or "select_by" in block.model_fields_set:
        return recipe
    able = tuple(item for item in block.select_by if models.works_without_source("validator", item.name))
    block = block.model_copy(update={"select_by": able})
    return recipe.model_copy(update={"adaptation": block})


def _without_policy_name(augment: Augment, policy_of: PolicyOf | None) -> Augment:
    """Return the same augmentation with the operations of its named policy before its own."""
    if augment.policy == "none":
        return augment
    if policy_of is None:
        raise TypeError(f"policy_of is needed for the policy {augment.policy}")
    named = [Operation(name=name, options=options) for name, options in policy_of(augment.policy)]
    return augment.model_copy(update={"policy": "none", "operations": (*named, *augment.operations)})


def _with_defaults(recipe: Recipe) -> Recipe:
    """Fill in values that depend on others.

    Random weights need a trainable BatchNorm; pretrained ones lose accuracy if it is trained unasked.
    """
    batch_norm = "trainable" if recipe.backbone.weights == "none" else "frozen"
    phases = tuple(
        phase if phase.batch_norm else phase.model_copy(update={"batch_norm": batch_norm})
        for phase in recipe.phases
    )
    target = recipe.target
    if target is not None and target.labels == "few" and target.few is None:
        target = target.model_copy(update={"few": Few()})
    return recipe.model_copy(update={"phases": phases, "target": target})


def _fill_from_model(document: Document, models: ModuleType | None) -> tuple[Mapping[str, Any] | None, str]:
    """Add to a recipe what its `source.model` defines, where the recipe does not define it.

    Args:
        document: The document, which is changed in place if it has a `source`.
        models: The look-ups; None reads no model.

    Returns:
        The settings that the model defines, and why the model could not be read, unless that is reported
        elsewhere. If it could not be read, the settings are None, and the recipe gets a placeholder backbone, so
        that the rest of it can be checked.
    """
    source: Any = document.data.get("source") if isinstance(document.data, dict) else None
    if means_null(source):
        return {}, ""
    defined, problem = _definition(source, models)
    if defined is not None:
        source["model"] = defined["source"]["model"]
    placeholder = {"name": registry.names("backbone")[0], "weights": "./model"}
    plain = defined or {"backbone": placeholder, "head": {}, "data": {}}
    line = document.lines[("source",)]
    data = document.data.setdefault("data", {})
    document.lines.setdefault(("data",), line)
    for path in DEFINED_BY_MODEL:
        *above, key = path.split(".")
        inner, parent = (plain["data"], data) if above else (plain, document.data)
        if key in inner and isinstance(parent, dict) and means_null(parent.get(key)):
            parent[key] = inner[key]
            document.lines[(*above, key)] = line
    return defined, problem


def _definition(source: Any, models: ModuleType | None) -> tuple[Mapping[str, Any] | None, str]:
    """Return what a model defines, None where it cannot be read, and then why, unless that is reported elsewhere."""
    if models is None or not isinstance(source, dict):
        return None, ""
    section, errors = Source.read({"model": source.get("model")})
    if errors:
        return None, ""  # not a path: reported at its key
    try:
        return models.source_model_settings(section.model), ""
    except RequestError as error:
        return None, str(error)


def _weights_findings(recipe: Any, tables: ModuleType, models: ModuleType | None) -> Iterator[Finding]:
    """Yield why initial weights from a file or a run cannot be used, as far as this is known without the model."""
    weights, name = recipe.backbone.weights, recipe.backbone.name
    if not isinstance(weights, Path) or recipe.source is not None or not os.path.exists(weights):  # noqa: PTH110
        return
    saved: Any = {}
    with suppress(RequestError):
        saved = models.source_model_settings(weights)["backbone"] if models and weights.is_dir() else {}
    other, public = saved.get("name", name), tables.public_name(name)
    is_own = registry.has_own_weights(name)
    options = {} if is_own else recipe.backbone.family_options
    values = [f"{key}: {saved[key]}" for key, value in options.items() if saved.get(key, value) != value]
    if other != name and not (is_own and registry.has_own_weights(other)):
        yield "backbone.weights", f"{weights} is a run of {other}, not of {public}. Use weights of {public}."
    elif values:
        options_of_run = join_words(values, "and")
        yield "backbone.weights", f"{weights} is a run of {name} with {options_of_run}. Use the same options."
    elif problem := tables.weights_file_problem(weights, name):
        yield "backbone.weights", problem


def _source_findings(recipe: Any, defined: Mapping[str, Any], models: ModuleType | None) -> Iterator[Finding]:
    """Yield the problems with the source of the initial model.

    Args:
        recipe: The recipe, which may be only partly valid.
        defined: The settings that its model defines.
        models: The look-ups.
    """
    if recipe.source is None:
        if recipe.data.reader is None:
            names = join_words(registry.names("reader"))
            yield "data.reader", f"{MISSING} 'reader'. Add: reader: {{name: NAME}}, where NAME is {names}."
        return
    yield from _contradictions(recipe, defined)
    yield from _of_images(recipe)
    yield from _of_phases(recipe)
    yield from _of_methods(recipe, models)


def _contradictions(recipe: Any, settings: Mapping[str, Any]) -> Iterator[Finding]:
    model, _ = Recipe.read(settings)
    for path in DEFINED_BY_MODEL if settings else ():
        given, defined = value_at(recipe, path), value_at(model, path)
        # A model that was trained on 8-bit images only has no window.
        is_open = defined is None or (path == "data.window" and defined == "full")
        if given is not None and not is_open and not _same(given, defined):
            yield path, "is defined by source.model, which has a different value. Remove it."


def _same(given: Any, defined: Any) -> bool:
    if isinstance(given, Window) and isinstance(defined, Window):
        pairs = (given.center, defined.center), (given.width, defined.width)
        return all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-9) for pair in pairs)
    return bool(given == defined)


def _of_images(recipe: Any) -> Iterator[Finding]:
    for path, message in FOR_SOURCE_IMAGES.items():
        if value_at(recipe, path) not in (None, (), Split()):
            yield path, message


def _of_phases(recipe: Any) -> Iterator[Finding]:
    for index, phase in enumerate(value_at(recipe, "phases") or ()):
        if getattr(phase, "domain", None) == "source":
            yield (
                f"phases[{index}].domain",
                "'source' is not allowed with source.model, because no source images are loaded. Use domain: target, "
                "or remove the phase.",
            )
        if getattr(phase, "class_weights", "none") != "none":
            yield (
                f"phases[{index}].class_weights",
                "weights classes by their labels, but no labels are used. Remove it.",
            )


def _of_methods(recipe: Any, models: ModuleType | None) -> Iterator[Finding]:
    block, target = recipe.adaptation, recipe.target
    if block is None:
        yield (
            "adaptation",
            "Missing required key 'adaptation'. Add: adaptation: {methods: [tent, shot, adabn]}",
        )
        return
    labels = getattr(target, "labels", "none")
    if getattr(block, "when", "always") == "no_labels" and labels != "none":
        yield (
            "adaptation.when",
            f"must be 'always' with source.model, which is adapted without labels, got no_labels with target.labels: {labels}.",
        )
    if target is None:
        yield ("target", "Missing required key 'target'. Add the images that source.model is adapted to.")
    if models is None:
        return
    for key, kind in (("methods", "adaptation"), ("select_by", "validator")):
        if key not in block.model_fields_set:
            continue  # of the default validators, those that work are used
        able = [name for name in registry.names(kind) if models.works_without_source(kind, name)]
        for index, item in enumerate(getattr(block, key, ())):
            if getattr(item, "name", able[0]) not in able:
                yield (
                    f"adaptation.{key}[{index}]",
                    f"{item.name} needs source images, which are not available with source.model. Use {join_words(able)}.",
                )
