"""What a phase runs at each step: the whole model on pictures, or its last part on what the first part made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerastl.data import ImageDataset, cache_folder
from kerastl.errors import RequestError
from kerastl.models import blocks_of, cut, fold, foldable, network_name
from kerastl.recipe.phase import LayerNames, Phase
from kerastl.training.activations import keep_activations
from kerastl.training.backward import with_cheap_backward
from kerastl.training.cached_source import CachedSource
from kerastl.training.freezing import resolve_trainable
from kerastl.training.streams import Lesson

Source = ImageDataset | CachedSource


def activations_folder() -> Path:
    """Return the place for activations in the user's cache folder."""
    return cache_folder() / "activations"


@dataclass(frozen=True)
class Learner:
    """What runs at each step of a phase.

    Args:
        model: the whole classifier, or its last part, which shares its layers.
        streams, val: what it reads: pictures, or activations; of streams one at least.
        told: what is kept on disk, for the proof: `{"kind", "behind", "precision", "views", "bytes"}`; None: nothing.
    """

    model: keras.Model
    streams: Mapping[str, Source]
    val: Source | None
    told: dict[str, Any] | None = None


def learner_of(model: keras.Model, lesson: Lesson, folder: Path) -> Learner:
    """Return what a phase runs; where it asks for a cache, that is filled first.

    Args:
        model: a flat classifier; its flags are set for the phase.
        lesson: its phase names the cache, or none.
        folder: of the cache.

    Raises:
        RunFailed: a picture can no longer be read, or the disk is full.
    """
    phase, val = lesson.phase, lesson.val
    if phase.cache == "none":
        return on_pictures(model, lesson)
    parts = part(model, cached_front(model, phase))
    about = {"network": network_name(model), "behind": parts.behind}
    sources = [*lesson.streams.values(), *([] if val is None else [val])]
    kept = keep_activations(
        parts.trunk, sources, precision=phase.cache_precision, folder=folder,
        trunk_precision=phase.trunk_precision, about=about,
    )  # fmt: skip
    told = {
        "kind": phase.cache,
        "behind": parts.behind,
        "precision": phase.cache_precision,
        "views": lesson.first.views,
        "bytes": sum(one.num_bytes for one in kept),
    }
    cached = [CachedSource(one, its) for one, its in zip(sources, kept, strict=True)]
    streams = dict(zip(lesson.streams, cached, strict=False))
    cached_val = None if val is None else cached[-1]
    return Learner(with_cheap_backward(parts.tail), streams, cached_val, told)


def on_pictures(model: keras.Model, lesson: Lesson) -> Learner:
    """Return what a phase without a cache runs."""
    # Where the step moves what is frozen, nothing of it may be folded.
    moves = lesson.moves_what_is_frozen(model)
    return Learner(model if moves else shortened(model, lesson.phase), lesson.streams, lesson.val)


@dataclass(frozen=True)
class Front:
    """The first part of a classifier, all of it frozen.

    Args:
        behind: the block or layer that it ends with.
        tensors: what it hands on.
    """

    behind: str
    tensors: Sequence[keras.KerasTensor]


@dataclass(frozen=True)
class Parts:
    """A classifier in two parts that share its layers.

    Args:
        behind: as in `Front`.
        trunk: the front.
        tail: the rest.
    """

    behind: str
    trunk: keras.Model
    tail: keras.Model


def frozen_front(model: keras.Model, phase: Phase) -> Front | None:
    """Return what stands before the first block in which something learns; None: nothing does.

    Args:
        model: a flat classifier.
        phase: says which layers learn; where BatchNorm's statistics follow the pictures, nothing is frozen.
    """
    if phase.batch_norm != "frozen":
        return None
    chosen = set(resolve_trainable(model, phase.trainable))
    if not chosen:
        return Front("pooled", [model.get_layer("pooled").output])
    blocks = blocks_of(model)
    first = next(at for at, block in enumerate(blocks) if chosen & set(block.layers))
    if not first:
        return None
    operations = {operation.name: operation for operation in model.operations}
    last = blocks[first - 1]
    return Front(last.name, [operations[name].output for name in last.edge])


def cached_front(model: keras.Model, phase: Phase) -> Front:
    """Return the frozen front of a phase with a cache.

    Raises:
        RequestError: another cache fits what learns, or none does.
    """
    front = frozen_front(model, phase)
    if phase.cache == "features" and (front is None or front.behind != "pooled"):
        raise RequestError(
            "cache: features keeps what the head reads, so nothing else may learn. "
            "Write trainable: none, or cache: boundary."
        )
    # A pattern may leave layers frozen behind the first that learns: nobody could tell what was kept.
    holes = isinstance(phase.trainable, LayerNames)
    if front is None or holes or (phase.cache == "boundary" and front.behind == "pooled"):
        raise RequestError(
            "cache: boundary needs frozen blocks, and behind them blocks that learn. "
            f"Write trainable: {{from_block: NAME}}, of: {', '.join(block.name for block in blocks_of(model)[1:])}."
        )
    return front


def part(model: keras.Model, front: Front) -> Parts:
    """Return a classifier cut behind its front."""
    if front.behind != "pooled":
        return Parts(front.behind, *cut(model, front.behind))
    (pooled,) = front.tensors
    trunk = keras.Model(model.inputs[0], pooled, name="trunk")
    return Parts("pooled", trunk, keras.Model(pooled, model.outputs[0], name="tail"))


def shortened(model: keras.Model, phase: Phase) -> keras.Model:
    """Return a classifier that learns what `model` does in less time, from the same variables.

    Its frozen front has no BatchNorm where that can be, and what learns has a cheap backward pass.
    """
    front = frozen_front(model, phase)
    if front is None:
        return with_cheap_backward(model)
    parts = part(model, front)
    trunk = parts.trunk
    if foldable(trunk) or phase.trunk_precision != "float32":
        trunk = fold(trunk, phase.trunk_precision)
    image = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(image, with_cheap_backward(parts.tail)(trunk(image)), name=model.name)


def choose_cache(phase: Phase, trains: Sequence[ImageDataset]) -> Phase:
    """Return a phase whose `cache: auto` is decided: features where the head alone learns and nothing is lost by it.

    Args:
        phase: of the recipe.
        trains: all pictures that it learns from.
    """
    if phase.cache != "auto":
        return phase
    alone = phase.trainable == "none" and phase.batch_norm == "frozen"
    fresh = any(one.mixes or (one.augmented and not one.repeats) for one in trains)
    return phase.model_copy(update={"cache": "features" if alone and not fresh else "none"})
