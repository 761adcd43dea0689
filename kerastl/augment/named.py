"""Turn what a caller names into operations with checked options. No TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import operator
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from kerastl import registry
from kerastl.errors import Problem, Problems

LIMITS = {
    Ge: ("ge", operator.ge, "at least"),
    Gt: ("gt", operator.gt, "above"),
    Le: ("le", operator.le, "at most"),
    Lt: ("lt", operator.lt, "below"),
}
Operation = tuple[str, Any]


def named(operations: Sequence[Operation | Mapping[str, Any]]) -> list[Operation]:
    """Return (name, options) for each operation.

    Args:
        operations: `(name, options)`, or `{"name": ..., option: value, ...}`.

    Raises:
        RequestError: no such operation.
        Problems: options that are missing, unknown or out of bounds, of all operations together.
    """
    found: list[Operation] = []
    problems: list[Problem] = []
    for place, operation in enumerate(operations):
        where = f"augment[{place}]"
        try:
            name, options = _built(operation)
        except TypeError as error:
            problems.append(Problem(where, str(error)))
            continue
        problems += [Problem(f"{where}, {name}", wrong) for wrong in _wrong(options)]
        found.append((name, options))
    if problems:
        raise Problems("The augmentation", problems)
    return found


def _built(operation: Operation | Mapping[str, Any]) -> Operation:
    if not isinstance(operation, Mapping):
        return operation
    values = dict(operation)
    if "name" not in values:
        raise TypeError("has no name: an operation is {'name': ..., option: value, ...}.")
    name = str(values.pop("name"))
    kind: Any = registry.options_of("operation", name)
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
    return name, kind(**values)


def _wrong(options: Any) -> Iterator[str]:
    """Yield what is wrong with the values of a dataclass of options."""
    hints = typing.get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        if choices and value not in choices:
            yield f"{field.name}: must be one of {', '.join(map(str, choices))}, got {value!r}."
        limits = [limit for limit in getattr(hint, "__metadata__", ()) if type(limit) in LIMITS]
        if limits and not _within(value, limits):
            bounds = " and ".join(_told(limit) for limit in limits)
            yield f"{field.name}: must be a number {bounds}, got {value!r}."


def _within(value: Any, limits: list[Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return all(
        LIMITS[type(limit)][1](value, getattr(limit, LIMITS[type(limit)][0])) for limit in limits
    )


def _told(limit: Any) -> str:
    attribute, _, words = LIMITS[type(limit)]
    return f"{words} {getattr(limit, attribute)}"
