"""What a moved image shows where it has nothing to show. No TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from kerastl import registry
from kerastl.recipe import Operation

FillMode = Literal["reflect", "wrap", "nearest", "constant"]
"""Outside of a row a b c d: `reflect` d c b a, `wrap` a b c d, `nearest` a or d, `constant` black."""


Operations = Annotated[tuple[Operation, ...], MinLen(1)]


def check_nesting_depth(options: Any) -> Iterator[tuple[str, str]]:
    """Rule of the options of an operation that contains others: these contain others at most once more."""
    for index, outer in enumerate(options.operations):
        for inner in _contained(outer):
            if _contained(inner):
                yield (
                    f"operations[{index}]",
                    f"{inner.name} is nested too deep: an operation that contains others may be inside one such "
                    "operation, not inside two. Write its operations in its place.",
                )


def _contained(operation: Any) -> Sequence[Operation]:
    found = getattr(getattr(operation, "options", None), "operations", ())
    return [one for one in found if isinstance(one, Operation)]


def are_identities(operations: Sequence[Operation]) -> bool:
    """Tell whether every one of the operations is the identity."""
    return all(
        registry.module("operation", one.name).is_identity(one.options) or one.options.apply_probability == 0
        for one in operations
    )


def any_needs_color(operations: Sequence[Operation]) -> bool:
    """Tell whether one of the operations makes no sense on images of one channel."""
    return any(registry.needs_color(one.name, one.options) for one in operations)


def at_strength(names: Sequence[str], strength: float) -> tuple[Operation, ...]:
    """Return operations, each at one strength.

    Args:
        names: of the operations.
        strength: 0, the identity, to 1.
    """
    return tuple(
        Operation(name=name, options=registry.module("operation", name).at_strength(strength))
        for name in names
    )
