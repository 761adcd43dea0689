"""What a recipe would do, in one line of plain words."""

from __future__ import annotations

from pathlib import Path

from kerastl.recipe.phases import FromBlock, LayerNames, Phase, TopFraction
from kerastl.recipe.plugins import Backbone, Reader
from kerastl.recipe.schema import Recipe
from kerastl.recipe.tree import quoted
from kerastl.recipe.words import listed


def summary(recipe: Recipe) -> str:
    """Return one line: which network, from which weights, learns what from which pictures, for how long."""
    parts = [_beginning(recipe)]
    if recipe.target is not None:
        labels = {"none": "without labels", "few": "with few labels", "all": "with all labels"}
        parts.append(
            f"the target is {_pictures(recipe.target.reader)}, {labels[recipe.target.labels]}"
        )
    parts.append(f"phases: {listed([_phase(phase) for phase in recipe.phases], 'then')}")
    if recipe.adapts_by is not None:
        methods = listed([one.name for one in recipe.adapts_by.methods], "and")
        judges = listed([one.name for one in recipe.adapts_by.select_by], "and")
        parts.append(f"adapts by {methods}, chosen by {judges}")
    formats = recipe.export.formats
    parts.append(f"exports {listed(formats, 'and')}" if formats else "exports nothing")
    return "; ".join(parts) + f". Seed {recipe.seed}."


def _beginning(recipe: Recipe) -> str:
    if recipe.data.reader is not None:
        return f"{_network(recipe.backbone)} learns from {_pictures(recipe.data.reader)}"
    return f"{_network(recipe.backbone)} is adapted without the pictures that it learnt from"


def _network(backbone: Backbone) -> str:
    weights = {"imagenet": "ImageNet weights", "none": "random weights"}
    start = weights.get(str(backbone.weights)) or quoted(str(backbone.weights), "")
    return f"{backbone.name} ({start})"


def _pictures(reader: Reader) -> str:
    """Return the reader and the first path or text among its options, which says whose pictures."""
    values = vars(reader.options).values() if reader.options is not None else ()
    named = [str(value) for value in values if isinstance(value, Path | str)]
    return f"{reader.name} {quoted(named[0], '')}" if named else reader.name


def _phase(phase: Phase) -> str:
    learns = phase.trainable
    what = {"all": "everything", "none": "the head"}.get(learns) if isinstance(learns, str) else ""
    if isinstance(learns, TopFraction):
        what = f"the last {learns.top_fraction:.0%}"
    elif isinstance(learns, FromBlock):
        what = f"from {quoted(learns.from_block, '')} on"
    elif isinstance(learns, LayerNames):
        what = f"layers {quoted(learns.names)}"
    place = " at the target" if phase.domain == "target" else ""
    epochs = f"{phase.epochs} epoch{'s' if phase.epochs != 1 else ''}"
    return f"{phase.name} ({what}{place}, {epochs} at {phase.learning_rate:g})"
