"""Recipes that start from a trained model instead of source images: what the model defines, and what is refused next to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from kerastl import registry
from kerastl.errors import RequestError, join_words, nearest
from kerastl.options import Loc, Scalar, hints, means_null
from kerastl.recipe.loader import Document
from kerastl.recipe.rules import Finding, value_at
from kerastl.recipe.schema import Backbone, Data, Head, Source, Split, Window

DEFINED_BY_MODEL = ("backbone", "head", "data.image_size_px", "data.window")


class Models(Protocol):
    """Look-ups in trained models and in methods; the module `kerastl.adaptation.method` is one."""

    def source_model_settings(self, path: Path) -> Mapping[str, Any]:
        """Return the sections of a recipe that a model defines: `source`, `backbone`, `head`, `data`.

        RequestError: no such model, or a damaged one.
        """

    def works_without_source(self, kind: str, name: str) -> bool:
        """Return whether a method (`adaptation`) or validator (`validator`) works without source images."""


@dataclass(frozen=True)
class FromModel:
    """What `source.model` defines.

    Args:
        problem: why the model could not be read; empty where it could, or where the recipe names none.
        is_known: whether the backbone in the recipe is a real one.
        values: what the model defines, by path in the recipe.
    """

    problem: str = ""
    is_known: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)


def fill_from_model(document: Document, models: Models | None) -> FromModel:
    """Add to a recipe what its `source.model` defines, where the recipe does not define it.

    Args:
        document: changed in place, if it has a `source`.
        models: the look-ups; None reads no model. If the model cannot be read, a placeholder stands for its backbone, so
            that the rest of the recipe can be checked.
    """
    data = document.data if isinstance(document.data, dict) else {}
    source = data.get("source")
    if source is None or (isinstance(source, Scalar) and means_null(source)):
        return FromModel()
    defined, problem = _definition(source, models)
    if defined is not None:
        source["model"] = defined["source"]["model"]
    placeholder = {"name": registry.names("backbone")[0], "weights": "./model"}
    plain: Mapping[str, Any] = defined or {"backbone": placeholder, "head": {}, "data": {}}
    values: dict[str, Any] = {}
    for path in DEFINED_BY_MODEL:
        *above, key = path.split(".")
        inner: Any = plain
        parent: Any = data
        loc: Loc = ()
        for name in above:
            inner, parent, loc = inner[name], parent.setdefault(name, {}), (*loc, name)
            document.lines.setdefault(loc, document.lines[("source",)])
        if key not in inner or not isinstance(parent, dict):
            continue
        values[path] = inner[key]
        given = parent.get(key)
        if given is None or (isinstance(given, Scalar) and means_null(given)):
            parent[key] = inner[key]
            document.lines[(*loc, key)] = document.lines[("source",)]
    return FromModel(problem, defined is not None, values if defined else {})


def _definition(source: Any, models: Models | None) -> tuple[Mapping[str, Any] | None, str]:
    """Return what a model defines, None where it cannot be read, and then why, unless that is reported elsewhere."""
    if models is None or not isinstance(source, dict):
        return None, ""
    try:
        path = Source.model_validate({"model": source.get("model")}).model
        return models.source_model_settings(path), ""
    except ValidationError:
        return None, ""  # not a path: reported at its key
    except RequestError as error:
        return None, str(error)


def source_findings(
    recipe: Any, document: Document, from_model: FromModel, models: Models | None
) -> Iterator[Finding]:
    """Yield what is wrong with where the initial model of a recipe comes from.

    Args:
        recipe: may be partly valid.
        document: as it was written.
        from_model: what its model defines.
        models: the look-ups.
    """
    if value_at(recipe, "source") is None:
        yield from _needs_a_reader(document)
        return
    if from_model.problem:
        yield "source.model", from_model.problem
    yield from _contradictions(recipe, from_model)
    yield from _of_images(recipe)
    yield from _of_phases(recipe)
    yield from _of_methods(recipe, models)


def _needs_a_reader(document: Document) -> Iterator[Finding]:
    root = document.data if isinstance(document.data, dict) else {}
    data = root.get("data")
    source = root.get("source")
    has_source = source is not None and not (isinstance(source, Scalar) and means_null(source))
    if has_source or not isinstance(data, dict):
        return
    reader = data.get("reader")
    is_null = reader is None or (isinstance(reader, Scalar) and means_null(reader))
    misspelled = any(key != "reader" and nearest(key, hints(Data)) == "reader" for key in data)
    if is_null and not misspelled:
        names = join_words(registry.names("reader"))
        yield "data.reader", f"Missing required key 'reader'. Add: reader: {{name: {names}}}"


def _contradictions(recipe: Any, from_model: FromModel) -> Iterator[Finding]:
    models = {"backbone": Backbone, "head": Head}
    for path, plain in from_model.values.items():
        given = value_at(recipe, path)
        try:
            defined: Any = plain
            if path in models:
                defined = models[path].model_validate(plain)
            elif isinstance(plain, Mapping):
                defined = Window.model_validate(plain)
        except ValidationError:
            continue  # reported at the key that it was filled into
        if given is not None and not _same(given, defined):
            yield path, "is defined by source.model, which has another value. Remove it."


def _same(given: Any, defined: Any) -> bool:
    if isinstance(given, Window) and isinstance(defined, Window):
        pairs = (given.center, defined.center), (given.width, defined.width)
        return all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-9) for pair in pairs)
    return bool(given == defined)


def _of_images(recipe: Any) -> Iterator[Finding]:
    if value_at(recipe, "data.reader") is not None:
        yield (
            "data.reader",
            "reads source images and cannot be combined with source.model. Remove one of the two.",
        )
    split = value_at(recipe, "data.split")
    if split is not None and split != Split():
        yield (
            "data.split",
            "divides the images of data.reader, and there are none. Remove it: target.split divides the target.",
        )
    if value_at(recipe, "target.domains"):
        yield (
            "target.domains",
            "selects rows of the table of data.reader, and there is none. Write target.reader.domains.",
        )
    if value_at(recipe, "augment.mixing"):
        yield "augment.mixing", "mixes labeled images, and none is used for training. Remove it."


def _of_phases(recipe: Any) -> Iterator[Finding]:
    for index, phase in enumerate(value_at(recipe, "phases") or ()):
        if getattr(phase, "domain", None) == "source":
            yield (
                f"phases[{index}].domain",
                "'source' is not allowed with source.model, because no source images are loaded. Write domain: target, "
                "or remove the phase.",
            )
        if getattr(phase, "class_weights", "none") != "none":
            yield (
                f"phases[{index}].class_weights",
                "weights classes by their labels, and none is read. Remove it.",
            )


def _of_methods(recipe: Any, models: Models | None) -> Iterator[Finding]:
    block, target = value_at(recipe, "adaptation"), value_at(recipe, "target")
    if not hasattr(recipe, "adaptation") or not hasattr(recipe, "target"):
        return
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
            f"must be always with source.model, which is adapted without labels, got no_labels with target.labels: {labels}.",
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
