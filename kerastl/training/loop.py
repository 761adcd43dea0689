"""The one training loop: phases of epochs of steps, on TensorFlow's public API.

It drives `keras.callbacks.CallbackList`, so every Keras callback works; it runs under any `tf.distribute`
strategy; and it knows nothing of what a `Step` learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.models import blocks_of
from kerastl.recipe.phase import Phase, Unfreeze
from kerastl.training.checkpoint import Checkpoint, newest_checkpoint
from kerastl.training.checks import Sources, check_phases, decide_phases
from kerastl.training.classification import Classification, balanced_weights
from kerastl.training.clock import Clock
from kerastl.training.freezing import resolve_batch_norm
from kerastl.training.learner import activations_folder
from kerastl.training.phase_loop import OnEpoch, OnPhaseEnd, OnProof, PhaseLoop
from kerastl.training.state import History, TrainingState
from kerastl.training.step import Step
from kerastl.training.streams import Lesson, StepFor, lessons_of


def classification_step(phase: Phase, source: ImageDataset) -> Step:
    """Return the step of an ordinary classifier for a phase."""
    num_classes = len(source.class_names)
    weights = None
    if phase.class_weights == "balanced":
        weights = balanced_weights(np.asarray(source.labels), num_classes)
    elif isinstance(phase.class_weights, Mapping):
        weights = _named_weights(phase.class_weights, source.class_names)
    return Classification(
        num_classes,
        label_smoothing=phase.label_smoothing,
        class_weights=weights,
        focal_gamma=phase.focal_gamma,
        follow_statistics=phase.batch_norm != "frozen",
    )


def _named_weights(
    weights: Mapping[str, float], class_names: Sequence[str]
) -> np.ndarray[Any, Any]:
    """Return `[classes]` float32 weights from weights by class name, 1 for a class without a weight."""
    unknown = [name for name in weights if name not in class_names]
    if unknown:
        raise RequestError(
            f"class_weights: there is no class {unknown[0]!r}. Classes: {', '.join(class_names)}."
        )
    return np.array([weights.get(name, 1.0) for name in class_names], np.float32)


def fit(
    model: keras.Model,
    train: ImageDataset | Sources,
    *,
    phases: Sequence[Phase],
    target: ImageDataset | None = None,
    val: ImageDataset | Sources | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: OnEpoch | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    cache_dir: Path | None = None,
    strategy: tf.distribute.Strategy | None = None,
    step_for: StepFor = classification_step,
    on_phase_end: OnPhaseEnd | None = None,
    on_proof: OnProof | None = None,
) -> History:
    """Train a model phase by phase; it ends with the best weights of its last domain.

    When training breaks down, the model is put back to the end of the last epoch that went well.

    Args:
        model: a flat classifier from `build_model`, built inside `strategy.scope()` if there is one.
        train: labelled pictures, shuffled; or one source a domain, `{"source": ..., "target": ...}`; `{}` where the steps
            of all phases read the target alone.
        phases: what may move, how fast, for how long.
        target: the target's training pictures, for steps that read them; labels are handed only to those that ask.
        val: labelled pictures that tell how it goes, or one source a domain; without it the last weights are kept.
        callbacks: Keras's; each phase is one `fit` to them, with epochs counted over the whole run.
        on_epoch: told all rows so far, and of the last `seconds`, `images_per_s`, and what is left: see `Clock.took`.
        checkpoints: folder for the resumable state after each epoch; empty unless `resume`.
        resume: go on from the newest checkpoint there.
        cache_dir: where phases with a cache keep their activations; None: in the user's cache folder.
        strategy: of `tf.distribute`; None: the current one.
        step_for: what a phase learns; called for each before the first begins, see `BeginsWithPhase`.
        on_phase_end: told the history so far when the model has the weights that the next phase starts from.
        on_proof: told the proofs so far, the new one last, also when it does not hold.

    Returns:
        The history and one proof a phase.

    Raises:
        RequestError: a phase asks for a domain, block, layer, stream or figure that is not there; nothing was trained.
        RunFailed: a picture can no longer be read, or there is no room for a cache.
        WouldFailAgain: frozen weights moved, or, `Diverged`, a loss or a weight is not a number.
    """
    trains, vals = _by_domain(train), _by_domain(val)
    phases = [resolve_batch_norm(model, phase) for phase in _unfrozen_by_epoch(model, phases)]
    cache_dir = cache_dir or activations_folder()
    strategy = strategy or tf.distribute.get_strategy()
    lessons = _lessons(model, phases, trains, vals, target, step_for, strategy, cache_dir)
    saved = _saved(checkpoints, resume=resume)
    state = saved.state if saved else TrainingState()
    loop = PhaseLoop(
        model, lessons, callbacks, on_epoch, checkpoints, cache_dir, strategy, state,
        Clock([lesson.phase for lesson in lessons]),
    )  # fmt: skip
    loop.run(saved, on_proof=on_proof, on_phase_end=on_phase_end)
    return state.history()


def _unfrozen_by_epoch(model: keras.Model, phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases, those of gradual unfreezing as one phase per block."""
    names: list[str] = []
    if any(isinstance(phase.trainable, Unfreeze) for phase in phases):
        names = [block.name for block in blocks_of(model)]
    return [part for phase in phases for part in phase.unfrozen_by_epoch(names)]


def _by_domain(pictures: ImageDataset | Sources | None) -> Sources:
    if pictures is None:
        return {}
    return pictures if isinstance(pictures, Mapping) else {"source": pictures}


def _lessons(
    model: keras.Model,
    phases: Sequence[Phase],
    trains: Sources,
    vals: Sources,
    target: ImageDataset | None,
    step_for: StepFor,
    strategy: tf.distribute.Strategy,
    cache_dir: Path,
) -> list[Lesson]:
    """Return the lessons, every cache decided; see that all of them can be run, see `check_phases`."""
    with strategy.scope():
        lessons = lessons_of(
            model, phases, trains=trains, vals=vals, target=target, step_for=step_for
        )
    reads = [list(lesson.streams.values()) for lesson in lessons]
    decided = decide_phases([lesson.phase for lesson in lessons], trains, reads=reads)
    check_phases(model, decided, trains=trains, vals=vals, cache_dir=cache_dir, reads=reads)
    return [replace(one, phase=phase) for one, phase in zip(lessons, decided, strict=True)]


def _saved(folder: Path | None, *, resume: bool) -> Checkpoint | None:
    path = newest_checkpoint(folder) if folder else None
    if path and not resume:
        raise RequestError(
            f"{path.parent} holds the checkpoints of another training. Name a new folder, or resume it."
        )
    return Checkpoint(path) if path else None
