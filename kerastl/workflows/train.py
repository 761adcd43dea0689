"""From the recipe's phases to a trained model, with everything written down on the way."""

from __future__ import annotations

from kerastl.adaptation import SOURCE_ONLY
from kerastl.errors import PermanentFailure
from kerastl.recipe import Method, Phase, Recipe
from kerastl.runs import Run
from kerastl.training import History, fit
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phase_data import run_phases, sources_of, time_budget, training_phases
from kerastl.workflows.run_writer import (
    Diary,
    write_freeze_reports,
    write_history,
    write_model,
    write_network,
    write_start,
)

LAST_GOOD = "last_good.keras"
"""The weights before training broke down."""


def train(recipe: Recipe, start: InitialModel, images: Datasets, run: Run, *, resume: bool) -> History:
    """Train through the run's own phases; write history, timings, proofs and checkpoints as they come.

    A model that came in place of the source's images, or that knows the classes already where no phase is at the source, is kept as it
    came: it is the one that was not adapted.

    Args:
        recipe: the phases, augmentation and seed.
        start: the model; it ends with its best weights.
        images: the splits; only training and validation images are opened.
        run: where the files go.
        resume: go on from the newest checkpoint.

    Raises:
        PermanentFailure: training broke down; the last good weights lie in `last_good.keras`.
    """
    phases, every = run_phases(recipe), training_phases(recipe)
    found = sources_of(recipe, images, phases)
    if recipe.source is not None or (not phases and start.head.outcome == "kept"):
        return _as_it_came(recipe, start, images, run)
    diary = Diary(run, sum(phase.epochs for phase in phases))

    def on_phase_end(phase: Phase, history: History) -> None:
        later = {other.domain for other in every[len(history.freeze_reports) :]}
        if phase.domain == "source" and later == {"target"}:
            _keep_source_only(recipe, start, images, run, history)

    try:
        return fit(
            start.model,
            found.train,
            val=found.val,
            phases=phases,
            callbacks=time_budget(recipe, phases),
            on_epoch=diary.on_epoch,
            on_freeze_report=diary.on_freeze_report,
            on_phase_end=on_phase_end,
            checkpoints=run.file("checkpoints"),
            resume=resume,
        )
    except PermanentFailure as error:
        if not run.file("history.jsonl").is_file():
            raise
        write_network(start.model, run.file(LAST_GOOD))
        raise PermanentFailure(
            f"{error}\nThe last good weights: --set backbone.weights={run.file(LAST_GOOD)}"
        ) from error


def _as_it_came(recipe: Recipe, start: InitialModel, images: Datasets, run: Run) -> History:
    """Keep a model that had learnt before: it learns in no phase of the run itself."""
    nothing = History((), (), {})
    write_history(run, nothing.rows)
    write_freeze_reports(run, nothing.freeze_reports)
    _keep_source_only(recipe, start, images, run, nothing)
    return nothing


def _keep_source_only(
    recipe: Recipe, start: InitialModel, images: Datasets, run: Run, history: History
) -> None:
    """Write the run as it would have ended at the source, a run folder of its own."""
    own = tuple(phase for phase in recipe.phases if phase.domain == "source")
    so_far = recipe.model_copy(
        update={
            "adaptation": None,
            "phases": own if history.freeze_reports else (),
            "export": recipe.export.model_copy(update={"formats": ()}),
        }
    )
    if not history.freeze_reports and recipe.adaptation is not None:
        # It learnt in no phase of this recipe; its own recipe says what it was asked all the same.
        alone = recipe.adaptation.model_copy(update={"methods": (Method(name=SOURCE_ONLY),)})
        so_far = so_far.model_copy(update={"adaptation": alone, "phases": recipe.phases})
    inner = Run(run.file("runs") / SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(so_far, start, images, inner, resume=False)
    write_history(inner, history.rows)
    write_freeze_reports(inner, history.freeze_reports)
    write_model(so_far, start.model, images, inner)
