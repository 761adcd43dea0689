"""Train the model of a run through its phases, and write history, freeze checks and checkpoints."""

from __future__ import annotations

from typing import Any

from kerastl.adaptation import SOURCE_ONLY
from kerastl.errors import PermanentFailure
from kerastl.recipe import Method, Phase, Recipe
from kerastl.runs import Run
from kerastl.training import History, fit
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phases import datasets_by_domain, run_phases, time_budget, training_phases
from kerastl.workflows.run_writer import (
    HistoryWriter,
    write_freeze_reports,
    write_history,
    write_model,
    write_network,
    write_start,
)

LAST_GOOD = "last_good.keras"
"""The weights before training diverged."""


def train(recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, *, resume: bool) -> History:
    """Train the phases of the run itself, without those of adaptation methods.

    A model of `source.model`, or one with the same classes and no source phase, is not trained here. If target phases
    follow, the model before adaptation is written to `runs/source_only`.

    Args:
        recipe: The recipe.
        initial: The initial model. Afterwards, it has the best weights.
        datasets: All images. Only training and validation images are opened.
        run: The run folder.
        resume: Continue from the newest checkpoint.

    Returns:
        The history of the trained phases.

    Raises:
        PermanentFailure: Training diverged. The last good weights are in `last_good.keras`.
    """
    phases, all_phases = run_phases(recipe), training_phases(recipe)
    if recipe.source is not None or (not phases and initial.head.outcome == "kept"):
        history = History((), (), {})
        write_history(run, history.rows)
        write_freeze_reports(run, history.freeze_reports)
        _write_source_only(recipe, initial, datasets, run, history)
        return history
    trains, vals = (datasets_by_domain(datasets, phases, split) for split in ("train", "val"))
    writer = HistoryWriter(run, sum(phase.epochs for phase in phases))

    def on_phase_end(phase: Phase, history: History) -> None:
        later_domains = {later.domain for later in all_phases[len(history.freeze_reports) :]}
        if phase.domain == "source" and later_domains == {"target"}:
            _write_source_only(recipe, initial, datasets, run, history)

    try:
        return fit(
            initial.model,
            trains,
            val=vals,
            phases=phases,
            callbacks=time_budget(recipe, phases),
            on_epoch=writer.on_epoch,
            on_freeze_report=writer.on_freeze_report,
            on_phase_end=on_phase_end,
            checkpoints=run.file("checkpoints"),
            resume=resume,
        )
    except PermanentFailure as error:
        if not run.file("history.jsonl").is_file():
            raise
        write_network(initial.model, run.file(LAST_GOOD))
        raise PermanentFailure(
            f"{error}\nTo start from the last good weights: --set backbone.weights={run.file(LAST_GOOD)}"
        ) from error


def _write_source_only(
    recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, history: History
) -> None:
    """Write the model before adaptation as a run folder of its own, with a recipe that repeats it."""
    source_phases = tuple(phase for phase in recipe.phases if phase.domain == "source")
    export = recipe.export.model_copy(update={"formats": ()})
    update: dict[str, Any] = {
        "adaptation": None, "phases": source_phases if history.freeze_reports else (), "export": export,
    }  # fmt: skip
    if not history.freeze_reports and recipe.adaptation is not None:
        # Without a training phase, the recipe repeats the run only with its adaptation and its phases.
        method = (Method(name=SOURCE_ONLY),)
        update["adaptation"] = recipe.adaptation.model_copy(update={"methods": method})
        update["phases"] = recipe.phases
    recipe = recipe.model_copy(update=update)
    inner = Run(run.file("runs") / SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(recipe, initial, datasets, inner, resume=False)
    write_history(inner, history.rows)
    write_freeze_reports(inner, history.freeze_reports)
    write_model(recipe, initial.model, datasets, inner)
