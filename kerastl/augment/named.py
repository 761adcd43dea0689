"""Turn what a caller names into operations with checked options. No TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import operator
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from kerastl import registry
from kerastl.errors import Problem, Problems
from kerastl.recipe.plugins import Operation as Held

LIMITS = {
    Ge: ("ge", operator.ge, "at least"),
    Gt: ("gt", operator.gt, "above"),
    Le: ("le", operator.le, "at most"),
    Lt: ("lt", operator.lt, "below"),
}
Operation = tuple[str, Any]

WRITTEN = "must be a name, (name, options), or {'name': ..., option: value, ...}"


def named(operations: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) for each operation.

    Args:
        operations: a name, `(name, options)`, or `{"name": ..., option: value, ...}`; so are the operations that one of
            them holds.

    Raises:
        RequestError: no such operation.
        Problems: options that are missing, unknown or out of bounds, of all operations together.
    """
    problems: list[Problem] = []
    found = _all(operations, "augment", problems)
    if problems:
        raise Problems("The augmentation", problems)
    return found


def named_mixings(mixings: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) for each mixing.

    Args:
        mixings: as in `named`.

    Raises:
        RequestError: no such mixing.
        Problems: options that are unknown or out of bounds, of all mixings together.
    """
    problems: list[Problem] = []
    found = _all(mixings, "mixing", problems, kind="mixing")
    if problems:
        raise Problems("The mixing", problems)
    return found


def _all(
    operations: Any, path: str, problems: list[Problem], kind: str = "operation"
) -> list[Operation]:
    """Return (name, options) for each operation that is right, and note what is wrong with the others."""
    if isinstance(operations, str | Mapping) or not isinstance(operations, Iterable):
        problems.append(Problem(path, f"must be a list of {kind}s, got {operations!r}."))
        return []
    found: list[Operation] = []
    for place, operation in enumerate(operations):
        where = f"{path}[{place}]"
        try:
            name, values = _split(operation)
            known: Any = registry.options_of(kind, name)
            for field in set(_holding(known)) & set(values):
                values[field] = _held(values[field], f"{where}.{field}", problems)
            options = build_options(name, known, values)
        except (TypeError, ValueError) as error:
            problems.append(Problem(where, str(error)))
            continue
        problems += [Problem(f"{where}, {name}", wrong) for wrong in faults_of(options)]
        found.append((name, options))
    return found


def _held(operations: Any, path: str, problems: list[Problem]) -> tuple[Held, ...]:
    """Return the operations that another one holds, and note what is wrong with them."""
    if isinstance(operations, Sized) and not operations:
        problems.append(Problem(path, "must have at least one."))
    return tuple(Held(*one) for one in _all(operations, path, problems))


def _split(operation: Any) -> tuple[str, dict[str, Any]]:
    """Return an operation's name and the values of its options."""
    if isinstance(operation, Held):
        operation = (operation.name, operation.options)
    if isinstance(operation, str):
        return operation, {}
    if not isinstance(operation, Mapping):
        if not isinstance(operation, Sequence) or len(operation) != 2:
            raise TypeError(f"{WRITTEN}, got {operation!r}.")
        name, options = operation
        if not dataclasses.is_dataclass(options) or isinstance(options, type):
            raise TypeError(f"{WRITTEN}, got {operation!r}.")
        values = {one.name: getattr(options, one.name) for one in dataclasses.fields(options)}
        return name, values
    values = dict(operation)
    if "name" not in values:
        raise TypeError(f"has no name: it {WRITTEN}.")
    return str(values.pop("name")), values


def _holding(kind: Any) -> list[str]:
    """Return the options that are operations themselves."""
    hints = typing.get_type_hints(kind)
    return [name for name, hint in hints.items() if Held in typing.get_args(hint)]


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
    """Yield what is wrong with the values of a dataclass of options."""
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
