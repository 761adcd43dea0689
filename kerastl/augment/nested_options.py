"""Option types that operations share, and rules for operations that contain others. No TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from kerastl import registry
from kerastl.recipe import Operation

FillMode = Literal["reflect", "wrap", "nearest", "constant"]
"""How a row a b c d continues outside the image: `reflect` d c b a, `wrap` a b c d, `nearest` d d d d, `constant` black."""
Operations = Annotated[tuple[Operation, ...], MinLen(1)]


def check_nesting_depth(options: Any) -> Iterator[tuple[str, str]]:
    """Yield the location and message of each operation that is nested more than twice."""
    for index, outer in enumerate(options.operations):
        for inner in _nested_operations(outer):
            if _nested_operations(inner):
                yield (
                    f"operations[{index}]",
                    f"{inner.name} is nested too deeply: at most two levels are allowed. "
                    "List its operations in its place.",
                )


def _nested_operations(operation: Any) -> Sequence[Operation]:
    nested = getattr(getattr(operation, "options", None), "operations", ())
    return [inner for inner in nested if isinstance(inner, Operation)]


def are_identities(operations: Sequence[Operation]) -> bool:
    """Return whether every operation leaves every image unchanged."""
    return all(
        registry.module("operation", operation.name).is_identity(operation.options)
        or operation.options.apply_probability == 0
        for operation in operations
    )


def any_needs_color(operations: Sequence[Operation]) -> bool:
    """Return whether an operation requires color images."""
    return any(registry.needs_color(operation.name, operation.options) for operation in operations)


def at_strength(names: Sequence[str], strength: float) -> tuple[Operation, ...]:
    """Return the named operations with options for one strength, 0 (identity) to 1."""
    return tuple(
        Operation(name=name, options=registry.module("operation", name).at_strength(strength))
        for name in names
    )
