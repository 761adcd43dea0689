"""Read YAML text into plain values with a table of where each one was written; apply `--set` changes.

The meaning is that of YAML 1.2: `no`, `yes`, `on` and `1:30` are text, `1e-3` and `0o17` are numbers.
Duplicate keys, tags, several documents, and input that is made to exhaust memory are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from kerastl.errors import Problem, Problems, quote
from kerastl.options import Loc, Scalar, describe_value, join_path, split_path
from kerastl.recipe.catalog import MAX_CHARACTERS
from kerastl.recipe.schema import Augment

MAX_DEPTH = 20
MAX_VALUES = 10_000

# YAML 1.2.2, section 10.3.2, the core schema.
NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
# Keys at which a bare word stands for `{name: word}`, so that a longer path reaches an option next to the name.
PLUGINS = re.compile(r"(.+\.)?(reader|backbone)|(.+\.)?(augment|operations|mixing)\[\d+\]")
SET = 0
"""The line number of values from `--set`."""
READER_OPTIONS = {"data": -1, "target": -2}
"""The line numbers of values from `--data` and `--target`, by the section of the reader."""


@dataclass
class Document:
    """A recipe as it was written.

    Args:
        data: Dicts, lists and Scalars.
        lines: Line of each value by its location, of a mapping's value the line of its key; 0 for `--set`, or a value of
            `READER_OPTIONS`.
        problems: Problems found so far, each with its line.
    """

    data: Any = None
    lines: dict[Loc, int] = field(default_factory=lambda: {(): 1})
    problems: list[tuple[int, Problem]] = field(default_factory=list)

    def add(self, loc: Loc, message: str, line: int | None = None) -> None:
        """Add a problem at a location, or at the nearest part of the recipe around it."""
        at = loc
        while line is None and at not in self.lines:
            at = at[:-1]
        line = self.lines[at] if line is None else line
        self.problems.append((line, Problem(_origin(line, join_path("", loc)), message)))

    def sorted_problems(self) -> list[Problem]:
        """Return the problems in the order of the file, those of `--set` last."""
        ordered = sorted(self.problems, key=lambda pair: pair[0] if pair[0] > 0 else float("inf"))
        return [problem for _, problem in ordered]


def _origin(line: int, path: str) -> str:
    """Return `line 7, data.split`, or `--set data.split`."""
    path = quote(path, marks="")
    if line == SET:
        return f"--set {path}".rstrip()
    for section, number in READER_OPTIONS.items():
        if line == number:
            is_path = path in (f"{section}.reader", f"{section}.reader.name", f"{section}.reader.path")
            return f"--{section}" if is_path else f"--{section}, {path}"
    return f"line {line}, {path}" if path else f"line {line}"


class _RefusedError(Exception):
    """A construct that a recipe may not use."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read(text: str, *, subject: str, footer: str = "") -> Document:
    """Parse the text of a recipe.

    Args:
        text: YAML.
        subject: What is read, for the first line of the error.
        footer: Last line of the error.

    Raises:
        Problems: The text is not YAML, or YAML that a recipe may not use.
    """
    try:
        return _parse(text)
    except _RefusedError as error:
        where = _origin(error.line, "") if error.line else ""
        raise Problems(subject, [Problem(where, error.message)], footer) from None


def read_plain(text: str) -> Any:
    """Return the dicts, lists and values of a YAML text, such as `recipe.resolved.yaml`.

    Raises:
        ValueError: The text is not YAML, or YAML that a recipe may not use.
    """
    try:
        return _unwrapped(_parse(text).data)
    except _RefusedError as error:
        raise ValueError(f"line {error.line}: {error.message}") from None


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unwrapped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    return value.value


def _parse(text: str, loc: Loc = (), line: int | None = None) -> Document:
    """Parse YAML.

    Args:
        text: YAML.
        loc: Location of its value in the recipe.
        line: Line of all values; None for those in the text.

    Raises:
        _RefusedError: The text is not YAML, or YAML that a recipe may not use.
    """
    document = Document()
    document.data = _Converter(document, line).value(_compose(text), loc)
    return document


