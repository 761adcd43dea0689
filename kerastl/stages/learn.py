"""From the recipe's phases to a trained model, with everything written down on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kerastl import recipe as recipes
from kerastl import training
from kerastl.data import EpochSource
from kerastl.errors import WouldFailAgain
from kerastl.progress import say
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.budget import within_budget
from kerastl.stages.diary import Diary, write_history, write_proofs
from kerastl.stages.memory import within_memory
from kerastl.stages.model import Start
from kerastl.stages.pictures import Pictures
from kerastl.stages.plan import Plan, began_with
from kerastl.stages.record import write_beginning, write_model, write_network
from kerastl.training import Cost, History, Phase, Trainable, fit

SOURCE_ONLY = "source_only"
"""The run inside a run that holds the model before it saw the target's labels."""
LAST_GOOD = "last_good.keras"
"""The weights before training broke down."""


def decide_phases(
    recipe: Recipe, start: Start, pictures: Pictures, run: Run, *, resume: bool
) -> tuple[Recipe, tuple[Cost, ...]]:
    """Return the recipe with all decided that its phases leave open; see that each of them can be run.

    Return also what each phase costs, where that was timed for a budget; nothing otherwise.

    Args:
        recipe: checked.
        start: the model.
        pictures: the splits.
        run: what was decided when it began holds when it goes on.
        resume: whether it goes on.

    Raises:
        Problems: blocks, layers, pictures or figures that are not there, a cache that would change what is
            learnt or has no room; all together. Nothing was written.
        RequestError: the budget or the memory is too small.
    """
    open_ones = training_phases(recipe)
    trains, vals = _trains_and_vals(recipe, pictures, open_ones)
    phases = training.decide_phases(open_ones, trains)
    training.check_phases(
        start.model, phases, trains=trains, vals=vals, cache_dir=training.activations_folder()
    )
    for phase in phases:
        if phase.cache != "none":
            sources = [one[phase.domain] for one in (trains, vals) if phase.domain in one]
            say(training.cache_line(start.model, phase, sources))
    decided = tuple(
        dataclasses.replace(one, cache=phase.cache)
        for one, phase in zip(recipe.phases, phases, strict=True)
    )
    recipe = dataclasses.replace(recipe, phases=decided)
    plan = Plan(phases, start, trains, vals, began_with(run, resume=resume))
    sized = within_memory(recipe, plan)
    if sized.data.batch_size != recipe.data.batch_size:
        recipe = sized
        trains, vals = _trains_and_vals(recipe, pictures, phases)
        plan = dataclasses.replace(plan, trains=trains, vals=vals)
    return within_budget(recipe, plan)


def learn(
    recipe: Recipe,
    start: Start,
    pictures: Pictures,
    run: Run,
    *,
    resume: bool,
    costs: Sequence[Cost] = (),
) -> History:
    """Train through all phases; write history, timings, proofs and checkpoints as they come.

    Args:
        recipe: the phases, augmentation and seed.
        start: the model; it ends with its best weights.
        pictures: the splits; only training and validation pictures are opened.
        run: where the files go.
        resume: go on from the newest checkpoint.
        costs: of each phase, where they are known: for the time that is left.

    Raises:
        WouldFailAgain: training broke down; the last good weights lie in `last_good.keras`.
    """
    phases = training_phases(recipe)
    diary = Diary(run, sum(phase.epochs for phase in phases))

    def on_phase_end(phase: Phase, history: History) -> None:
        later = {other.domain for other in phases[len(history.proofs) :]}
        if phase.domain == "source" and later == {"target"}:
            _keep_source_only(recipe, start, pictures, run, history)

    try:
        return fit(
            start.model,
            _sources(recipe, pictures, phases, "train"),
            val=_sources(recipe, pictures, phases, "val"),
            phases=phases,
            on_epoch=diary.on_epoch,
            on_proof=diary.on_proof,
            on_phase_end=on_phase_end,
            checkpoints=run.file("checkpoints"),
            resume=resume,
            costs=costs,
        )
    except WouldFailAgain as error:
        if not run.file("history.jsonl").is_file():
            raise
        write_network(start.model, run.file(LAST_GOOD))
        raise WouldFailAgain(
            f"{error}\nThe last good weights: --set backbone.weights={run.file(LAST_GOOD)}"
        ) from error


def training_phases(recipe: Recipe) -> list[Phase]:
    """Return the phases of a recipe in the words of the training room."""
    found = []
    for phase in recipe.phases:
        values = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
        stretch = phase.stretch and (phase.stretch.before, phase.stretch.epochs)
        told = {
            "trainable": _trainable(phase.trainable),
            "rates": {one.block: one.factor for one in phase.rates},
            "stretch": stretch,
        }
        found.append(Phase(**values | told))
    return found


def _trainable(choice: Any) -> Trainable:
    if isinstance(choice, recipes.TopFraction):
        return Trainable("top_fraction", fraction=choice.top_fraction)
    if isinstance(choice, recipes.FromBlock):
        return Trainable("from_block", text=choice.from_block)
    if isinstance(choice, recipes.LayerNames):
        return Trainable("names", text=choice.names)
    return Trainable(choice)


def _sources(
    recipe: Recipe, pictures: Pictures, phases: Sequence[Phase], split: str
) -> dict[str, EpochSource]:
    """Return one epoch source for each domain that a phase learns from and that has such pictures."""
    found: dict[str, EpochSource] = {}
    for domain in dict.fromkeys(phase.domain for phase in phases):
        name = split if domain == "source" else f"target_{split}"
        if pictures.of(name):
            found[domain] = pictures.source(recipe, name, training=split == "train")
    return found


def _trains_and_vals(
    recipe: Recipe, pictures: Pictures, phases: Sequence[Phase]
) -> tuple[dict[str, EpochSource], dict[str, EpochSource]]:
    return _sources(recipe, pictures, phases, "train"), _sources(recipe, pictures, phases, "val")


def _keep_source_only(
    recipe: Recipe, start: Start, pictures: Pictures, run: Run, history: History
) -> None:
    """Write the run as it would have ended without the target's labels, a run folder of its own."""
    inner = Run(run.file("runs") / SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    so_far = dataclasses.replace(
        recipe,
        phases=recipe.phases[: len(history.proofs)],
        export=dataclasses.replace(recipe.export, formats=()),
    )
    write_beginning(so_far, start, pictures, inner, resume=False)
    write_history(inner, history.rows)
    write_proofs(inner, history.proofs)
    write_model(so_far, start.model, pictures, inner)
