"""Which operations are tried, and how strong: a few rungs up to full strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerastl import registry

STRENGTHS = (0.25, 0.5, 1.0)
PROBABILITY = "apply_probability"


@dataclass(frozen=True)
class Trial:
    """One operation at one strength.

    Args:
        name: of the operation.
        strength: above 0 to 1: of the strongest that makes sense on photographs, or of the recipe's own.
        options: as judged: every picture is changed.
        pasted: as a recipe would say it, with its own `apply_probability`.
    """

    name: str
    strength: float
    options: Any
    pasted: Any


def ladder(name: str, strengths: Sequence[float] = STRENGTHS) -> list[Trial]:
    """Return an operation at rising strengths, 1 being the strongest that makes sense on photographs.

    An operation whose strength is how often it is applied has one rung: what it does to a picture is the
    same at every strength.

    Raises:
        RequestError: there is no such operation.
    """
    module = registry.module("operation", name)
    rungs = [(strength, module.at_strength(strength)) for strength in strengths]
    return _distinct(name, rungs)


def own_ladder(name: str, options: Any, strengths: Sequence[float] = STRENGTHS) -> list[Trial]:
    """Return an operation at fractions of a recipe's own options, 1 being these options themselves.

    What grows with the strength is what `at_strength` of the operation makes grow; everything else, such as
    the direction of a flip, stays as it is in the recipe.
    """
    module = registry.module("operation", name)
    nothing, full = module.at_strength(0.0), module.at_strength(1.0)
    growing = [
        name
        for name in type(options).model_fields
        if name != PROBABILITY
        and _is_number(getattr(options, name))
        and _is_number(getattr(nothing, name))
        and getattr(nothing, name) != getattr(full, name)
    ]
    rungs = []
    for strength in strengths:
        values = {
            one: _between(getattr(nothing, one), getattr(options, one), strength) for one in growing
        }
        rungs.append((strength, options.model_copy(update=values)))
    return _distinct(name, rungs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(start: float, end: float, share: float) -> float:
    value = start + (end - start) * share
    return round(value) if isinstance(start, int) and isinstance(end, int) else value


def _distinct(name: str, rungs: Sequence[tuple[float, Any]]) -> list[Trial]:
    """Judge every picture changed; of rungs that are then alike keep the strongest, drop those that do nothing."""
    is_identity = registry.module("operation", name).is_identity
    trials: dict[Any, Trial] = {}
    for strength, pasted in rungs:
        options = pasted.model_copy(update={"apply_probability": 1.0})
        if not is_identity(options):
            trials[options] = Trial(name, strength, options, pasted)
    return sorted(trials.values(), key=lambda trial: trial.strength)
