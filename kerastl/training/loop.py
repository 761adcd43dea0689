"""The one training loop: phases of epochs of steps, on TensorFlow's public API.

It drives `keras.callbacks.CallbackList`, so every Keras callback works; it runs under any `tf.distribute`
strategy; and it knows nothing of what a `Step` learns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from kerastl.console import track
from kerastl.data import ImageDataset
from kerastl.errors import Diverged, RequestError
from kerastl.models import blocks_of, fold
from kerastl.recipe.phase import Phase, Unfreeze
from kerastl.training.checkpoint import (
    Best,
    Checkpoint,
    WeightSnapshot,
    History,
    TrainingState,
    newest_checkpoint,
    restore_callbacks,
    callback_states,
    write_checkpoint,
)
from kerastl.training.checks import Sources, check_epoch, check_losses, check_phases, decide_phases
from kerastl.training.freeze import resolve_batch_norm, disable_frozen_dropout, unfreeze
from kerastl.training.freeze_check import check_freeze_report, checksums, build_freeze_report, read_statistics
from kerastl.training.losses import ClassificationStep, balanced_weights, cross_entropy
from kerastl.training.optimizer import (
    WeightAverages,
    build_optimizer,
    build_l2_sp,
    transfer_state,
    learning_rate_at,
    rate_factors,
)
from kerastl.training.step import (
    PhaseStartStep,
    PhaseData,
    Step,
    StepFactory,
    trace_inference,
    build_phase_data,
    trained_variables,
)
from kerastl.training.train_step import Update, step_inputs, build_update, read_batches
from kerastl.training.trunk import Source, activations_folder, find_frozen_trunk, build_phase_network, part


def run_steps(
    phase: Phase,
    streams: Mapping[str, Source],
    state: TrainingState,
    update: Update,
    optimizer: keras.Optimizer,
    averages: WeightAverages,
    callbacks: Any,
    strategy: tf.distribute.Strategy,
    *,
    bar: bool,
) -> dict[str, Any]:
    """Run the steps of the epoch that training has come to; return the means over its first stream's images.

    Args:
        phase: its rate, schedule and length.
        streams: what is learnt from, by name; the epoch is one of the first.
        state: where training stands.
        update: of the weights.
        optimizer: its rate is set where the phase has a schedule.
        averages: of the weights; they follow.
        callbacks: Keras's list.
        strategy: whose replicas are fed.
        bar: whether a terminal shows one.

    Raises:
        Diverged: a loss is not a number.
    """
    sums: dict[str, float] = {}
    seen, steps = 0, next(iter(streams.values())).steps_per_epoch
    before, epochs = phase.schedule_span
    start = (before + state.phase_epochs) * steps
    fed: Any = step_inputs(streams, state.epochs, strategy, start)
    if bar:
        fed = track(fed, f"epoch {state.epochs + 1}, {phase.name}", steps)
    with closing(fed):
        for index, (batches, share, numbers, count) in enumerate(fed):
            done = start + index
            if phase.schedule != "constant" or phase.warmup_epochs > 0:
                # Set only where it changes: callbacks that steer the rate keep their say otherwise.
                optimizer.learning_rate = learning_rate_at(
                    done, highest=phase.learning_rate, steps_per_epoch=steps, epochs=epochs,
                    schedule=phase.schedule, warmup_epochs=phase.warmup_epochs,
                )  # fmt: skip
            callbacks.on_train_batch_begin(index)
            progress = tf.constant(done / max(1, steps * epochs), tf.float32)
            told = update(batches, share, progress, numbers)
            averages.on_step()
            values = {name: float(value) for name, value in told.items()}
            where = f"phase {phase.name}, epoch {state.epochs + 1}, step {index + 1}"
            check_losses(values, where)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value * count
            seen += count
            callbacks.on_train_batch_end(index, {name: sums[name] / seen for name in sums})
    return {name: value / seen for name, value in sums.items()}


Forward = Callable[[tf.Tensor], tf.Tensor]


def validate(forward: Forward, source: Source) -> dict[str, float | None]:
    """Run the model once over a source and return its figures.

    Args:
        forward: images `[b, h, w, 3]` in [0, 255], or activations, to logits `[b, classes]`, in inference mode.
        source: labelled images, not augmented.

    Returns:
        `val_loss` (cross-entropy in nats), `val_accuracy`, `val_balanced_accuracy` (mean recall of the
        classes present) and `val_auc` (macro one-vs-rest; None when a class is absent).
    """
    logits, labels = [], []
    for images, batch_labels, _ in read_batches(source, 0):
        logits.append(np.asarray(forward(images)))
        labels.append(np.asarray(batch_labels))
    return figures(np.concatenate(logits), np.concatenate(labels))


def figures(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """Return the figures of `validate` from logits `[n, classes]` and labels `[n]`."""
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return {
        "val_loss": float(tf.reduce_mean(cross_entropy(labels, logits))),
        "val_accuracy": float(right.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        "val_auc": _auc(logits.astype(np.float64), labels),
    }


def _auc(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float | None:
    num_classes = logits.shape[1]
    if len(np.unique(labels)) < num_classes or not np.isfinite(logits).all():
        return None
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = shifted / shifted.sum(axis=1, keepdims=True)
    if num_classes == 2:
        return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    return float(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


def compare_trunk_precision(
    model: keras.Model, phase: Phase, val: ImageDataset | None
) -> dict[str, Any] | None:
    """Return the figures of validation images with the front in float32 and as the phase computed it.

    Args:
        model: with the weights that the phase ends with.
        phase: names the precision; None is returned where it is float32.
        val: images; they are read once for both. None: the figures are None.

    Returns:
        `{"precision", "behind", "float32": {...}, "rounded": {...}}`, the figures those of `validate`.
    """
    front = find_frozen_trunk(model, phase)
    if phase.trunk_precision == "float32" or front is None:
        return None
    told: dict[str, Any] = {"precision": phase.trunk_precision, "boundary": front.behind}
    if val is None:
        return {**told, "float32": None, "rounded": None}
    parts = part(model, front)
    tail = trace_inference(parts.tail)
    trunks = [trace_inference(fold(parts.trunk, one)) for one in ("float32", phase.trunk_precision)]
    logits: list[list[Any]] = [[], []]
    labels = []
    for images, batch_labels, _ in read_batches(val, 0):
        labels.append(np.asarray(batch_labels))
        for trunk, rows in zip(trunks, logits, strict=True):
            rows.append(np.asarray(tail(trunk(images))))
    exact, rounded = (figures(np.concatenate(rows), np.concatenate(labels)) for rows in logits)
    return {**told, "float32": exact, "rounded": rounded}


MIN_PROGRESS_BAR_S = 2.0
"""An epoch shows a progress bar if the one before took this long; shorter bars only flicker."""


class Clock:
    """The time of each epoch, and the time left.

    Args:
        phases: All of them, in order.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = tuple(phases)
        self._phase, self._seconds = 0, list[float]()

    @property
    def shows_progress_bar(self) -> bool:
        """Whether an epoch is long enough for a progress bar; the first one always is."""
        return not self._seconds or self._seconds[-1] >= MIN_PROGRESS_BAR_S

    def took(self, seconds: float, state: TrainingState) -> dict[str, Any]:
        """Add an epoch and return the time left.

        The estimate is the median of the phase's epochs. The first epoch also traces, and counts only while it is the only one.

        Args:
            seconds: Of that epoch.
            state: After it.

        Returns:
            `seconds_left`: of the current phase. `at_most`: whether early stopping can make it less. `untimed`:
            the names of later phases, whose time is unknown.
        """
        if state.phase != self._phase:
            self._phase, self._seconds = state.phase, []
        self._seconds.append(seconds)
        phase, *later = self._phases[state.phase :]
        epochs = 0 if state.stopped else phase.epochs - state.phase_epochs
        to_come = [*([phase] if epochs else []), *later]
        return {
            "seconds_left": epochs * statistics.median(self._seconds[1:] or self._seconds),
            "at_most": any(one.early_stopping is not None for one in to_come),
            "untimed": [one.name for one in later],
        }


