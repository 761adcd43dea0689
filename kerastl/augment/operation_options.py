"""Options of operations: parsing, shared types, nesting, preview extremes. TensorFlow is not imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen

from kerastl import registry
from kerastl.errors import Problem, Problems, raise_problems
from kerastl.options import Plugin, list_problems
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
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise Problems(subject, [Problem(where, f"must be a list, got {values!r}.")])
    results = [plugin.read(value) for value in values]
    errors = [((index, *loc), message) for index, (_, below) in enumerate(results) for loc, message in below]
    raise_problems(subject, list_problems(errors, where))
    return [(operation.name, operation.options) for operation, _ in results]


FillMode = Literal["reflect", "wrap", "nearest", "constant"]
"""How a row a b c d continues outside the image: `reflect` d c b a, `wrap` a b c d, `nearest` d d d d, `constant` black."""
Operations = Annotated[tuple[NamedOperation, ...], MinLen(1)]
Degrees = Annotated[float, Ge(0), Le(180)]
Level = Annotated[float, Ge(0), Le(255)]
"""A pixel level."""
MaskFill = Literal["constant", "gaussian_noise"]
"""Noise has a standard deviation of 42.5 levels and is clipped to [0, 255]."""
MIDDLE_GRAY = 127.5


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


def _nested_operations(operation: Any) -> Sequence[NamedOperation]:
    nested = getattr(getattr(operation, "options", None), "operations", ())
    return [inner for inner in nested if isinstance(inner, NamedOperation)]


def scaled_options(name: str) -> dict[str, tuple[Any, Any]]:
    """Return the values at strength 0 and 1 of the options of an operation that depend on its strength."""
    weakest, strongest = (registry.module("operation", name).at_strength(strength) for strength in (0.0, 1.0))
    ends = {key: (getattr(weakest, key), getattr(strongest, key)) for key in type(weakest).model_fields}
    return {key: (start, end) for key, (start, end) in ends.items() if start != end}


def is_identity(name: str, options: Any) -> bool:
    """Return whether an operation leaves every image unchanged.

    By default, it does if all nested operations do, or, without these, if its options are those of strength 0.
    """
    module: Any = registry.module("operation", name)
    if options.apply_probability == 0:
        return True
    if hasattr(module, "is_identity"):
        return bool(module.is_identity(options))
    if hasattr(options, "operations"):
        return are_identities(options.operations)
    return all(getattr(options, key) == start for key, (start, _) in scaled_options(name).items())


def are_identities(operations: Sequence[NamedOperation]) -> bool:
    """Return whether every operation leaves every image unchanged."""
    return all(is_identity(operation.name, operation.options) for operation in operations)


def any_needs_color(operations: Sequence[NamedOperation]) -> bool:
    """Return whether an operation requires color images."""
    return any(registry.needs_color(operation.name, operation.options) for operation in operations)


def at_strength(names: Sequence[str], strength: float) -> tuple[NamedOperation, ...]:
    """Return the named operations with options for one strength, 0 (identity) to 1."""
    return tuple(
        NamedOperation(name=name, options=registry.module("operation", name).at_strength(strength))
        for name in names
    )


Quantile = float | tuple[float, ...] | None
"""Position in the range of a random number, 0 to 1, or one position per element of the last axis; None is random."""


@dataclass(frozen=True)
class Extreme:
    """One extreme of an operation, such as the largest rotation to the left.

    Args:
        description: Its strength, in the units of the options.
        quantiles: Positions of the random numbers that the operation draws, in order.
        rest: Position of all further random numbers.
    """

    description: str
    quantiles: tuple[Quantile, ...] = ()
    rest: Quantile = None


def range_ends(lower: str, upper: str) -> list[Extreme]:
    """Return the lower and the upper end of the range of every random number."""
    return [Extreme(lower, rest=0.0), Extreme(upper, rest=1.0)]


def percent(fraction: float) -> str:
    """Format a fraction, e.g. `40%`."""
    return f"{100 * fraction:g}%"
