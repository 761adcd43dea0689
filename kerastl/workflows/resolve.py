"""Everything about the phases of a recipe that must be decided, and must hold, before the first step."""

from __future__ import annotations

import dataclasses

from kerastl import training
from kerastl.console import print_status
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.workflows.batch_memory import within_memory
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phase_data import (
    check_methods,
    expanded_phases,
    own_phases,
    phases_of_methods,
    sources_of,
    target_stream,
)
from kerastl.workflows.plan import Plan, began_with


def resolve(recipe: Recipe, start: InitialModel, images: Datasets, run: Run, *, resume: bool) -> Recipe:
    """Return the recipe with all decided that its phases leave open; see that each of them can be run.

    Args:
        recipe: checked.
        start: the model.
        images: the splits.
        run: what was decided when it began holds when it goes on.
        resume: whether it goes on.

    Raises:
        Problems: blocks, layers, images or figures that are not there, methods that have nothing to learn, a cache that
            would change what is learnt or has no room; all together. Nothing was written.
        RequestError: the memory is too small.
    """
    check_methods(recipe, images, start.model)
    plan = _plan(recipe, start, images, run, resume=resume)
    training.check_phases(
        start.model, plan.phases, trains=plan.trains, vals=plan.vals,
        cache_dir=training.activations_folder(), reads=plan.reads,
    )  # fmt: skip
    for phase, read in zip(plan.phases, plan.reads, strict=True):
        if phase.cache != "none":
            val = [plan.vals[phase.domain]] if phase.domain in plan.vals else []
            print_status(training.cache_line(start.model, phase, [*read, *val]))
    caches: dict[int, str] = {}
    for (owner, _), phase in zip(expanded_phases(recipe), plan.phases, strict=True):
        caches.setdefault(owner, phase.cache)
    decided = tuple(
        phase.model_copy(update={"cache": caches[index]}) for index, phase in enumerate(recipe.phases)
    )
    return within_memory(recipe.model_copy(update={"phases": decided}), plan)


def _plan(recipe: Recipe, start: InitialModel, images: Datasets, run: Run, *, resume: bool) -> Plan:
    own, of_methods = own_phases(recipe), phases_of_methods(recipe)
    phases, target = [*own, *of_methods], target_stream(recipe, images)
    found = sources_of(recipe, images, phases)
    beside = [None] * len(own) + [target] * len(of_methods)
    plan = Plan(phases, start, found.train, found.val, beside, began_with(run, resume=resume))
    decided = training.decide_phases(phases, found.train, reads=plan.reads)
    return dataclasses.replace(plan, phases=decided)
