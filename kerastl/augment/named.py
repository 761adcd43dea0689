"""Turn what a caller names into operations with checked options. No TensorFlow."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

from kerastl import registry
from kerastl.errors import Problem, Problems
from kerastl.plugin_options import build_options, faults_of
from kerastl.recipe.plugins import Operation as Held

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