OnEpoch = Callable[[Sequence[dict[str, Any]], dict[str, Any]], None]
OnPhaseEnd = Callable[[Phase, History], None]
OnFreezeReport = Callable[[Sequence[dict[str, Any]]], None]


class PhaseLoop:
    """The phases of one call of `fit`, one after the other.

    Args:
        model, callbacks, on_epoch, checkpoints, cache, strategy: as in `fit`.
        lessons: all of them, one a phase.
        state: where training stands; kept up to date.
        clock: tells the time that is left.
    """

    def __init__(
        self,
        model: keras.Model,
        all_phase_data: Sequence[PhaseData],
        callbacks: Sequence[keras.callbacks.Callback],
        on_epoch: OnEpoch | None,
        checkpoints: Path | None,
        cache: Path,
        strategy: tf.distribute.Strategy,
        state: TrainingState,
        clock: Clock,
    ) -> None:
        self.model, self.all_phase_data, self.strategy = model, all_phase_data, strategy
        self.callbacks, self.on_epoch, self.checkpoints = callbacks, on_epoch, checkpoints
        self.state, self.cache, self.clock = state, cache, clock
        self.good = WeightSnapshot(model)
        head = {one.path for one in model.get_layer("head").weights}
        self.start = {
            one.path: value
            for one, value in zip(model.weights, self.good.values, strict=True)
            if one.path not in head
        }
        self.optimizer: Any = None
        self.known: set[str] = set()

    def run(
        self,
        saved: Checkpoint | None,
        *,
        on_freeze_report: OnFreezeReport | None,
        on_phase_end: OnPhaseEnd | None,
    ) -> None:
        """Run what is left of the phases; parameters as in `fit`, `saved` a checkpoint to go on from."""
        for phase_data in self.all_phase_data[self.state.phase :]:
            phase = phase_data.phase
            proof = self.run_phase(phase_data, saved)
            saved = None
            if on_freeze_report and proof["faults"]:
                on_freeze_report(self.state.freeze_reports)
            check_freeze_report(proof)
            self.end_phase(phase)
            if rounded := compare_trunk_precision(self.model, phase, phase_data.val):
                proof["trunk"] = rounded
            if on_freeze_report:
                on_freeze_report(self.state.freeze_reports)
            if on_phase_end:
                on_phase_end(phase, self.state.history())

    def run_phase(self, phase_data: PhaseData, saved: Checkpoint | None) -> dict[str, Any]:
        """Run one phase from its beginning, or from a checkpoint inside it; return what moved."""
        phase, step = phase_data.phase, phase_data.step
        unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
        variables = trained_variables(step, self.model)
        with self.strategy.scope():
            optimizer = self._optimizer(phase, variables, resumed=saved is not None)
            averages = WeightAverages(phase, variables)
        self.model.compile(optimizer.plain, loss=None)
        if saved:
            saved.restore(self.model, optimizer, step, averages)
            with averages.shown():
                self.good.take_all()
        self.good.expect(_may_move(self.model, step, variables))
        if not self.state.before:
            self.state.before = checksums(self.model)
            self.state.statistics = read_statistics(self.model)
        try:
            with disable_frozen_dropout(self.model):
                if isinstance(step, PhaseStartStep) and not saved:
                    step.on_phase_begin(self.model, phase_data.streams)
                told = self._run_epochs(phase_data, optimizer, averages, variables)
        except Diverged as error:
            raise self._put_back(phase, error) from error
        proof = build_freeze_report(
            self.model, phase=phase.name, batch_norm=str(phase.batch_norm),
            trained={variable.path for variable in variables}, before=self.state.before,
            statistics=self.state.statistics, may_change=step.may_change,
        )  # fmt: skip
        if told:
            proof["cache"] = told
        self.state.freeze_reports.append(proof)
        return proof

    def _put_back(self, phase: Phase, error: Diverged) -> Diverged:
        """Give the model its last good weights; return the error with what to do about it."""
        self.good.put_back()
        ended = self.state.epochs
        where = f"the end of epoch {ended}" if ended else "its starting weights: no epoch had ended"
        return Diverged(
            error.what,
            f"The model is put back to {where}. "
            f"Try a smaller rate: --set phases[{self.state.phase}].learning_rate="
            f"{phase.learning_rate / 10:g}",
        )

    def _run_epochs(
        self,
        phase_data: PhaseData,
        optimizer: Any,
        averages: WeightAverages,
        variables: Sequence[keras.Variable],
    ) -> dict[str, Any] | None:
        """Run the epochs of a phase that are left; return what was kept of the frozen front."""
        phase, step, state = phase_data.phase, phase_data.step, self.state
        first = state.epochs - state.phase_epochs
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks), model=self.model, epochs=first + phase.epochs,
            steps=phase_data.first.steps_per_epoch, verbose=0,
        )  # fmt: skip
        self.model.stop_training = False
        callbacks.on_train_begin()
        restore_callbacks(self.callbacks, state.callbacks)
        self._skip(int(self.model._initial_epoch or 0) - state.epochs)
        # Only now: what is folded or kept of the frozen front must be made of the weights that were restored.
        with self.strategy.scope():
            learner = build_phase_network(self.model, phase_data, self.cache)
        forward = trace_inference(learner.model)
        update = build_update(
            learner.model, optimizer, step, variables, self.strategy, learner.streams,
            build_l2_sp(phase.l2_sp, variables, self.start), phase.precision,
        )  # fmt: skip
        logs: dict[str, Any] = {}
        while state.phase_epochs < phase.epochs and not state.stopped:
            started = time.perf_counter()
            callbacks.on_epoch_begin(state.epochs)
            logs = run_steps(
                phase, learner.streams, state, update, optimizer, averages, callbacks, self.strategy,
                bar=self.clock.shows_progress_bar,
            )  # fmt: skip
            averages.on_epoch(state.phase_epochs + 1)
            with averages.shown():
                step.on_epoch(self.model, phase_data.streams)
                if learner.val is not None:
                    callbacks.on_test_begin()
                    logs |= validate(forward, learner.val)
                    callbacks.on_test_end(logs)
                rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
                where = f"phase {phase.name}, epoch {state.epochs + 1}"
                check_epoch(self.model, self.good.now(), logs, where)
                callbacks.on_epoch_end(state.epochs, logs)
                self.good.values = self.good.now()  # again: a callback may have changed them
                self._note(phase_data, {"learning_rate": rate, **logs}, started)
            self._checkpoint(optimizer, step, averages)
        callbacks.on_train_end(logs)
        state.callbacks = []
        return learner.told

    def _skip(self, epochs: int) -> None:
        """Count epochs as done that a callback of Keras (BackupAndRestore) brought back from elsewhere."""
        if epochs > 0:
            self.state.epochs += epochs
            self.state.phase_epochs += epochs
            self.good.take_all()

    def _note(self, phase_data: PhaseData, logs: dict[str, Any], started: float) -> None:
        """Take one epoch into the history and see whether it is the best."""
        phase, state = phase_data.phase, self.state
        state.epochs += 1
        state.phase_epochs += 1
        row = {"phase": phase.name, "epoch": state.epochs, **logs}
        state.rows.append(row)
        value = logs.get(phase.monitor)
        if value is not None:
            best = state.best.get(phase.domain)
            known = best.value if best and best.monitor == phase.monitor else None
            state.waited += 1
            if phase.is_better(value, known):
                state.best[phase.domain] = Best(value, state.epochs, self.good.values, phase.monitor)
                state.waited = 0
        patience = phase.early_stopping
        worn_out = patience is not None and state.waited >= patience
        state.stopped = worn_out or bool(self.model.stop_training)
        seconds = time.perf_counter() - started
        speed = phase_data.first.num_examples / max(seconds, 1e-9)
        if self.on_epoch:
            told = {"seconds": seconds, "images_per_s": speed} | self.clock.took(seconds, state)
            self.on_epoch(state.rows, told)

    def _optimizer(self, phase: Phase, variables: Sequence[keras.Variable], *, resumed: bool) -> Any:
        """Return the optimizer of a phase, with what it takes over from that of the phase before."""
        old = self.optimizer if phase.optimizer_state == "keep" else None
        if not resumed:
            known = {} if old is None else {path: self.state.born.get(path, 0) for path in self.known}
            steps = 0 if old is None else int(old.iterations)
            self.state.born = {one.path: known.get(one.path, steps) for one in variables}
        factors = rate_factors(self.model, phase)
        optimizer = build_optimizer(phase, variables, factors, self.state.born)
        if old is not None and not resumed:
            transfer_state(old, optimizer)
        self.optimizer, self.known = optimizer, {one.path for one in variables}
        return optimizer

    def _checkpoint(self, optimizer: Any, step: Step, averages: WeightAverages) -> None:
        self.state.callbacks = callback_states(self.callbacks)
        if self.checkpoints:
            write_checkpoint(self.checkpoints, self.state, self.model, optimizer, step, averages)

    def end_phase(self, phase: Phase) -> None:
        """Go back to the best weights, and make ready for the next phase."""
        state = self.state
        best = state.best.get(phase.domain)
        kept = bool(best and best.monitor == phase.monitor and phase.keep == "best")
        # The last good ones: of the last epoch as it was judged, averaged where weights are averaged.
        if best and kept:
            self.good.values = best.weights
        self.good.put_back()
        state.phase, state.phase_epochs, state.waited = state.phase + 1, 0, 0
        state.stopped, state.before, state.statistics = False, {}, {}


