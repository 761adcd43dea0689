"""One scalar of a recipe, read as the type that its place asks for.

Lenient where a person's meaning is plain (`path: 2024` is text, `download: no` is false, `seed: none` is null),
strict where it is not (`epochs: true`, `learning_rate: "1e-3"`).
"""

from __future__ import annotations

import math
import operator
import re
import typing
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from kerastl.recipe.plugins import NameOf, Pattern
from kerastl.recipe.tree import Node, Scalar, quoted, shown
from kerastl.recipe.words import allowed, is_fraction, nearest, unwrap

NO = ("no", "off", "false")
YES = ("yes", "on", "true")
AUGMENTING = {"operation": "augment.operations", "mixing": "augment.mixing"}
"""Kinds whose names people write in each other's places, and where each belongs."""


class WrongValueError(Exception):
    """A value that its place does not allow; the text is the message."""


def means_null(node: Node) -> bool:
    """Tell whether a person means nothing: null, ~, an empty value, or the bare word none."""
    if not isinstance(node, Scalar):
        return False
    return node.value is None or (node.plain and node.text.lower() == "none")


def must_be(annotation: Any, node: Node, hint: str = "") -> WrongValueError:
    """Return the error for a value of the wrong kind."""
    text = f"must be {allowed(annotation)}, got {shown(node)}."
    return WrongValueError(f"{text} {hint}".rstrip())


def read_text(annotation: Any, node: Node, names_of: Any) -> str:
    """Return text; a bare number or word that YAML knows is the text that was typed."""
    _, limits = unwrap(annotation)
    if not isinstance(node, Scalar) or node.value is None:
        hint = "" if isinstance(node, Scalar) else "Put it in quotes if it is meant as text."
        raise must_be(annotation, node, hint)
    for limit in limits:
        if isinstance(limit, MinLen) and len(node.text) < limit.min_length:
            raise WrongValueError("must not be empty.")
        if isinstance(limit, Pattern) and not re.fullmatch(limit.regex, node.text):
            raise must_be(annotation, node)
        if isinstance(limit, NameOf):
            _check_name(limit.kind, node, names_of)
    return node.text


def _check_name(kind: str, node: Scalar, names_of: Any) -> None:
    known = list(names_of(kind))
    if node.text in known:
        return
    for other, place in AUGMENTING.items():
        if kind in AUGMENTING and other != kind and node.text in names_of(other):
            raise WrongValueError(f"{quoted(node.text)} is no {kind}; it is allowed in {place}.")
    near = nearest(node.text, known)
    hint = f"Did you mean '{near}'?" if near else f"Known: {', '.join(known)}."
    raise WrongValueError(f"there is no {kind} {quoted(node.text)}. {hint}")


def read_path(annotation: Any, node: Node) -> Path:
    """Return an absolute path; `~` is the home folder, other paths are below the working directory."""
    if not isinstance(node, Scalar) or node.value is None:
        raise must_be(annotation, node)
    if not node.text.strip() or "\0" in node.text:
        raise WrongValueError(f"must be a path, got {quoted(node.text)}.")
    path = Path(node.text)
    try:
        path = path.expanduser()
    except RuntimeError:  # ~somebody who has no account
        path = Path(node.text)
    return path.absolute()


def read_bool(annotation: Any, node: Node) -> bool:
    """Return true or false; the bare words yes, no, on and off are what they say."""
    if isinstance(node, Scalar):
        if isinstance(node.value, bool):
            return node.value
        if node.plain and node.text.lower() in NO + YES:
            return node.text.lower() in YES
    raise must_be(annotation, node)


def read_number(annotation: Any, node: Node) -> int | float:
    """Return a number within its bounds; true is no number, and neither is text."""
    kind, limits = unwrap(annotation)
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise must_be(annotation, node, _number_hint(annotation, node))
    try:
        number = float(value)
    except OverflowError:
        raise must_be(annotation, node) from None
    if not math.isfinite(number):
        raise must_be(annotation, node)
    if kind is int and not isinstance(value, int):
        hint = f"Write {int(number)}." if number.is_integer() else ""
        raise must_be(annotation, node, hint)
    if not all(_within(value, limit) for limit in limits):
        raise must_be(annotation, node, _percent(annotation, number))
    return value if kind is int else number


def _within(value: float, limit: Any) -> bool:
    bounds = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt"}
    tests = {Ge: operator.ge, Gt: operator.gt, Le: operator.le, Lt: operator.lt}
    kind = type(limit)
    return kind not in tests or bool(tests[kind](value, getattr(limit, bounds[kind])))


def _percent(annotation: Any, number: float) -> str:
    if is_fraction(*unwrap(annotation)) and 1 < number <= 100:
        return f"For {number:g} % write {number / 100:g}."
    return ""


def _number_hint(annotation: Any, node: Node) -> str:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return ""
    text = node.text.strip()
    try:
        if text.endswith("%"):
            return _percent(annotation, float(text[:-1]))
        if math.isfinite(float(text)):
            wanted = text.replace("_", "")
            return f"Take the quotes off: {wanted}" if not node.plain else f"Write {wanted}."
    except ValueError:
        pass
    return ""


def read_choice(annotation: Any, node: Node) -> Any:
    """Return one of the words of a `Literal`."""
    kind, _ = unwrap(annotation)
    choices = typing.get_args(kind)
    if isinstance(node, Scalar):
        for choice in choices:
            if isinstance(choice, str) and node.text == choice:
                return choice
            if type(node.value) is type(choice) and node.value == choice:
                return choice
    raise must_be(annotation, node, choice_hint(annotation, node))


def choice_hint(annotation: Any, node: Node) -> str:
    """Return `Did you mean 'x'?` where a choice is near what was written."""
    if not isinstance(node, Scalar):
        return ""
    words = [str(choice) for choice in literals(annotation)]
    if node.value is None and "none" in words:
        return "Write none."
    near = nearest(node.text, words) if isinstance(node.value, str) else None
    return f"Did you mean '{near}'?" if near else ""


def literals(annotation: Any) -> tuple[Any, ...]:
    """Return the choices of a `Literal`, none for another type."""
    kind, _ = unwrap(annotation)
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
