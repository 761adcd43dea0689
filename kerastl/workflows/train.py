"""Train the model of a run in phases, and write the history, freeze checks and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_facts, print_status
from kerastl.errors import PermanentFailure, set_option
from kerastl.evaluation.trained_model import MODEL, load_network
from kerastl.recipe import Phase
from kerastl.report import summary_facts
from kerastl.report.tables import rounded_lines
from kerastl.runs import PhaseSummary, Run, Summary, append_line
from kerastl.selection.evidence import Evidence
from kerastl.training import History, fit, newest_checkpoint
from kerastl.training.checkpoint import Checkpoint
from kerastl.workflows import run_writer
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.resolve import Plan, datasets_by_domain

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
        phases: The outcome of each phase, those before the adaptation included.
        target_phase: The phase in which BatchNorm adopted target statistics; None if it has source
            statistics.
        evidence: Its outputs without target labels. None if no selection follows.
        faults: Failed checks.
    """

    name: str
    run: Run
    weights: list[np.ndarray[Any, Any]]
    freeze_reports: Sequence[dict[str, Any]]
    phases: tuple[PhaseSummary, ...] = ()
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
        resume: Whether to continue from the newest checkpoint.

    Raises:
        PermanentFailure: Training diverged. The last good weights are in `last_good.keras`.
    """
    if plan.phases is None:
        history = History((), (), {})
        run_writer.write_history(run, history.rows)
        run_writer.write_freeze_reports(run, history.freeze_reports)
        return Trained(initial.model, history, _write_source_only(initial, plan, datasets, run, history))
    images: dict[str, Any] = {
        split: datasets_by_domain(datasets, plan.phases, split) for split in ("train", "val")
    }
    source_only: Candidate | None = None

    def on_phase_end(_: Phase, history: History) -> None:
        nonlocal source_only
        if len(history.freeze_reports) == plan.num_before:
            source_only = _write_source_only(initial, plan, datasets, run, history)

    try:
        history = train_phases(
            initial.model, plan.phases, plan, run, resume=resume, on_phase_end=on_phase_end, **images
        )
    except PermanentFailure as error:
        if not run.file("history.jsonl").is_file():
            raise
        run_writer.write_network(initial.model, run.file(LAST_GOOD))
        raise PermanentFailure(
            f"{error}\nTo start from the last good weights: {set_option('backbone.weights', run.file(LAST_GOOD))}"
        ) from error
    if plan.num_before is not None and source_only is None:
        # The run was interrupted after these phases.
        inner = run.inner(SOURCE_ONLY)
        weights = load_network(inner.path).get_weights()
        freeze_reports, phases = history.freeze_reports[: plan.num_before], history.phases[: plan.num_before]
        source_only = Candidate(SOURCE_ONLY, inner, weights, freeze_reports, phases)
    return Trained(initial.model, history, source_only)


def train_phases(
    model: keras.Model,
    phases: Sequence[Phase],
    plan: Plan,
    run: Run,
    *,
    resume: bool,
    on_phase_end: Callable[[Phase, History], None] | None = None,
    **options: Any,
) -> History:
    """Train phases, and write and print their epochs, outcomes and freeze checks.

    Args:
        model: The model.
        phases: The phases.
        plan: The plan of the run, which limits the training time.
        run: The run folder.
        resume: Whether to continue from the newest checkpoint.
        on_phase_end: Called after each phase, as in `kerastl.training.fit`.
        **options: Further arguments of `kerastl.training.fit`.
    """
    num_epochs = sum(phase.epochs for phase in phases)
    if resume:
        _print_finished(run, num_epochs)

    def on_epoch(rows: Sequence[dict[str, Any]], timing: dict[str, Any]) -> None:
        append_line(run.file("timings.jsonl"), json.dumps({"epoch": rows[-1]["epoch"], **timing}))
        run_writer.write_history(run, rows)
        print_status(run_writer.epoch_line(rows[-1], timing, num_epochs))

    def on_freeze_report(freeze_reports: Sequence[dict[str, Any]]) -> None:
        last = run_writer.write_freeze_reports(run, freeze_reports).phases[-1]
        for line in [*rounded_lines([last]), *(f"Warning: {warning}" for warning in last.warnings)]:
            print_status(line)

    def on_end(phase: Phase, history: History) -> None:
        print_facts(summary_facts(Summary(), phases=history.phases[-1:]))
        if on_phase_end:
            on_phase_end(phase, history)

    return fit(
        model, phases=phases, callbacks=plan.time_budget(phases), on_epoch=on_epoch, on_phase_end=on_end,
        on_freeze_report=on_freeze_report, checkpoints=run.file("checkpoints"), resume=resume, **options,
    )  # fmt: skip


def _print_finished(run: Run, num_epochs: int) -> None:
    """Print the phases and epochs that were trained before an interruption."""
    path = newest_checkpoint(run.file("checkpoints"))
    if path is None:
        return
    history = Checkpoint(path).state.history()
    print_facts(summary_facts(Summary(), phases=history.phases))
    row = history.rows[-1]
    print_status(f"Resuming after epoch {row['epoch']} of {num_epochs}, in phase {row['phase']}.")


def _write_source_only(
    initial: InitialModel, plan: Plan, datasets: Datasets, run: Run, history: History
) -> Candidate:
    """Write the model before adaptation to its own run folder, with a recipe that reproduces it."""
    inner = run.inner(SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    run_writer.write_start(plan.source_recipe, initial, datasets, inner, resume=False)
    run_writer.write_history(inner, history.rows)
    run_writer.write_freeze_reports(inner, history.freeze_reports)
    run_writer.write_network(initial.model, inner.file(MODEL))
    weights = initial.model.get_weights()
    return Candidate(SOURCE_ONLY, inner, weights, history.freeze_reports, history.phases)