def _may_move(model: keras.Model, step: Step, variables: Sequence[keras.Variable]) -> set[str]:
    """Return the paths of the weights that a phase may change."""
    trained = {variable.path for variable in variables}
    return trained | {weight.path for weight in model.weights if step.may_change(weight)}


def classification_step(phase: Phase, source: ImageDataset) -> Step:
    """Return the step of an ordinary classifier for a phase."""
    num_classes = len(source.class_names)
    weights = None
    if phase.class_weights == "balanced":
        weights = balanced_weights(np.asarray(source.labels), num_classes)
    elif isinstance(phase.class_weights, Mapping):
        weights = _named_weights(phase.class_weights, source.class_names)
    return ClassificationStep(
        num_classes,
        label_smoothing=phase.label_smoothing,
        class_weights=weights,
        focal_gamma=phase.focal_gamma,
        follow_statistics=phase.batch_norm != "frozen",
    )


def _named_weights(weights: Mapping[str, float], class_names: Sequence[str]) -> np.ndarray[Any, Any]:
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
    step_for: StepFactory = classification_step,
    on_phase_end: OnPhaseEnd | None = None,
    on_freeze_report: OnFreezeReport | None = None,
) -> History:
    """Train a model phase by phase; it ends with the best weights of its last domain.

    When training breaks down, the model is put back to the end of the last epoch that went well.

    Args:
        model: a flat classifier from `build_model`, built inside `strategy.scope()` if there is one.
        train: labelled images, shuffled; or one source a domain, `{"source": ..., "target": ...}`; `{}` where the steps
            of all phases read the target alone.
        phases: what may move, how fast, for how long.
        target: the target's training images, for steps that read them; labels are handed only to those that ask.
        val: labelled images that tell how it goes, or one source a domain; without it the last weights are kept.
        callbacks: Keras's; each phase is one `fit` to them, with epochs counted over the whole run.
        on_epoch: told all rows so far, and of the last `seconds`, `images_per_s`, and what is left: see `Clock.took`.
        checkpoints: folder for the resumable state after each epoch; empty unless `resume`.
        resume: go on from the newest checkpoint there.
        cache_dir: where phases with a cache keep their activations; None: in the user's cache folder.
        strategy: of `tf.distribute`; None: the current one.
        step_for: what a phase learns; called for each before the first begins, see `PhaseStartStep`.
        on_phase_end: told the history so far when the model has the weights that the next phase starts from.
        on_proof: told the proofs so far, the new one last, also when it does not hold.

    Returns:
        The history and one proof a phase.

    Raises:
        RequestError: a phase asks for a domain, block, layer, stream or figure that is not there; nothing was trained.
        RunFailed: an image can no longer be read, or there is no room for a cache.
        PermanentFailure: frozen weights moved, or, `Diverged`, a loss or a weight is not a number.
    """
    trains, vals = _by_domain(train), _by_domain(val)
    phases = [resolve_batch_norm(model, phase) for phase in _unfrozen_by_epoch(model, phases)]
    cache_dir = cache_dir or activations_folder()
    strategy = strategy or tf.distribute.get_strategy()
    all_phase_data = _lessons(model, phases, trains, vals, target, step_for, strategy, cache_dir)
    saved = _saved(checkpoints, resume=resume)
    state = saved.state if saved else TrainingState()
    loop = PhaseLoop(
        model, all_phase_data, callbacks, on_epoch, checkpoints, cache_dir, strategy, state,
        Clock([phase_data.phase for phase_data in all_phase_data]),
    )  # fmt: skip
    loop.run(saved, on_freeze_report=on_freeze_report, on_phase_end=on_phase_end)
    return state.history()


