"""Train the ways to adapt, each from one and the same model of the source, and choose without a label of the target."""

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
from kerastl.workflows.collect_outputs import Shown, observe, observe_renormalized
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel
from kerastl.workflows.phase_data import (
    candidates,
    candidate_phases,
    build_step_factory,
    target_training_records,
    target_dataset,
    time_budget,
)
from kerastl.workflows.run_writer import Diary, write_model, write_start

ROWS = 4


def show_styles(recipe: Recipe, methods: Sequence[recipes.Method], images: Datasets, run: Run) -> None:
    """Write `style_preview.png`: training images of both domains, and what each method makes of them.

    Args:
        recipe: how images are read.
        methods: the candidates; where none changes pixels, nothing is written.
        images: the splits; no test image is opened.
        run: where the sheet goes.
    """
    changing = [one for one in methods if adaptation.method_named(one.name).changes_pixels]
    if not changing:
        return
    own, others = images.in_split("train"), target_training_records(images)
    rows = min(ROWS, len(own), len(others), recipe.data.known_batch_size)
    batches = {
        "source": _batch(recipe, images, _spread(own, rows)),
        "target": _batch(recipe, images, _spread(others, rows)),
    }
    changed = dict(_changed(recipe, one, images, batches) for one in changing)
    source, target = batches["source"][0], batches["target"][0]
    report.write_style_sheet(run.path, source, target, changed)


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    """Return some records from all over a list: those of one class or patient stand together."""
    return [records[len(records) * place // count] for place in range(count)]


def _batch(recipe: Recipe, images: Datasets, records: Sequence[Record]) -> Any:
    return next(iter(images.dataset(recipe, records).indexed_batches(0)))


def _changed(recipe: Recipe, method: recipes.Method, images: Datasets, batches: Any) -> tuple[str, Any]:
    """Return a method's name, with the domain whose images it changes unless that is the source, and what it makes of them."""
    options = adaptation.named_options(method.name, method.options)
    if hasattr(options, "share"):
        options = options.model_copy(update={"share": 1.0})
    step: Any = adaptation.build_step(
        method.name, options, num_classes=len(images.class_names), num_features=1,
        seed=recipe.seed,
    )  # fmt: skip
    name = method.name.replace("_", " ")
    head = name if step.changes == "source" else f"{name}, of the {step.changes}"
    return head, step.changed(batches, tf.constant(0.0)).numpy()


@dataclass(frozen=True)
class Streams:
    """What every method learns from; each image is decoded once for all methods where they fit.

    Args:
        train: of the source; None: its images are not at hand.
        target: of the target.
        val: labelled images of the target that tell how it goes; None: there are none. The source's would be judged with
            the statistics of the target.
    """

    train: ImageDataset | None
    target: ImageDataset | None
    val: ImageDataset | None

    @classmethod
    def of(cls, recipe: Recipe, images: Datasets) -> Streams:
        """Return the images of a run."""
        val = images.in_split("target_val")
        return cls(
            None if recipe.source else images.dataset(recipe, images.in_split("train"), training=True),
            target_dataset(recipe, images),
            images.dataset(recipe, val) if val else None,
        )


def adapt(recipe: Recipe, start: InitialModel, images: Datasets, run: Run, *, resume: bool) -> None:
    """Train every candidate, choose one, and give its weights to the model; nothing where the recipe names no methods.

    Each candidate is a run of its own under `runs/`. One that is finished is not trained again when a run goes on.

    Args:
        recipe: the methods, what chooses, and the phases of domain target, in which every method learns.
        start: the model as it was trained at the source; it ends with the weights of the chosen candidate.
        images: the splits; no test image is opened, no label of the target but by a method that learns from them.
        run: its `adaptation.json` tells the choice; what it was worth is added when the test images are opened.
        resume: go on with what is there.

    A method whose training breaks down is left out, and said so.

    Raises:
        PermanentFailure: what is frozen moved.
    """
    if recipe.adapts_by is None:
        return
    # All variables: the state of dropout's generator, too, or a candidate would depend on those before it.
    at_source = [(one, one.numpy()) for one in start.model.variables]
    streams, shown = Streams.of(recipe, images), Shown.of(recipe, images)
    # Without the source it tells what candidates began with: statistics of images as training sees them.
    estimated_on = (streams.target if recipe.source else None) or shown.target
    renormalized = observe_renormalized(start.model, shown, estimated_on)
    methods, left_out = candidates(recipe), dict[str, str]()
    seen: dict[str, Evidence] = {}
    show_styles(recipe, methods, images, run)
    for number, method in enumerate(methods, 1):
        print_status(f"Candidate {number} of {len(methods)}: {method.name}")
        for variable, value in at_source:
            variable.assign(value)
        inner = Run(run.file("runs") / method.name)
        if inner.file("model.json").is_file():
            start.model.set_weights(load_trained(inner.path).model.get_weights())
        else:
            try:
                _train(recipe, method, start, images, streams, inner, resume=resume)
            except Diverged as error:
                left_out[method.name] = error.what
                print_status(f"Warning: {method.name} is no candidate: {error.what}")
                continue
        last = candidate_phases(recipe, method, start.model)[-1]
        # The layers whose statistics followed the target, also where a candidate was finished before.
        unfreeze(start.model, last.trainable, batch_norm=last.batch_norm)
        moved = method.name != SOURCE_ONLY and last.batch_norm != "frozen"
        # A network without BatchNorm begins as it came, whatever the phase says of statistics.
        began = (renormalized if moved else None) or seen.get(SOURCE_ONLY)
        seen[method.name] = observe(start.model, shown, own_statistics=moved, began=began)
    decision = _decision(recipe, seen, renormalized)
    print_status(f"{decision.verdict.replace('_', ' ')}: {decision.reason}")
    run.write_json("adaptation.json", decision.to_json() | {"left_out": left_out})
    start.model.set_weights(load_trained(run.file("runs") / decision.chosen).model.get_weights())


def _decision(
    recipe: Recipe, seen: Mapping[str, Evidence], renormalized: Evidence | None
) -> selection.Decision:
    assert recipe.adapts_by is not None
    judges = recipe.adapts_by.select_by
    return selection.decide(
        seen,
        select_by=[one.name for one in judges],
        options={one.name: one.options for one in judges if one.options},
        assumes_equal_prevalence={
            name for name in seen if adaptation.method_named(name).assumes_equal_prevalence
        },
        renormalized=renormalized,
        seed=recipe.seed,
    )


def _train(
    recipe: Recipe,
    method: recipes.Method,
    start: InitialModel,
    images: Datasets,
    streams: Streams,
    inner: Run,
    *,
    resume: bool,
) -> None:
    """Train one candidate, a run of its own."""
    assert recipe.adapts_by is not None
    alone = recipe.model_copy(
        update={
            "adaptation": recipe.adapts_by.model_copy(update={"methods": (method,)}),
            "export": recipe.export.model_copy(update={"formats": ()}),
        }
    )
    phases = candidate_phases(recipe, method, start.model)
    began = resume and inner.file(RESOLVED_RECIPE).is_file()
    inner.path.mkdir(parents=True, exist_ok=True)
    write_start(alone, start, images, inner, resume=began)
    diary = Diary(inner, sum(phase.epochs for phase in phases))
    fit(
        start.model, streams.train or {}, val=streams.val, target=streams.target, phases=phases,
        step_for=build_step_factory(recipe, method, start.model), callbacks=time_budget(recipe, phases),
        on_epoch=diary.on_epoch, on_freeze_report=diary.on_freeze_report,
        checkpoints=inner.file("checkpoints"), resume=began,
    )  # fmt: skip
    write_model(alone, start.model, images, inner)
    shutil.rmtree(inner.file("checkpoints"), ignore_errors=True)
