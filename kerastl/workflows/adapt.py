"""Train one candidate per adaptation method, and select one without target labels."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from kerastl import adaptation, report, selection
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_status, status
from kerastl.data.records import evenly_spaced
from kerastl.errors import Diverged
from kerastl.evaluation.trained_model import MODEL, load_network
from kerastl.recipe import Method
from kerastl.runs import Adaptation, Freeze, Run, Summary, schemas
from kerastl.selection.evidence import Evidence
from kerastl.training import preserve_values
from kerastl.workflows.collect_outputs import SelectionData, collect_evidence, collect_renormalized_evidence
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.exports import Sample, check_run
from kerastl.workflows.model import InitialModel
from kerastl.workflows.resolve import CandidatePlan, Plan
from kerastl.workflows.run_writer import write_network, write_start
from kerastl.workflows.train import Candidate, Trained, train_phases

PREVIEW_ROWS = 4


@dataclass(frozen=True)
class Candidates:
    """The candidates of an adaptation.

    Args:
        trained: `source_only` first; empty if no phase trains at the target.
        diverged: The quantity that diverged, for each method whose training failed.
        renormalized: Evidence of `source_only` with separate BatchNorm statistics per domain. None without
            BatchNorm, or without a selection.
    """

    trained: tuple[Candidate, ...]
    diverged: dict[str, str]
    renormalized: Evidence | None

    @property
    def faults(self) -> list[str]:
        """The failed checks of all candidates."""
        return [fault for candidate in self.trained for fault in candidate.faults]


def train_candidates(
    initial: InitialModel,
    trained: Trained,
    plan: Plan,
    datasets: Datasets,
    sample: Sample,
    run: Run,
    *,
    resume: bool,
) -> Candidates:
    """Train each candidate, collect its outputs for the selection, check its determinism, and write it.

    Each candidate has its own run folder under `runs/`. A resumed run does not retrain finished candidates. A
    candidate is excluded if its training diverges.

    Args:
        initial: The initial model, for the files of the candidates.
        trained: The model after the source phases.
        plan: The candidates.
        datasets: All images. No test image is opened. Target labels are used only by methods that train on
            them.
        sample: The images of the check.
        run: The run folder.
        resume: Whether the run is resumed.

    Raises:
        PermanentFailure: A frozen variable changed.
    """
    model = trained.model
    if not plan.candidates:
        return Candidates(_checked_source_only(trained, sample), {}, None)
    # All variables, because the state of random generators would make a candidate depend on earlier ones.
    initial_values = [(variable, variable.numpy()) for variable in model.variables]
    training_data, selection_data = _training_data(datasets), SelectionData.of(plan, datasets, model)
    # Without source images, this is what the candidates start from: statistics of augmented images.
    statistics_data = selection_data.target if datasets.has_source else training_data["target"]
    renormalized = collect_renormalized_evidence(model, selection_data, statistics_data)
    _write_style_preview([planned.method for planned in plan.candidates], datasets, run)
    candidates: list[Candidate] = []
    diverged: dict[str, str] = {}
    for number, planned in enumerate(plan.candidates, 1):
        name = planned.method.name
        print_status(f"Candidate {number} of {len(plan.candidates)}: {name}")
        for variable, value in initial_values:
            variable.assign(value)
        try:
            candidate = _obtain(planned, plan, initial, trained, datasets, training_data, run, resume=resume)
        except Diverged as error:
            diverged[name] = error.what
            print_status(f"Warning: {name} is excluded: {error.what}")
            continue
        before = candidates[0].evidence if candidates else None
        if planned.target_phase is not None and renormalized is not None:
            before = renormalized
        with status(f"Predicting with {name} for the selection", prints_line=False):
            evidence = collect_evidence(model, selection_data, planned.target_phase, initial=before)
            faults = check_run(model, sample, candidate.run, candidate.freeze_reports, {})
        candidates.append(replace(candidate, evidence=evidence, faults=tuple(faults)))
    return Candidates(tuple(candidates), diverged, renormalized)


def _training_data(datasets: Datasets) -> dict[str, Any]:
    """Return the images that `fit` trains each candidate on. They are shared, so that each image is decoded once."""
    train, val = datasets.in_split("train"), datasets.in_split("target_val")
    return {
        "train": datasets.dataset(train, training=True) if datasets.has_source else {},
        # Source images are unsuitable for validation, because BatchNorm has target statistics.
        "val": datasets.dataset(val) if val else None,
        "target": datasets.target_training(),
    }


def _checked_source_only(trained: Trained, sample: Sample) -> tuple[Candidate, ...]:
    """Return the checked model before fine-tuning at the target, or an empty tuple if there is none."""
    source_only = trained.source_only
    if source_only is None:
        return ()
    with preserve_values(trained.model.weights):
        trained.model.set_weights(source_only.weights)
        faults = check_run(trained.model, sample, source_only.run, source_only.freeze_reports, {})
    return (replace(source_only, faults=tuple(faults)),)


def _obtain(
    planned: CandidatePlan,
    plan: Plan,
    initial: InitialModel,
    trained: Trained,
    datasets: Datasets,
    training_data: Mapping[str, Any],
    run: Run,
    *,
    resume: bool,
) -> Candidate:
    """Train one candidate and write it as a run folder of its own, or read it if it was trained before an interruption.

    The model gets its weights.
    """
    model, method = trained.model, planned.method
    if method.name == SOURCE_ONLY and trained.source_only is not None:
        return trained.source_only
    inner = run.inner(method.name)
    if inner.file(MODEL).is_file():
        model.set_weights(load_network(inner.path).get_weights())
        freeze_reports = [phase.to_json() for phase in Freeze.read(inner.path).phases]
        phases = Summary.read(inner.path).phases
        print_status(f"  {method.name} was trained before the interruption.")
        return Candidate(
            method.name, inner, model.get_weights(), freeze_reports, phases, planned.target_phase
        )
    resume = resume and inner.started
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(planned.recipe, initial, datasets, inner, resume=resume)
    step_for = adaptation.step_for(
        method.name, model, method.options, seed=datasets.seed, without_source=not datasets.has_source
    )
    history = train_phases(
        model, planned.phases, plan, inner, resume=resume, step_for=step_for, **training_data
    )
    before = trained.source_only.phases if trained.source_only else trained.history.phases
    phases = (*before, *history.phases)
    Summary(phases=phases).write(inner.path)  # read if the run is resumed
    write_network(model, inner.file(MODEL))
    shutil.rmtree(inner.file("checkpoints"), ignore_errors=True)
    return Candidate(
        method.name, inner, model.get_weights(), history.freeze_reports, phases, planned.target_phase
    )


def select(candidates: Candidates, plan: Plan, model: keras.Model) -> Adaptation | None:
    """Select a candidate without target labels, and load its weights into the model.

    Args:
        candidates: The candidates.
        plan: The criteria of the selection.
        model: The model.

    Returns:
        The content of `adaptation.json`, as far as it is known without target labels; None without
        candidates.
    """
    if not candidates.trained:
        return None
    block = plan.recipe.adapts_by
    if block is None:
        return _fine_tuned(has_methods=plan.recipe.adaptation is not None)
    evidence = {candidate.name: candidate.evidence for candidate in candidates.trained if candidate.evidence}
    with status("Selecting a model without target labels"):
        decision = selection.decide(
            evidence,
            select_by=[validator.name for validator in block.select_by],
            options={validator.name: validator.options for validator in block.select_by if validator.options},
            assumes_equal_prevalence={
                name for name in evidence if adaptation.get_method(name).assumes_equal_prevalence
            },
            renormalized=candidates.renormalized,
            seed=plan.recipe.seed,
        )
    (chosen,) = [candidate for candidate in candidates.trained if candidate.name == decision.chosen]
    model.set_weights(chosen.weights)
    return decision.model_copy(update={"diverged": candidates.diverged})


def _fine_tuned(*, has_methods: bool) -> Adaptation:
    """Return the content of `adaptation.json` for a model that was fine-tuned on target labels."""
    reason = "The recipe has one method, fine-tuning on target labels."
    if has_methods:
        reason = "Target labels are available, so the model was fine-tuned on them."
    return Adaptation(
        candidates={name: schemas.Candidate(validators={}) for name in (SOURCE_ONLY, "fine_tune")},
        chosen="fine_tune",
        verdict="cannot_tell",
        reason=f"{reason} No candidates were compared without labels. The effect is under target_test.",
        target_test=None,
        oracle=None,
    )


def _write_style_preview(methods: Sequence[Method], datasets: Datasets, run: Run) -> None:
    """Write `style_preview.png`: training images before and after each method that changes pixels, if any."""
    changing = [method for method in methods if adaptation.get_method(method.name).changes_pixels]
    if not changing:
        return
    source, target = datasets.in_split("train"), datasets.target_training_records
    rows = min(PREVIEW_ROWS, len(source), len(target), datasets.batch_size)
    # Evenly spaced, because neighboring images are from the same class or patient.
    batches = {
        domain: next(iter(datasets.dataset(evenly_spaced(records, rows)).indexed_batches(0)))
        for domain, records in (("source", source), ("target", target))
    }
    changed = dict(_changed_images(method, datasets, batches) for method in changing)
    report.write_style_sheet(run.path, batches["source"][0], batches["target"][0], changed)


def _changed_images(method: Method, datasets: Datasets, batches: Any) -> tuple[str, Any]:
    """Return a title and the images that a method produces."""
    options = adaptation.method_options(method.name, method.options)
    if hasattr(options, "share"):
        options = options.model_copy(update={"share": 1.0})
    step: Any = adaptation.build_step(
        method.name, options, num_classes=len(datasets.class_names), num_features=1, seed=datasets.seed,
    )  # fmt: skip
    name = method.name.replace("_", " ")
    title = name if step.changed_stream == "source" else f"{name}, of the {step.changed_stream}"
    return title, step.change_images(batches, tf.constant(0.0)).numpy()
