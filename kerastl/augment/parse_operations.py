"""Parse operations given by name into operations with validated options. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerastl.errors import Problems
from kerastl.options import Plugin, read_list
from kerastl.recipe import Mixing
from kerastl.recipe import Operation as NamedOperation

Operation = tuple[str, Any]
"""Name and options."""


def parse_operations(operations: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) of each operation.

    Args:
        operations: Each a name, `(name, options)`, or `{"name": ..., option: value, ...}`. Nested operations
            are written in the same ways.

    Raises:
        Problems: If names are unknown, or options are missing, unknown or out of range; lists all of them.
    """
    return _parse(NamedOperation, operations, "The augmentation", "augment")


def parse_mixings(mixings: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) of each mixing; the arguments and errors are those of `parse_operations`."""
    return _parse(Mixing, mixings, "The mixing", "mixing")


def _parse(plugin: type[Plugin], values: Any, subject: str, where: str) -> list[Operation]:
    operations, problems = read_list(plugin, values, where)
    if problems:
        raise Problems(subject, problems)
    return [(operation.name, operation.options) for operation in operations]
