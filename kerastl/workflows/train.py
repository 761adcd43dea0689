"""Train the model of a run in phases, and write the history, freeze checks and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerastl.adaptation import SOURCE_ONLY
from kerastl.errors import PermanentFailure
from kerastl.evaluation import load_trained
from kerastl.recipe import Phase
from kerastl.runs import Run
from kerastl.selection.evidence import Evidence
from kerastl.training import History, fit
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.resolve import Plan, datasets_by_domain
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


@dataclass(frozen=True)
class Candidate:
    """A trained model that an adaptation can select.

    Args:
        name: `source_only`, or the name of the method.
        run: Its run folder.
        weights: The weights, as `keras.Model.get_weights` returns them.
        freeze_reports: One freeze check per phase.
        target_phase: The phase in which BatchNorm adopted target statistics; None if it has source
            statistics.
        evidence: Its outputs without target labels. None if no selection follows.
        faults: Failed checks.
    """

    name: str
    run: Run
    weights: list[np.ndarray[Any, Any]]
    freeze_reports: Sequence[dict[str, Any]]
    target_phase: Phase | None = None
    evidence: Evidence | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trained:
    """The model after the phases of the run itself.

    Args:
        model: The model, with its best weights.
        history: History and freeze checks.
        source_only: The model before the adaptation. None if it was not kept, because no phase at the target
            follows.
    """

    model: keras.Model
    history: History
    source_only: Candidate | None


def train(initial: InitialModel, plan: Plan, datasets: Datasets, run: Run, *, resume: bool) -> Trained:
    """Train the phases of the run itself, except for those of adaptation methods.

    If target phases follow, the model before adaptation is written to `runs/source_only`.

    Args:
        initial: The initial model. After training, it has the best weights.
        plan: The phases.
        datasets: All images. Only training and validation images are opened.
        run: The run folder.
        resume: Continue from the newest checkpoint.

    Raises:
        PermanentFailure: Training diverged. The last good weights are in `last_good.keras`.
    """
    if plan.phases is None:
        history = History((), (), {})
        write_history(run, history.rows)
        write_freeze_reports(run, history.freeze_reports)
        return Trained(initial.model, history, _write_source_only(initial, plan, datasets, run, history))
    trains, vals = (datasets_by_domain(datasets, plan.phases, split) for split in ("train", "val"))
    writer = HistoryWriter(run, sum(phase.epochs for phase in plan.phases))

    source_only: Candidate | None = None

    def on_phase_end(_: Phase, history: History) -> None:
        nonlocal source_only
        if len(history.freeze_reports) == plan.num_before:
            source_only = _write_source_only(initial, plan, datasets, run, history)

    try:
        history = fit(
            initial.model,
            trains,
            val=vals,
            phases=plan.phases,
            callbacks=plan.time_budget(plan.phases),
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
    if plan.num_before is not None and source_only is None:
        # The run was interrupted after these phases.
        inner = Run(run.file("runs") / SOURCE_ONLY)
        weights = load_trained(inner.path).model.get_weights()
        source_only = Candidate(SOURCE_ONLY, inner, weights, history.freeze_reports[: plan.num_before])
    return Trained(initial.model, history, source_only)


def _write_source_only(
    initial: InitialModel, plan: Plan, datasets: Datasets, run: Run, history: History
) -> Candidate:
    """Write the model before adaptation to its own run folder, with a recipe that reproduces it."""
    inner = Run(run.file("runs") / SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(plan.source_recipe, initial, datasets, inner, resume=False)
    write_history(inner, history.rows)
    write_freeze_reports(inner, history.freeze_reports)
    write_model(initial.model, datasets, inner)
    return Candidate(SOURCE_ONLY, inner, initial.model.get_weights(), history.freeze_reports)
