"""The strongest settings of an operation, for the preview: which random numbers give them. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Format a fraction, e.g. `40 %`."""
    return f"{100 * fraction:g} %"
