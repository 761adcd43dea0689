"""From the recipe's phases to a trained model, with everything written down on the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras

from kerastl import recipe as recipes
from kerastl.data import EpochSource
from kerastl.progress import say
from kerastl.recipe import Recipe
from kerastl.runs import Run, append_line, write_atomic
from kerastl.stages.model import Start
from kerastl.stages.pictures import Pictures
from kerastl.stages.record import write_model
from kerastl.training import History, Phase, Trainable, fit

SOURCE_ONLY = "source_only"
"""The run inside a run that holds the model before it saw the target's labels."""


def learn(recipe: Recipe, start: Start, pictures: Pictures, run: Run, *, resume: bool) -> History:
    """Train through all phases; write history, timings, proofs and checkpoints as they come.

    Args:
        recipe: the phases, augmentation and seed.
        start: the model; it ends with its best weights.
        pictures: the splits; only training and validation pictures are opened.
        run: where the files go.
        resume: go on from the newest checkpoint.
    """
    phases = [training_phase(recipe, index) for index in range(len(recipe.phases))]
    domains = [phase.domain for phase in phases]
    total = sum(phase.epochs for phase in phases)

    def on_epoch(row: dict[str, Any], timing: dict[str, float]) -> None:
        append_line(run.file("timings.jsonl"), json.dumps({"epoch": row["epoch"], **timing}))
        say(_line(row, timing, total))

    def on_phase_end(phase: Phase) -> None:
        at = phases.index(phase)
        if phase.domain == "source" and "target" in domains[at + 1 :]:
            _keep_source_only(recipe, start.model, pictures, run)

    history = fit(
        start.model,
        _sources(recipe, pictures, domains, "train"),
        val=_sources(recipe, pictures, domains, "val"),
        phases=phases,
        on_epoch=on_epoch,
        on_phase_end=on_phase_end,
        checkpoints=run.file("checkpoints"),
        resume=resume,
    )
    rows = "".join(json.dumps(row, sort_keys=True) + "\n" for row in history.rows)
    write_atomic(run.file("history.jsonl"), rows)
    run.write_json("freeze.json", {"phases": list(history.proofs)})
    for proof in history.proofs:
        for warning in proof["warnings"]:
            say(f"Warning: {warning}")
    return history


def training_phase(recipe: Recipe, index: int) -> Phase:
    """Return one phase of a recipe in the words of the training room."""
    phase = recipe.phases[index]
    values = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
    values["trainable"] = _trainable(phase.trainable)
    return Phase(**values)


def _trainable(choice: Any) -> Trainable:
    if isinstance(choice, recipes.TopFraction):
        return Trainable("top_fraction", fraction=choice.top_fraction)
    if isinstance(choice, recipes.FromBlock):
        return Trainable("from_block", text=choice.from_block)
    if isinstance(choice, recipes.LayerNames):
        return Trainable("names", text=choice.names)
    return Trainable(choice)


def _sources(
    recipe: Recipe, pictures: Pictures, domains: Sequence[str], split: str
) -> dict[str, EpochSource]:
    """Return one epoch source for each domain that a phase learns from and that has such pictures."""
    found = {}
    for domain in dict.fromkeys(domains):
        name = split if domain == "source" else f"target_{split}"
        if pictures.of(name):
            found[domain] = pictures.source(recipe, name, training=split == "train")
    return found


def _line(row: dict[str, Any], timing: dict[str, float], total: int) -> str:
    """Return one line for people: where training stands."""
    shown = [
        f"{name} {row[name]:.3f}"
        for name in ("loss", "val_loss", "val_balanced_accuracy", "val_auc")
        if row.get(name) is not None
    ]
    speed = f"{timing['seconds']:.1f} s, {timing['images_per_s']:.0f} images/s"
    return f"  epoch {row['epoch']}/{total}  {row['phase']}: {', '.join(shown)}  ({speed})"


def _keep_source_only(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> None:
    inner = Run(run.file("runs") / SOURCE_ONLY)
    inner.path.mkdir(parents=True, exist_ok=True)
    write_model(recipe, model, pictures, inner)
