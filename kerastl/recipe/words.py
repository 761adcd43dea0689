"""What is allowed, in words, read off the annotations: for messages and for the table in the docs."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen

from kerastl.recipe.plugins import NameOf, Pattern

# What other tools call it.
SYNONYMS = {
    "lr": "learning_rate",
    "model": "backbone",
    "network": "backbone",
    "training": "phases",
    "stages": "phases",
    "dataset": "data",
    "augmentation": "augment",
    "batch": "batch_size",
    "image_size": "image_size_px",
    "patience": "early_stopping",
}


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and the constraints of `Annotated[type, ...]`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def hints(schema: Any) -> dict[str, Any]:
    """Return the annotation of each field of a dataclass, constraints included."""
    return _hints(schema)


@cache
def _hints(schema: Any) -> dict[str, Any]:
    found = typing.get_type_hints(schema, include_extras=True)
    return {field.name: found[field.name] for field in fields(schema)}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    known = list(known)
    if SYNONYMS.get(word) in known:
        return SYNONYMS[word]
    near = difflib.get_close_matches(word.lower()[:100], known, n=1)
    return near[0] if near else None


def listed(words: Sequence[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def is_fraction(kind: type[Any], limits: tuple[Any, ...]) -> bool:
    """Tell whether a number lies between 0 and 1 by its bounds."""
    low, high = bounds(limits)
    return kind is float and low is not None and high is not None and (low, high) == (0, 1)


def bounds(limits: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the lower and the upper bound, None where there is none."""
    low: Any = None
    high: Any = None
    for limit in limits:
        if isinstance(limit, Ge):
            low = limit.ge
        elif isinstance(limit, Gt):
            low = limit.gt
        elif isinstance(limit, Le):
            high = limit.le
        elif isinstance(limit, Lt):
            high = limit.lt
    return low, high


def _number(kind: type[Any], limits: tuple[Any, ...]) -> str:
    low, high = bounds(limits)
    open_low = any(isinstance(limit, Gt) for limit in limits)
    open_high = any(isinstance(limit, Lt) for limit in limits)
    noun = "a whole number" if kind is int else "a number"
    noun = "a fraction" if is_fraction(kind, limits) else noun
    if low is None and high is None:
        return noun
    if high is None:
        return f"{noun} above {low}" if open_low else f"{noun} of at least {low}"
    end = f"below {high}" if open_high else f"{high}"
    if low is None:
        return f"{noun} {end}" if open_high else f"{noun} of at most {high}"
    if open_low:
        return f"{noun} above {low} and {end if open_high else f'up to {end}'}"
    return f"{noun} from {low} to {end}"


def _text(limits: tuple[Any, ...]) -> str:
    for limit in limits:
        if isinstance(limit, Pattern):
            return f"text of {limit.says}"
        if isinstance(limit, NameOf):
            return f"the name of {'an' if limit.kind[0] in 'aeiou' else 'a'} {limit.kind}"
    return "text"


def _structure(kind: Any) -> str:
    if is_dataclass(kind):
        names = [
            f"{name}: {allowed(hint)}"
            for name, hint in hints(typing.cast("type[Any]", kind)).items()
            if name != "options"
        ]
        return f"{{{', '.join(names)}}}" if len(names) <= 2 else "a mapping"
    inner = [item for item in typing.get_args(kind) if item is not Ellipsis]
    if Ellipsis in typing.get_args(kind):
        return f"a list, each {allowed(inner[0])}"
    return f"a list of {len(inner)}: {', '.join(map(allowed, inner))}"


def allowed(annotation: Any) -> str:
    """Return what a value of this annotation may be, e.g. `a whole number from 1 to 32`."""
    kind, limits = unwrap(annotation)
    if len(members(kind)) > 1:
        return listed(list(dict.fromkeys(part for one in members(kind) for part in _parts(one))))
    return listed(_parts(annotation)) if not limits else _one(kind, limits)


def _parts(annotation: Any) -> list[str]:
    kind, limits = unwrap(annotation)
    if typing.get_origin(kind) is Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    return [_one(kind, limits)]


def _one(kind: Any, limits: tuple[Any, ...]) -> str:
    if kind is int or kind is float:
        return _number(kind, limits)
    if kind is str:
        return _text(limits)
    simple = {bool: "true or false", Path: "a path", type(None): "null"}
    if kind in simple:
        return simple[kind]
    words = _structure(kind)
    return f"{words}, at least one" if any(isinstance(x, MinLen) for x in limits) else words