class _LimitedComposer(Composer):
    """Composes nodes only, and refuses tags and depth while it does."""

    levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        line = event.start_mark.line + 1
        if getattr(event, "ctag", None) is not None:
            tag = quote(str(event.ctag))
            raise _RefusedError(line, f"tags are not allowed, got {tag}. A recipe is plain data.")
        if self.levels >= MAX_DEPTH:
            raise _RefusedError(line, f"is nested deeper than {MAX_DEPTH} levels.")
        self.levels += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.levels -= 1


def _compose(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise _RefusedError(0, f"has {len(text)} characters; a recipe has at most {MAX_CHARACTERS}.")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _LimitedComposer
    try:
        node = yaml.compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _RefusedError(
            line, f"has a character that YAML does not allow (U+{ord(text[error.position]):04X})."
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _RefusedError(mark.line + 1 if mark else 1, _yaml_message(error)) from None
    except _RefusedError:
        raise
    except Exception as error:  # ruamel.yaml raises many kinds on damaged input
        raise _RefusedError(1, f"invalid YAML: {quote(str(error), marks='')}.") from None
    if node is None:
        raise _RefusedError(1, "is empty. A recipe to start from: kerastl show folder-classifier")
    return node


def _yaml_message(error: MarkedYAMLError) -> str:
    problem = error.problem or "the file cannot be parsed"
    if "'\\t'" in problem:
        return "tabs are not allowed for indentation. Use spaces."
    if "single document" in str(error.context):
        return "a recipe is one document: remove the line '---'."
    if "mapping values are not allowed" in problem:
        return "': ' is not allowed here: check the indentation, or put the text in quotes."
    context = f"{error.context}, " if error.context else ""
    return f"invalid YAML: {quote(context + problem, marks='')}."


class _Converter:
    """Converts the nodes of ruamel.yaml to plain values; aliases are expanded, within bounds."""

    def __init__(self, document: Document, line: int | None) -> None:
        self.document = document
        self.line = line
        self.count = 0

    def value(self, node: Any, loc: Loc, depth: int = 0) -> Any:
        line = self._line(node)
        self.document.lines.setdefault(loc, line)
        self.count += 1
        if self.count > MAX_VALUES:
            raise _RefusedError(line, f"has more than {MAX_VALUES} values, aliases expanded.")
        if depth > MAX_DEPTH:
            raise _RefusedError(line, f"is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(node, ScalarNode):
            _refuse_surrogates(node.value, line)
            is_plain = node.style is None
            value = _value(node.value) if is_plain else node.value
            return Scalar(value, node.value, is_plain)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*loc, index), depth + 1) for index, item in enumerate(node.value)]
        return self._mapping(node, loc, depth)

    def _line(self, node: Any) -> int:
        return node.start_mark.line + 1 if self.line is None else self.line

    def _mapping(self, node: MappingNode, loc: Loc, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = self._line(key_node)
            if not isinstance(key_node, ScalarNode):
                self.document.add(loc, "a key must be a word, got a list or a mapping.", line)
                continue
            key = key_node.value
            _refuse_surrogates(key, line)
            below = (*loc, key)
            if key in mapping:
                first = self.document.lines[below]
                also = f" (first in line {first})" if first > 0 else ""
                self.document.add(below, f"duplicate key{also}. Keep one.", line)
                self.value(value_node, (*below, "duplicate"), depth + 1)
                continue
            self.document.lines[below] = line
            mapping[key] = self.value(value_node, below, depth + 1)
        return mapping


def _refuse_surrogates(text: str, line: int) -> None:
    """Refuse text that no file can hold: half of a surrogate pair, written as an escape."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _RefusedError(line, "contains a lone surrogate, which is not a character.")


def _value(text: str) -> bool | int | float | str | None:
    """Return the value of plain text; a number that Python cannot parse is text."""
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    with suppress(ValueError):
        if INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def apply_reader(document: Document, section: str, name: str, path: Path, sets: Sequence[str]) -> None:
    """Let the reader of a section read a path, as `--data` and `--target` do. A reader of this name keeps its options.

    Args:
        document: It is changed in place; a contradiction to `--set` is added to its problems.
        section: `data` or `target`.
        name: Name of the reader.
        path: A folder or a table.
        sets: The changes that follow.
    """
    loc, line, text = (section, "reader"), READER_OPTIONS[section], str(path)
    for change in sets:
        if split_path(change.partition("=")[0].strip()) in ((section,), loc, (*loc, "name"), (*loc, "path")):
            document.add(
                loc, f"cannot be combined with --set {quote(change, '')}. Remove one of the two.", line
            )
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        document.add(loc, f"the path {quote(text)} is not UTF-8. Rename it.", line)
        return
    given = document.data
    for step in loc:
        given = given.get(step) if isinstance(given, dict) else None
    given = given.get("name") if isinstance(given, dict) else given
    if not isinstance(given, Scalar) or given.text != name:
        _put(document, loc, Document({"name": Scalar(name, name, plain=True)}), line)
    _put(document, (*loc, "path"), Document(Scalar(text, text, plain=False)), line)


def apply_sets(document: Document, sets: Sequence[str]) -> None:
    """Apply each `path=value` to a document in place; the last value of a path wins.

    Args:
        document: Mappings that a path needs are added to it; problems, too.
        sets: The changes as typed, e.g. `phases[0].epochs=2`; values are YAML.
    """
    for text in sets:
        path, equals, value = text.partition("=")
        loc = split_path(path.strip())
        if not equals or not loc:
            message = "must be PATH=VALUE, such as data.batch_size=8 or phases[0].epochs=2."
            indexed = re.sub(r"\.(\d+)(?=[.\[]|$)", r"[\1]", path.strip())
            if equals and split_path(indexed):
                message = f"an index is written in brackets: {indexed}."
            document.problems.append((SET, Problem(_origin(SET, text), message)))
            continue
        try:
            parsed = _parse(value, loc, SET) if value.strip() else Document(Scalar(None, "", plain=True))
        except _RefusedError as error:
            document.add(loc, error.message, SET)
            continue
        document.problems += parsed.problems
        _put(document, loc, parsed)


def _put(document: Document, loc: Loc, parsed: Document, line: int = SET) -> None:
    value: Any = document.data
    above: Loc = ()
    for step, following in pairwise(loc):
        if not _fits(document, value, step, above, line):
            return
        child: Any = value.get(step) if isinstance(value, dict) else value[step]
        above = (*above, step)
        if isinstance(following, str):
            child = _as_mapping(document, child, above, line)
        if child is None:
            document.add(above, f"is not in the recipe, so it has no [{following}].", line)
            return
        value[step] = child
        document.lines.setdefault(above, line)
        value = child
    if not _fits(document, value, loc[-1], above, line):
        return
    value[loc[-1]] = parsed.data
    for below in [other for other in document.lines if other[: len(loc)] == loc]:
        del document.lines[below]
    document.lines |= {**parsed.lines, loc: line}


def _as_mapping(document: Document, child: Any, loc: Loc, line: int) -> Any:
    """Return the long form of a short form, to which a longer path adds a key."""
    path = join_path("", loc)
    key = "name" if PLUGINS.fullmatch(path) else None
    if path == "augment":
        key = Augment.SHORT_LIST if isinstance(child, list) else Augment.SHORT_WORD
    elif isinstance(child, list):
        return child
    if isinstance(child, dict):
        return child
    is_empty = child is None or (isinstance(child, Scalar) and child.value is None)
    if key is None or is_empty:
        document.lines[loc] = line
        return {}
    inner = [other for other in document.lines if other[: len(loc)] == loc]
    document.lines |= {(*loc, key, *other[len(loc) :]): document.lines[other] for other in inner}
    return {key: child}


def _fits(document: Document, value: Any, step: str | int, above: Loc, line: int) -> bool:
    """Return whether a value has this key or index, and add a problem where it cannot."""
    name = quote(join_path("", above), "") or "the recipe"
    message = ""
    if isinstance(step, int) and not isinstance(value, list):
        message = f"{name} is not a list."
    elif isinstance(step, int) and step >= len(value):
        entries = f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
        message = f"index {step} is out of range: {name} has {entries}, and indices start at 0."
    elif isinstance(step, str) and isinstance(value, list):
        message = f"{name} is a list: write {name}[0]."
    elif isinstance(step, str) and not isinstance(value, dict):
        message = f"{name} is {describe_value(value)}, which has no keys."
    if message:
        document.add((*above, step), message, line)
    return not message
