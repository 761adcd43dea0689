"""Operations that hold others: what their options share. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import MinLen

from kerastl import registry
from kerastl.recipe.plugins import Operation

Operations = Annotated[tuple[Operation, ...], MinLen(1)]
DEEPEST = 2
"""Levels of operations that hold others: one may hold another, which holds none that holds any."""


def check_depth(operations: Sequence[Operation], level: int = 1) -> None:
    """Refuse operations that hold others too deep down.

    Args:
        operations: what is held.
        level: of the operation that holds them; 1 is the uppermost.

    Raises:
        ValueError: one lies below `DEEPEST` others.
    """
    for one in operations:
        held = _held(one)
        if held and level >= DEEPEST:
            raise ValueError(
                f"{one.name} lies too deep: an operation that holds others may stand inside one such "
                "operation, not inside two. Write its operations in its place."
            )
        check_depth(held, level + 1)


def _held(operation: Any) -> Sequence[Operation]:
    # A pair (name, options) from Python becomes an Operation where the policy is built, and is looked at then.
    options = operation.options if isinstance(operation, Operation) else None
    found = getattr(options, "operations", ())
    return [one for one in found if isinstance(one, Operation)]


def change_nothing(operations: Sequence[Operation]) -> bool:
    """Tell whether every one of the operations is the identity."""
    return all(
        registry.module("operation", one.name).is_identity(one.options)
        or one.options.apply_probability == 0
        for one in operations
    )


def need_colour(operations: Sequence[Operation]) -> bool:
    """Tell whether one of the operations makes no sense on pictures of one channel."""
    return any(registry.needs_colour(one.name, one.options) for one in operations)


def at_strength(names: Sequence[str], strength: float) -> tuple[Operation, ...]:
    """Return operations, each at one strength.

    Args:
        names: of the operations.
        strength: 0, the identity, to 1.
    """
    return tuple(
        Operation(name, registry.module("operation", name).at_strength(strength)) for name in names
    )
