"""The options of a plug-in: a dataclass made of what a caller names, its values held against the bounds of its fields."""

from __future__ import annotations

import dataclasses
import math
import operator
import typing
from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

LIMITS = {
    Ge: ("ge", operator.ge, "at least"),
    Gt: ("gt", operator.gt, "above"),
    Le: ("le", operator.le, "at most"),
    Lt: ("lt", operator.lt, "below"),
}


def build_options(name: str, kind: Any, values: dict[str, Any]) -> Any:
    """Return the options of a plug-in, their values not yet checked.

    Args:
        name: of the plug-in.
        kind: the dataclass of its options.
        values: by option.

    Raises:
        TypeError: an option is unknown, or one that has no default is missing.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TypeError(f"{name} has no option '{unknown[0]}'. Known: {', '.join(known)}.")
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if needed:
        raise TypeError(f"{name} needs {', '.join(needed)}.")
    return kind(**values)


def faults_of(options: Any) -> Iterator[str]:
    """Yield what is wrong with the values of a dataclass of options: choices, bounds, kinds."""
    hints = typing.get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        in_list = typing.get_origin(hint) is tuple
        choices = _choices(typing.get_args(hint)[0] if in_list else hint)
        if in_list and choices and not isinstance(value, tuple | list):
            yield f"{field.name}: must be a list, got {value!r}."
            continue
        for one in value if in_list else [value]:
            if choices and one not in choices:
                yield f"{field.name}: must be one of {', '.join(map(str, choices))}, got {one!r}."
        limits = [limit for limit in getattr(hint, "__metadata__", ()) if type(limit) in LIMITS]
        whole = getattr(hint, "__origin__", hint) is int
        if limits and not (_within(value, limits) and (isinstance(value, int) or not whole)):
            bounds = " and ".join(_told(limit) for limit in limits)
            kind = "whole number" if whole else "number"
            yield f"{field.name}: must be a {kind} {bounds}, got {value!r}."
        if hint is bool and not isinstance(value, bool):
            yield f"{field.name}: must be True or False, got {value!r}."


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _within(value: Any, limits: list[Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return all(
        LIMITS[type(limit)][1](value, getattr(limit, LIMITS[type(limit)][0])) for limit in limits
    )


def _told(limit: Any) -> str:
    attribute, _, words = LIMITS[type(limit)]
    return f"{words} {getattr(limit, attribute)}"
