"""Train a candidate per adaptation method, and select one without target labels."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerastl import adaptation, report, selection
from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_status
from kerastl.data import ImageDataset, Record
from kerastl.errors import Diverged
from kerastl.evaluation import load_trained
from kerastl.recipe import Recipe
from kerastl.runs import RESOLVED_RECIPE, Run
from kerastl.selection.evidence import Evidence
from kerastl.training import fit, unfreeze
from kerastl.workflows.collect_outputs import SelectionData, collect_evidence, collect_renormalized_evidence
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phases import (
    build_step_factory,
    candidate_methods,
    candidate_phases,
    target_dataset,
    target_training_records,
    time_budget,
)
from kerastl.workflows.run_writer import HistoryWriter, write_model, write_start

PREVIEW_ROWS = 4


@dataclass(frozen=True)
class TrainingData:
    """The images that all candidates are trained on. They are shared, so that each image is decoded once.

    Args:
        train: Source images; None if unavailable.
        val: Labeled target validation images. Source images are unsuitable, because BatchNorm has target statistics.
        target: Target images.
    """

    train: ImageDataset | None
    val: ImageDataset | None
    target: ImageDataset | None

    @classmethod
    def of(cls, recipe: Recipe, datasets: Datasets) -> TrainingData:
        """Return the images of a run."""
        train, val = datasets.in_split("train"), datasets.in_split("target_val")
        return cls(
            datasets.dataset(train, training=True) if datasets.has_source else None,
            datasets.dataset(val) if val else None,
            target_dataset(recipe, datasets),
        )


def adapt(
    recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, *, resume: bool
) -> dict[str, Any] | None:
    """Train every candidate, select one without target labels, and give its weights to the model.

    Each candidate is a run folder under `runs/`. A resumed run does not train finished candidates again. A candidate
    is excluded if its training diverges.

    Args:
        recipe: The recipe.
        initial: The model after the source phases. Afterwards, it has the weights of the selected candidate.
        datasets: All images. No test image is opened. Target labels are used only by methods that train on them.
        run: The run folder.
        resume: Whether the run is resumed.

    Returns:
        The content of `adaptation.json`, as far as it is known without target labels; None if the model was not adapted.

    Raises:
        PermanentFailure: A frozen variable changed.
    """
    if recipe.adapts_by is None:
        return _fine_tuned(recipe) if (run.file("runs") / SOURCE_ONLY).is_dir() else None
    model, methods = initial.model, candidate_methods(recipe)
    # All variables, because the state of random generators would make a candidate depend on earlier ones.
    initial_values = [(variable, variable.numpy()) for variable in model.variables]
    training_data, selection_data = TrainingData.of(recipe, datasets), SelectionData.of(recipe, datasets)
    # Without source images, this shows what candidates start from: statistics of augmented images.
    statistics_data = (training_data.target if recipe.source else None) or selection_data.target
    renormalized = collect_renormalized_evidence(model, selection_data, statistics_data)
    evidence: dict[str, Evidence] = {}
    diverged: dict[str, str] = {}
    _write_style_preview(recipe, methods, datasets, run)
    for number, method in enumerate(methods, 1):
        print_status(f"Candidate {number} of {len(methods)}: {method.name}")
        for variable, value in initial_values:
            variable.assign(value)
        inner = Run(run.file("runs") / method.name)
        if inner.file("model.json").is_file():
            model.set_weights(load_trained(inner.path).model.get_weights())
        else:
            try:
                _train_candidate(recipe, method, initial, datasets, training_data, inner, resume=resume)
            except Diverged as error:
                diverged[method.name] = error.what
                print_status(f"Warning: {method.name} is excluded: {error.what}")
                continue
        last = candidate_phases(recipe, method, model)[-1]
        # For a candidate of a resumed run, too: the flags determine which BatchNorm layers have target statistics.
        unfreeze(model, last.trainable, batch_norm=last.batch_norm)
        has_target_statistics = method.name != SOURCE_ONLY and last.batch_norm != "frozen"
        evidence[method.name] = collect_evidence(
            model, selection_data,
            has_target_statistics=has_target_statistics,
            initial=(renormalized if has_target_statistics else None) or evidence.get(SOURCE_ONLY),
        )  # fmt: skip
    decision = _select(recipe, evidence, renormalized)
    print_status(f"{decision.verdict.replace('_', ' ')}: {decision.reason}")
    # Candidates are read back one at a time, so that memory never holds the weights of all.
    model.set_weights(load_trained(run.file("runs") / decision.chosen).model.get_weights())
    return decision.to_json() | {"diverged": diverged}


def _fine_tuned(recipe: Recipe) -> dict[str, Any]:
    """Return the content of `adaptation.json` for a model that was fine-tuned on target labels."""
    reason = (
        "The recipe has one method, fine-tuning on target labels."
        if recipe.adaptation is None
        else "Target labels are available, so the model was fine-tuned on them."
    )
    return {
        "candidates": {SOURCE_ONLY: {"validators": {}}, "fine_tune": {"validators": {}}},
        "chosen": "fine_tune",
        "verdict": "cannot_tell",
        "reason": f"{reason} No candidates were compared without labels. The effect is under target_test.",
        "target_test": None,
        "oracle": None,
    }


def _train_candidate(
    recipe: Recipe,
    method: recipes.Method,
    initial: InitialModel,
    datasets: Datasets,
    training_data: TrainingData,
    inner: Run,
    *,
    resume: bool,
) -> None:
    """Train one candidate, and write it as a run folder of its own."""
    assert recipe.adapts_by is not None
    inner_recipe = recipe.model_copy(
        update={
            "adaptation": recipe.adapts_by.model_copy(update={"methods": (method,)}),
            "export": recipe.export.model_copy(update={"formats": ()}),
        }
    )
    phases = candidate_phases(recipe, method, initial.model)
    resume = resume and inner.file(RESOLVED_RECIPE).is_file()
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(inner_recipe, initial, datasets, inner, resume=resume)
    writer = HistoryWriter(inner, sum(phase.epochs for phase in phases))
    fit(
        initial.model, training_data.train or {}, val=training_data.val, target=training_data.target, phases=phases,
        step_for=build_step_factory(recipe, method, initial.model), callbacks=time_budget(recipe, phases),
        on_epoch=writer.on_epoch, on_freeze_report=writer.on_freeze_report,
        checkpoints=inner.file("checkpoints"), resume=resume,
    )  # fmt: skip
    write_model(inner_recipe, initial.model, datasets, inner)
    shutil.rmtree(inner.file("checkpoints"), ignore_errors=True)


def _select(
    recipe: Recipe, evidence: Mapping[str, Evidence], renormalized: Evidence | None
) -> selection.Decision:
    """Select a candidate without target labels."""
    assert recipe.adapts_by is not None
    validators = recipe.adapts_by.select_by
    return selection.decide(
        evidence,
        select_by=[validator.name for validator in validators],
        options={validator.name: validator.options for validator in validators if validator.options},
        assumes_equal_prevalence={
            name for name in evidence if adaptation.get_method(name).assumes_equal_prevalence
        },
        renormalized=renormalized,
        seed=recipe.seed,
    )


def _write_style_preview(
    recipe: Recipe, methods: Sequence[recipes.Method], datasets: Datasets, run: Run
) -> None:
    """Write `style_preview.png`, training images before and after each method that changes pixels, if there is one."""
    changing = [method for method in methods if adaptation.get_method(method.name).changes_pixels]
    if not changing:
        return
    source, target = datasets.in_split("train"), target_training_records(datasets)
    rows = min(PREVIEW_ROWS, len(source), len(target), recipe.data.known_batch_size)
    batches = {
        domain: next(iter(datasets.dataset(_spread(records, rows)).indexed_batches(0)))
        for domain, records in (("source", source), ("target", target))
    }
    changed = dict(_changed_images(recipe, method, datasets, batches) for method in changing)
    report.write_style_sheet(run.path, batches["source"][0], batches["target"][0], changed)


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    """Return records at equal distances, because neighbors are of one class or patient."""
    return [records[len(records) * index // count] for index in range(count)]


def _changed_images(
    recipe: Recipe, method: recipes.Method, datasets: Datasets, batches: Any
) -> tuple[str, Any]:
    """Return a title and the images that a method produces."""
    options = adaptation.method_options(method.name, method.options)
    if hasattr(options, "share"):
        options = options.model_copy(update={"share": 1.0})
    step: Any = adaptation.build_step(
        method.name, options, num_classes=len(datasets.class_names), num_features=1, seed=recipe.seed,
    )  # fmt: skip
    name = method.name.replace("_", " ")
    title = name if step.changed_stream == "source" else f"{name}, of the {step.changed_stream}"
    return title, step.change_images(batches, tf.constant(0.0)).numpy()
