"""YAML in, a tree with line numbers out, with the meaning of YAML 1.2 and nothing that could surprise.

PyYAML parses; its YAML 1.1 notions are replaced: `no`, `yes`, `on` and `1:30` are text, `1e-3` and `0o17` are
numbers. Equal keys, tags, several documents, and files made to exhaust memory are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from kerastl.errors import Problem, Problems
from kerastl.recipe.tree import Findings, Listing, Mapping, Node, Place, Scalar, Value, join, quoted

MAX_CHARACTERS = 200_000
MAX_DEPTH = 20
MAX_VALUES = 10_000
PREFIX = "tag:yaml.org,2002:"

# YAML 1.2.2, section 10.3.2, the core schema.
CORE = (
    ("null", re.compile(r"~|null|Null|NULL|", re.ASCII), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE", re.ASCII), list("tTfF")),
    (
        "int",
        re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII),
        list("-+0123456789"),
    ),
    (
        "float",
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            re.ASCII,
        ),
        list("-+.0123456789"),
    ),
)


class _RefusedError(Exception):
    """A construct that a recipe may not use; stops the reading."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class CoreLoader(yaml.SafeLoader):
    """Composes nodes only: no Python object is ever made by PyYAML."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse tags, and depth before Python's own recursion limit is met."""
        parser: Any = self  # PyYAML's stubs leave the parser untyped
        event = parser.peek_event()
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(
                line, f"tags are not allowed, got {quoted(str(event.tag))}. A recipe is plain data."
            )
        if self.depth >= MAX_DEPTH:
            raise _RefusedError(line, f"is nested deeper than {MAX_DEPTH} levels.")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


CoreLoader.yaml_implicit_resolvers = {}  # nothing of YAML 1.1
for _tag, _regex, _starts in CORE:
    CoreLoader.add_implicit_resolver(PREFIX + _tag, re.compile(f"(?:{_regex.pattern})\\Z"), _starts)


def read(text: str, *, subject: str, footer: str = "") -> tuple[Node, Findings]:
    """Parse a recipe's text.

    Args:
        text: YAML.
        subject: what is read, for the error's first line.
        footer: the error's last line.

    Returns:
        The tree, and the problems that leave a tree (equal keys).

    Raises:
        Problems: the text is no YAML, or YAML that a recipe may not use.
    """
    found = Findings()
    try:
        return _Convert(found).node(_compose(text), "", 0), found
    except _RefusedError as error:
        where = Place(error.line).where("") if error.line else ""
        raise Problems(subject, [Problem(where, error.message)], footer) from None


def read_value(text: str, path: str, found: Findings) -> Node | None:
    """Parse the value of one `--set`; a problem is noted and gives None."""
    if not text.strip():
        return Scalar(Place(0), None, "", plain=True)
    try:
        return _Convert(found, override=True).node(_compose(text), path, 0)
    except _RefusedError as error:
        found.add(Place(0), path, error.message)
        return None


def _compose(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise _RefusedError(
            0, f"has {len(text)} characters; a recipe has at most {MAX_CHARACTERS}."
        )
    try:
        loader = CoreLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _RefusedError(
            line, f"has a character that YAML does not allow (U+{ord(text[error.position]):04X})."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _RefusedError(mark.line + 1 if mark else 1, _words(error)) from None
    except (ValueError, OverflowError) as error:
        raise _RefusedError(1, f"is not YAML: {quoted(str(error), marks='')}.") from None
    if node is None:
        raise _RefusedError(1, "is empty. A recipe to start from: kerastl show folder-classifier")
    return node


def _words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "is not YAML"
    if "'\\t'" in problem:
        return "a tab cannot indent: use spaces."
    if "single document" in str(error.context):
        return "a recipe is one document: take out the line '---'."
    if "mapping values are not allowed" in problem:
        return (
            "a ': ' stands where no key can be: check the indentation, or put the text in quotes."
        )
    context = f"{error.context}, " if error.context else ""
    return f"is not YAML: {quoted(context + problem, marks='')}."


class _Convert:
    """Turns PyYAML's nodes into a tree; aliases are written out, within bounds."""

    def __init__(self, found: Findings, *, override: bool = False) -> None:
        self.found = found
        self.override = override
        self.count = 0

    def node(self, node: Any, path: str, depth: int) -> Node:
        place = self._place(node)
        self.count += 1
        if self.count > MAX_VALUES:
            raise _RefusedError(
                place.line, f"has more than {MAX_VALUES} values, aliases written out."
            )
        if depth > MAX_DEPTH:
            raise _RefusedError(place.line, f"is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(node, ScalarNode):
            _refuse_halves(node.value, place)
            return Scalar(place, _value(node), node.value, plain=node.style is None)
        if isinstance(node, SequenceNode):
            items = [
                self.node(item, join(path, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
            return Listing(place, items)
        return self._mapping(node, place, path, depth)

    def _place(self, node: Any) -> Place:
        return Place(0 if self.override else node.start_mark.line + 1)

    def _mapping(self, node: MappingNode, place: Place, path: str, depth: int) -> Mapping:
        mapping = Mapping(place)
        for key_node, value_node in node.value:
            at = self._place(key_node)
            if not isinstance(key_node, ScalarNode):
                self.found.add(at, path, "a key must be a word, got a list or a mapping.")
                continue
            key = key_node.value
            _refuse_halves(key, at)
            value = self.node(value_node, join(path, key), depth + 1)
            if key in mapping.items:
                first = mapping.keys[key].line
                also = f" (first in line {first})" if first else ""
                self.found.add(at, join(path, key), f"stands here twice{also}. Keep one.")
                continue
            mapping.items[key] = value
            mapping.keys[key] = at
        return mapping


def _refuse_halves(text: str, place: Place) -> None:
    """Refuse text that no file can hold: half of a surrogate pair, written as an escape."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _RefusedError(place.line, "has half a character (a lone surrogate).")


def _value(node: ScalarNode) -> Value:
    """Return the value of a scalar; a number that Python refuses to read stays text."""
    text = node.value
    kind = node.tag.removeprefix(PREFIX)
    if kind == "null":
        return None
    if kind == "bool":
        return bool(text.lower() == "true")
    try:
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return str(text)
    return str(text)