def _unfrozen_by_epoch(model: keras.Model, phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases, those of gradual unfreezing as one phase per block."""
    names: list[str] = []
    if any(isinstance(phase.trainable, Unfreeze) for phase in phases):
        names = [block.name for block in blocks_of(model)]
    return [part for phase in phases for part in phase.unfrozen_by_epoch(names)]


def _by_domain(images: ImageDataset | Sources | None) -> Sources:
    if images is None:
        return {}
    return images if isinstance(images, Mapping) else {"source": images}


def _lessons(
    model: keras.Model,
    phases: Sequence[Phase],
    trains: Sources,
    vals: Sources,
    target: ImageDataset | None,
    step_for: StepFactory,
    strategy: tf.distribute.Strategy,
    cache_dir: Path,
) -> list[PhaseData]:
    """Return the lessons, every cache decided; see that all of them can be run, see `check_phases`."""
    with strategy.scope():
        all_phase_data = build_phase_data(
            model, phases, trains=trains, vals=vals, target=target, step_for=step_for
        )
    reads = [list(phase_data.streams.values()) for phase_data in all_phase_data]
    decided = decide_phases([phase_data.phase for phase_data in all_phase_data], trains, reads=reads)
    check_phases(model, decided, trains=trains, vals=vals, cache_dir=cache_dir, reads=reads)
    return [replace(one, phase=phase) for one, phase in zip(all_phase_data, decided, strict=True)]


def _saved(folder: Path | None, *, resume: bool) -> Checkpoint | None:
    path = newest_checkpoint(folder) if folder else None
    if path and not resume:
        raise RequestError(
            f"{path.parent} holds the checkpoints of another training. Name a new folder, or resume it."
        )
    return Checkpoint(path) if path else None
