"""Turn what a caller names into operations with validated options. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerastl.errors import Problems
from kerastl.options import Plugin, read_list
from kerastl.recipe import Mixing
from kerastl.recipe import Operation as NamedOperation

Operation = tuple[str, Any]


def named(operations: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) for each operation.

    Args:
        operations: a name, `(name, options)`, or `{"name": ..., option: value, ...}`; so are the operations that one of
            them contains.

    Raises:
        Problems: unknown names, and options that are missing, unknown or out of bounds, of all operations together.
    """
    return _validated(NamedOperation, operations, "The augmentation", "augment")


def named_mixings(mixings: Sequence[Operation | Mapping[str, Any] | str]) -> list[Operation]:
    """Return (name, options) for each mixing.

    Args:
        mixings: as in `named`.

    Raises:
        Problems: unknown names, and options that are unknown or out of bounds, of all mixings together.
    """
    return _validated(Mixing, mixings, "The mixing", "mixing")


def _validated(model: type[Plugin], given: Any, subject: str, where: str) -> list[Operation]:
    found, problems = read_list(model, given, where)
    if problems:
        raise Problems(subject, problems)
    return [(one.name, one.options) for one in found]
