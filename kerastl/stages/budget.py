"""The time budget of a recipe, divided among its trainings."""

from __future__ import annotations

from collections.abc import Sequence

from kerastl.recipe import Phase, Recipe
from kerastl.stages.methods import candidates
from kerastl.stages.phases import own_phases, phases_of_methods
from kerastl.training import TimeBudget


def time_budget(recipe: Recipe, phases: Sequence[Phase]) -> list[TimeBudget]:
    """Return the callback that keeps the phases of one training within its share of the budget.

    The run's own phases and those of each adaptation method have shares in proportion to their epochs.

    Args:
        recipe: The recipe; without a budget there is no callback.
        phases: The phases of this training.
    """
    if recipe.budget is None:
        return []
    of_methods = (len(candidates(recipe)) - 1) * _epochs(phases_of_methods(recipe))
    share = _epochs(phases) / (_epochs(own_phases(recipe)) + max(0, of_methods))
    return [TimeBudget(60 * recipe.budget.minutes * share, phases)]


def _epochs(phases: Sequence[Phase]) -> int:
    return sum(phase.epochs for phase in phases)
