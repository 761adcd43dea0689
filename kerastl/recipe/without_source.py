"""A recipe that starts from the other hospital's model and has none of its pictures: what comes with the model, what may not stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kerastl.errors import RequestError
from kerastl.recipe.plugins import Backbone
from kerastl.recipe.schema import DEFAULT_JUDGES, Data, Head, Split, Window
from kerastl.recipe.tree import Findings, Listing, Mapping, Node, Place, Scalar
from kerastl.recipe.values import WrongValueError, means_null, read_path
from kerastl.recipe.walk import Broken, Walker
from kerastl.recipe.words import hints, listed, nearest

Finding = tuple[str, str]
COMES_WITH_IT: Map[str, Any] = {
    "backbone": Backbone,
    "head": Head,
    "data.image_size_px": hints(Data)["image_size_px"],
    "data.window": hints(Data)["window"],
}
"""What a trained model decides, each with what may stand there."""


class Models(Protocol):
    """Look-ups in trained models and in methods; the module `kerastl.adaptation.source_free` is one."""

    def plain_of(self, path: Path) -> Map[str, Any]:
        """Return what a model says of itself as a recipe would: `source`, `backbone`, `head`, `data`.

        RequestError: no such model, or a damaged one.
        """

    def works_without_source(self, kind: str, name: str) -> bool:
        """Tell whether a method (`adaptation`) or validator (`validator`) can do without pictures of the source."""


@dataclass(frozen=True)
class Handed:
    """What came with `source.model`.

    Args:
        problem: why nothing could be read of it; empty where it could, or where the recipe names none.
        known: whether the backbone that stands in the recipe now is a real one.
        nodes: what the model says, by its path in the recipe.
    """

    problem: str = ""
    known: bool = True
    nodes: Map[str, Node] = field(default_factory=dict)


def put_in(tree: Node, models: Models | None, backbones: Sequence[str]) -> Handed:
    """Put into a recipe's tree what comes with its `source.model`, where the recipe does not say it itself.

    Args:
        tree: as it was read; changed in place. One without `source` is left alone.
        models: the look-ups; None: nothing can be read of a model.
        backbones: names; where the model cannot be read, one of them stands in for its backbone, so that the rest of the
            recipe can be checked.
    """
    source = tree.items.get("source") if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or source is None or means_null(source):
        return Handed()
    model = source.items.get("model") if isinstance(source, Mapping) else None
    told, problem = _told_by(model, models)
    if told is not None and isinstance(source, Mapping) and model is not None:
        source.items["model"] = _node(told["source"]["model"], model.place)
    stand_in = {"name": backbones[0], "weights": "./model"}
    plain: Map[str, Any] = told or {"backbone": stand_in, "head": {}, "data": {}}
    nodes = {}
    for path in COMES_WITH_IT:
        *above, key = path.split(".")
        inner, parent = plain, tree
        for name in above:
            inner, parent = inner[name], _mapping_at(parent, name, source.place)
        if key in inner and isinstance(parent, Mapping):
            nodes[path] = _node(inner[key], source.place)
            if key not in parent.items or means_null(parent.items[key]):
                parent.items[key] = nodes[path]
    return Handed(problem, told is not None, nodes if told else {})


def _told_by(model: Node | None, models: Models | None) -> tuple[Map[str, Any] | None, str]:
    """Return what a model says of itself, None where it says nothing, and then why, where that is not told elsewhere."""
    if model is None or models is None:
        return None, ""
    try:
        return models.plain_of(read_path(Path, model)), ""
    except WrongValueError:
        return None, ""  # no path: told where it stands
    except RequestError as error:
        return None, str(error)


def _mapping_at(parent: Mapping, name: str, place: Place) -> Any:
    return parent.items.setdefault(name, Mapping(place))


def _node(value: Any, place: Place) -> Node:
    if isinstance(value, Map):
        return Mapping(place, {str(key): _node(one, place) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return Listing(place, [_node(one, place) for one in value])
    if value is None or isinstance(value, bool | int | float):
        return Scalar(place, value, "" if value is None else str(value).lower(), plain=True)
    return Scalar(place, str(value), str(value), plain=False)


def source_findings(
    tree: Node, walker: Walker, handed: Handed, models: Models | None
) -> Iterator[Finding]:
    """Yield what is wrong with where a recipe's model comes from.

    Args:
        tree: of the recipe.
        walker: has read it.
        handed: what came with the model.
        models: the look-ups.
    """
    values = walker.values
    if values.get("source") is None:
        yield from _needs_a_reader(tree, values)
        return
    if handed.problem:
        yield "source.model", handed.problem
    yield from _contradictions(walker, handed)
    yield from _of_pictures(values)
    yield from _of_phases(values)
    yield from _of_methods(values, walker, models)


def _needs_a_reader(tree: Node, values: Map[str, Any]) -> Iterator[Finding]:
    data = tree.items.get("data") if isinstance(tree, Mapping) else None
    if not isinstance(data, Mapping) or values.get("data.reader") is not None:
        return
    if not any(key != "reader" and nearest(key, hints(Data)) == "reader" for key in data.items):
        yield "data.reader", "is needed: {name: the name of a reader}."


def _contradictions(walker: Walker, handed: Handed) -> Iterator[Finding]:
    quiet = Walker(Findings(), options_of=walker.options_of, names_of=walker.names_of, rules={})
    for path, node in handed.nodes.items():
        there = quiet.value(COMES_WITH_IT[path], node, path)
        given = walker.values.get(path)
        sound = not isinstance(given, Broken) and not isinstance(there, Broken)
        if sound and not _same(given, there):
            yield path, "comes with source.model, and this is another one. Take it out."


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Window) and isinstance(other, Window):
        pairs = (one.center, other.center), (one.width, other.width)
        return all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-9) for pair in pairs)
    return bool(one == other)


def _of_pictures(values: Map[str, Any]) -> Iterator[Finding]:
    if values.get("data.reader") is not None:
        yield (
            "data.reader",
            "reads pictures of the source, and source.model stands in their place. Take out one of the two.",
        )
    divided = values.get("data.split")
    if divided is not None and not isinstance(divided, Broken) and divided != Split():
        yield (
            "data.split",
            "divides the pictures of data.reader, and there are none. Take it out: target.split divides the target's.",
        )
    if values.get("target.domains"):
        yield (
            "target.domains",
            "picks rows of data.reader's table, and there is none. Write target.reader.domains.",
        )
    if values.get("augment.mixing"):
        yield "augment.mixing", "mixes labelled pictures, and none is learnt from. Take it out."


def _of_phases(values: Map[str, Any]) -> Iterator[Finding]:
    for at, phase in enumerate(_sound(values.get("phases"))):
        if phase is not None and phase.domain == "source":
            yield (
                f"phases[{at}].domain",
                "is source, whose pictures are not at hand: source.model has learnt from them. Write domain: target, or "
                "take the phase out.",
            )
        if phase is not None and phase.class_weights != "none":
            yield (
                f"phases[{at}].class_weights",
                "weighs classes by their labels, and none is read. Take it out.",
            )


def _of_methods(values: Map[str, Any], walker: Walker, models: Models | None) -> Iterator[Finding]:
    block, target = values.get("adaptation"), values.get("target")
    if block is None:
        yield (
            "adaptation",
            "is needed beside source: ways to adapt its model, as adaptation: {methods: [tent, shot, adabn]}.",
        )
        return
    labels = getattr(target, "labels", "none")
    if getattr(block, "when", "always") == "no_labels" and labels != "none":
        yield (
            "adaptation.when",
            f"leaves a target of labels: {labels} to its labels, and source.model is adapted without. Write when: always.",
        )
    if target is None:
        yield "target", "is needed beside source: the pictures that its model is adapted to."
    if models is None:
        return
    for key, kind, asks in (
        ("methods", "adaptation", "learns from"),
        ("select_by", "validator", "asks for"),
    ):
        able = [one for one in walker.names_of(kind) if models.works_without_source(kind, one)]
        if values.get(f"adaptation.{key}") is DEFAULT_JUDGES:
            continue  # nobody named them: those that can are taken
        for at, one in enumerate(_sound(values.get(f"adaptation.{key}"))):
            if one is not None and one.name not in able:
                yield (
                    f"adaptation.{key}[{at}]",
                    f"{one.name} {asks} pictures that are not at hand beside source.model. Take of: {listed(able)}.",
                )


def _sound(value: Any) -> Sequence[Any]:
    """Return the items of a list, None for those that were wrong; nothing where it is no list."""
    found = value.partial if isinstance(value, Broken) else value
    return found if isinstance(found, tuple) else ()
