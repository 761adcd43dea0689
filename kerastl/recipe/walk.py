"""Walk a tree beside the dataclasses that describe it: values out, and every problem noted on the way."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from annotated_types import MinLen

from kerastl.errors import KerastlError
from kerastl.recipe import values
from kerastl.recipe.plugins import NameOf
from kerastl.recipe.tree import Findings, Listing, Mapping, Node, Place, Scalar, join, quoted, shown
from kerastl.recipe.values import WrongValueError, means_null, must_be
from kerastl.recipe.words import allowed, hints, listed, members, nearest, unwrap

OptionsOf = Callable[[str, str], type[Any] | None]
NamesOf = Callable[[str], Sequence[str]]
Rule = Callable[..., Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class Broken:
    """Stands for a value with problems; `partial` is what could be read (None: nothing)."""

    partial: Any = None


def _bare_path(node: Node) -> bool:
    """Tell whether a word could be a file's name: it has a separator or a suffix."""
    return isinstance(node, Scalar) and any(mark in node.text for mark in "/\\.~")


class Walker:
    """Reads nodes as types.

    Args:
        found: where problems go.
        options_of: `(kind, name)` to the dataclass of a plug-in's options, None when it has none.
        names_of: `kind` to the names of its plug-ins.
        rules: for a dataclass, functions of some of its fields that yield `(sub-path, message)`.
    """

    def __init__(
        self,
        found: Findings,
        *,
        options_of: OptionsOf,
        names_of: NamesOf,
        rules: Map[type[Any], Sequence[Rule]],
    ) -> None:
        self.found = found
        self.options_of = options_of
        self.names_of = names_of
        self.rules = rules
        self.places: dict[str, Place] = {}
        self.values: dict[str, Any] = {}

    def value(self, annotation: Any, node: Node, path: str) -> Any:
        """Return the node's value, or `Broken` after noting what is wrong with it."""
        self.places[path] = node.place
        try:
            read = self._read(annotation, node, path)
        except WrongValueError as error:
            self.found.add(node.place, path, str(error))
            read = Broken()
        self.values[path] = read
        return read

    def _read(self, annotation: Any, node: Node, path: str) -> Any:
        kind, _ = unwrap(annotation)
        if len(members(kind)) > 1:
            return self._union(annotation, node, path)
        if kind is str:
            return values.read_text(annotation, node, self.names_of)
        if kind is bool:
            return values.read_bool(annotation, node)
        if kind is int or kind is float:
            return values.read_number(annotation, node)
        if kind is Path:
            return values.read_path(annotation, node)
        if typing.get_origin(kind) is Literal:
            return values.read_choice(annotation, node)
        if typing.get_origin(kind) is tuple:
            return self._tuple(annotation, node, path)
        if is_dataclass(kind):
            return self._structure(typing.cast("type[Any]", kind), node, path)
        raise TypeError(f"{path}: a recipe cannot hold {annotation}")

    def _union(self, annotation: Any, node: Node, path: str) -> Any:
        parts = members(unwrap(annotation)[0])
        choices = [part for part in parts if values.literals(part)]
        if isinstance(node, Scalar):
            for part in choices:
                if node.text in values.literals(part):
                    return node.text
        if type(None) in parts and means_null(node):
            return None
        rest = [part for part in parts if part is not type(None) and part not in choices]
        if len(rest) == 1 and not choices:
            return self._read(rest[0], node, path)
        if isinstance(node, Mapping):
            return self._alternatives([part for part in rest if is_dataclass(part)], node, path)
        plain = [part for part in rest if not is_dataclass(part)]
        if isinstance(node, Scalar) and node.value is not None and len(plain) == 1:
            if plain[0] is Path and not _bare_path(node):
                raise must_be(annotation, node, self._path_hint(choices, node))
            if plain[0] is int and choices and values.choice_hint(choices[0], node):
                raise must_be(annotation, node, values.choice_hint(choices[0], node))
            return self._read(plain[0], node, path)
        hint = values.choice_hint(choices[0], node) if choices else ""
        raise must_be(annotation, node, hint)

    @staticmethod
    def _path_hint(choices: Sequence[Any], node: Scalar) -> str:
        hint = values.choice_hint(choices[0], node) if choices else ""
        return hint or f"A file or folder beside you is written ./{quoted(node.text, '')}"

    def _alternatives(self, schemas: Sequence[Any], node: Mapping, path: str) -> Any:
        """Read a mapping as the one dataclass whose keys it uses."""
        if not schemas:
            raise WrongValueError("must be one value, got a mapping.")
        chosen = [one for one in schemas if set(node.items) & set(hints(one))]
        if len(chosen) > 1:
            raise WrongValueError(
                f"takes one of {listed([quoted(key, '') for key in node.items])}, not several."
            )
        if not chosen:
            known = [name for one in schemas for name in hints(one)]
            near = {nearest(key, known) for key in node.items}
            chosen = [one for one in schemas if near & set(hints(one))][:1] or [schemas[0]]
            if not near & set(known):
                raise WrongValueError(
                    f"takes one of the keys {listed(known)}, got {shown_keys(node)}."
                )
        return self._structure(chosen[0], node, path)

    def _tuple(self, annotation: Any, node: Node, path: str) -> Any:
        kind, limits = unwrap(annotation)
        if not isinstance(node, Listing):
            one = isinstance(node, Scalar) and node.value is not None
            hint = f"Write [{quoted(node.text, '')}]." if isinstance(node, Scalar) and one else ""
            raise WrongValueError(f"must be a list, got {shown(node)}. {hint}".rstrip())
        inner = typing.get_args(kind)
        if Ellipsis not in inner and len(inner) != len(node.items):
            raise WrongValueError(f"must be {allowed(kind)}, got {len(node.items)}.")
        for limit in limits:
            if isinstance(limit, MinLen) and len(node.items) < limit.min_length:
                raise WrongValueError(f"must have at least {limit.min_length}.")
        each = [inner[0]] * len(node.items) if Ellipsis in inner else list(inner)
        read = [
            self.value(one, item, join(path, index))
            for index, (one, item) in enumerate(zip(each, node.items, strict=True))
        ]
        if any(isinstance(value, Broken) for value in read):
            return Broken(tuple(None if isinstance(v, Broken) else v for v in read))
        return tuple(read)

    def _structure(self, schema: type[Any], node: Node, path: str) -> Any:
        short = getattr(schema, "SHORT_LIST", None)
        if isinstance(node, Listing) and short:
            read = self.value(hints(schema)[short], node, path)
            return Broken() if isinstance(read, Broken) else schema(**{short: read})
        word = getattr(schema, "SHORT_WORD", None)
        if isinstance(node, Scalar) and word and node.value is not None:
            node = Mapping(node.place, {word: node}, {word: node.place})
        if not isinstance(node, Mapping):
            raise WrongValueError(
                f"must be a mapping with the keys {listed(list(hints(schema)), 'and')}, "
                f"got {shown(node)}."
            )
        if hasattr(schema, "KIND"):
            return self._plugin(schema, node, path)
        return self._make(schema, self._fields([schema], node, path), node, path)

    def _plugin(self, schema: type[Any], node: Mapping, path: str) -> Any:
        """Read a plug-in's name, and the plug-in's options beside it."""
        name = node.items.get("name")
        text = name.text if isinstance(name, Scalar) else None
        if text is None or text not in self.names_of(schema.KIND):
            # Which options there are hangs on the name: only what needs no name is checked.
            plain = hints(schema).keys() - {"options"}
            kept = {
                key: item
                for key, item in node.items.items()
                if key in plain or (text is None and nearest(key, plain))
            }
            self._fields([schema], Mapping(node.place, kept, node.keys), path)
            return Broken()
        options = self.options_of(schema.KIND, text)
        taken = hints(schema).keys() & hints(options).keys() if options else set()
        if taken:
            raise TypeError(f"the {schema.KIND} {text} may not call an option {', '.join(taken)}")
        read = self._fields([schema, options] if options else [schema], node, path)
        own = {key: read.pop(key) for key in hints(schema) if key in read}
        if options:
            own["options"] = self._make(options, read, node, path)
        return self._make(schema, own, node, path)

    def _fields(self, schemas: Sequence[type[Any]], node: Mapping, path: str) -> dict[str, Any]:
        """Read every key of a mapping as the field of that name; note unknown and missing keys."""
        known: dict[str, tuple[Field[Any], Any]] = {
            field.name: (field, hints(schema)[field.name])
            for schema in schemas
            for field in fields(schema)
            if field.name != "options"
        }
        meant: set[str | None] = set()
        read: dict[str, Any] = {}
        for key, item in node.items.items():
            if key in known:
                read[key] = self.value(known[key][1], item, join(path, key))
            else:
                near = nearest(key, known)
                meant.add(near)
                self._unknown(key, near, list(known), node, path)
        for name, (field, annotation) in known.items():
            needed = field.default is MISSING and field.default_factory is MISSING
            if needed and name not in read:
                read[name] = Broken()
                if name not in meant:
                    self.found.add(
                        node.place,
                        join(path, name),
                        self._needed(field, annotation, join(path, name)),
                    )
        return read

    def _needed(self, field: Field[Any], annotation: Any, path: str) -> str:
        """Return what to type for a key that is missing."""
        kind, limits = unwrap(annotation)
        if kind is Path:
            stands_for = field.metadata.get("metavar", "DIR")
            return f"is needed: --set {quoted(path, '')}={stands_for}"
        for limit in limits:
            if isinstance(limit, NameOf):
                return f"is needed: {listed(list(self.names_of(limit.kind)))}."
        return f"is needed: {allowed(annotation)}."

    def _unknown(
        self, key: str, near: str | None, known: list[str], node: Mapping, path: str
    ) -> None:
        hint = f"Did you mean '{near}'?" if near else f"Known: {', '.join(known)}."
        place = node.keys.get(key, node.place)
        self.found.add(place, join(path, key), f"unknown key. {hint}")

    def _make(self, schema: type[Any], read: dict[str, Any], node: Node, path: str) -> Any:
        """Build the dataclass when every field is sound, and test its rules on the fields that are."""
        self._test_rules(schema, read, node, path)
        if any(isinstance(value, Broken) for value in read.values()):
            return Broken()
        try:
            return schema(**read)
        except (KerastlError, ValueError, TypeError) as error:
            raise WrongValueError(str(error)) from None

    def _test_rules(self, schema: type[Any], read: dict[str, Any], node: Node, path: str) -> None:
        defaults = {f.name: f.default for f in fields(schema) if f.default is not MISSING}
        have = defaults | {
            key: value.partial if isinstance(value, Broken) else value
            for key, value in read.items()
            if not isinstance(value, Broken) or value.partial is not None
        }
        have = {key: value for key, value in have.items() if not _lost(read.get(key))}
        for rule in self.rules.get(schema, ()):
            wants = list(inspect.signature(rule).parameters)
            if all(want in have for want in wants):
                for below, message in rule(**{want: have[want] for want in wants}):
                    self.note(f"{path}.{below}" if path else below, message, node)

    def note(self, path: str, message: str, node: Node) -> None:
        """Note a problem where the path stands, or the nearest part of the recipe around it."""
        known = (self.places[parent] for parent in _parents(path) if parent in self.places)
        self.found.add(next(known, node.place), path, message)


def _lost(value: Any) -> bool:
    return isinstance(value, Broken) and value.partial is None


def _parents(path: str) -> Iterator[str]:
    while path:
        yield path
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""


def shown_keys(node: Mapping) -> str:
    """Return the keys of a mapping, fit for a message."""
    return ", ".join(quoted(key) for key in list(node.items)[:5]) or "none"
