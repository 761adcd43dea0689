"""Cut the phases of a recipe to a budget of time, once, before the first step."""

from __future__ import annotations

from collections.abc import Sequence

from kerastl import adaptation
from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.progress import say, track
from kerastl.recipe import Method, Phase, Recipe
from kerastl.stages.methods import candidates, phases_of, step_of
from kerastl.stages.phases import expanded_phases
from kerastl.stages.plan import Plan
from kerastl.training import Cost, cost_of
from kerastl.training import Phase as TrainingPhase


def within_budget(recipe: Recipe, plan: Plan) -> tuple[Recipe, tuple[Cost, ...]]:
    """Return the recipe with phases that fit its budget, and no budget: what was decided holds from here on.

    Return also what the phases cost, where they were timed for it; nothing otherwise.

    Args:
        recipe: a phase that is a part of a longer one is not cut.
        plan: the same phases in the words of training, the model and the pictures.

    Raises:
        RequestError: one epoch a phase is more than the budget.
    """
    costs: tuple[Cost, ...] = ()
    if recipe.budget is None:
        return recipe, costs
    if plan.began is not None:
        epochs = [one["epochs"] for one in plan.began["phases"]]
    else:
        pairs = list(zip(plan.phases, plan.beside, strict=True))
        costs = tuple(
            _cost(recipe, plan, phase, target)
            for phase, target in track(pairs, "timing the phases")
        )
        parts = expanded_phases(recipe)
        counts = cut_to([part for _, part in parts], costs, 60 * recipe.budget.minutes)
        epochs = [phase.epochs for phase in recipe.phases]
        for (owner, part), count in zip(parts, counts, strict=True):
            if not part.is_part:
                epochs[owner] = count
    if len(epochs) != len(recipe.phases):
        return recipe, costs
    cut = tuple(
        phase.model_copy(update={"epochs": count})
        for phase, count in zip(recipe.phases, epochs, strict=True)
    )
    return recipe.model_copy(update={"phases": cut, "budget": None}), costs


def _cost(recipe: Recipe, plan: Plan, phase: TrainingPhase, target: ImageDataset | None) -> Cost:
    """Time a phase; one that methods of adaptation learn in counts for each of them."""
    model, train, val = plan.start.model, plan.trains.get(phase.domain), plan.vals.get(phase.domain)
    if target is None:
        return cost_of(model, train, val, phase=phase)
    found = [
        (method, own)
        for method in candidates(recipe)[1:]
        for own in phases_of(recipe, method, model)
        if own.name == phase.name
    ]
    once = epoch = 0.0
    for alike in _alike(found):
        method, own = alike[0]
        step_for = step_of(recipe, method, model)
        one = cost_of(model, train, val, phase=own, target=target, step_for=step_for)
        once, epoch = once + len(alike) * one.once, epoch + len(alike) * one.epoch
    return Cost(once, epoch)


def _alike(
    found: Sequence[tuple[Method, TrainingPhase]],
) -> list[list[tuple[Method, TrainingPhase]]]:
    """Return methods whose steps take about the same time, together; the first is timed for all of them.

    What takes the time, a pass for each domain, is the same for most. One that changes pictures stands for itself.
    """
    changing = [one for one in found if adaptation.method_named(one[0].name).changes_pixels]
    others = [one for one in found if one not in changing]
    return [*([others] if others else []), *([one] for one in changing)]


def cut_to(phases: Sequence[Phase], costs: Sequence[Cost], seconds: float) -> list[int]:
    """Return the epochs of each phase, all cut by one factor, that take no more than some seconds.

    Raises:
        RequestError: one epoch of each takes longer.
    """

    def cut(factor: float) -> list[int]:
        return [
            phase.epochs if phase.is_part else max(1, int(phase.epochs * factor))
            for phase in phases
        ]

    def takes(epochs: Sequence[int]) -> float:
        return sum(
            cost.once + count * cost.epoch for cost, count in zip(costs, epochs, strict=True)
        )

    whole, least = takes(cut(1.0)), takes(cut(0.0))
    if least > seconds:
        raise RequestError(
            f"budget.minutes: one epoch of each phase takes {least / 60:.1f} minutes here, more than "
            f"{seconds / 60:g}. Raise it, or take smaller pictures: --set data.image_size_px=..."
        )
    if whole <= seconds:
        say(f"The phases take about {whole / 60:.1f} minutes here, within the budget.")
        return cut(1.0)
    # The largest factor that fits: an epoch more or less is decided at one of these.
    edges = sorted(
        {count / phase.epochs for phase in phases for count in range(1, phase.epochs + 1)}
    )
    factor = max((edge for edge in edges if takes(cut(edge + 1e-9)) <= seconds), default=0.0)
    epochs = cut(factor + 1e-9)
    told = ", ".join(
        f"{phase.name} {phase.epochs} -> {count}"
        for phase, count in zip(phases, epochs, strict=True)
        if phase.epochs != count
    )
    say(
        f"The phases would take about {whole / 60:.1f} minutes here. Within the budget of {seconds / 60:g}, epochs: {told}."
    )
    return epochs
