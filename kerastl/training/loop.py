"""The training loop: phases of epochs of steps, with TensorFlow's public API.

It drives `keras.callbacks.CallbackList`, so that every Keras callback works. It runs under any `tf.distribute` strategy,
and does not depend on the learning method, which is a `Step`.
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
from kerastl.models import fold_batch_norm, get_blocks
from kerastl.recipe.phase import Phase, Unfreeze
from kerastl.tasks import SINGLE_LABEL
from kerastl.training.checkpoint import (
    BestEpoch,
    Checkpoint,
    History,
    TrainingState,
    WeightSnapshot,
    callback_states,
    newest_checkpoint,
    restore_callbacks,
    write_checkpoint,
)
from kerastl.training.checks import Sources, check_epoch, check_losses, check_phases, decide_phases
from kerastl.training.freeze import (
    build_freeze_report,
    check_freeze_report,
    checksums,
    disable_frozen_dropout,
    read_statistics,
    resolve_batch_norm,
    unfreeze,
)
from kerastl.training.losses import ClassificationStep, balanced_weights
from kerastl.training.optimizer import (
    WeightAverages,
    build_l2_sp,
    build_optimizer,
    learning_rate_at,
    rate_factors,
    transfer_state,
)
from kerastl.training.step import (
    PhaseData,
    PhaseStartStep,
    Step,
    StepFactory,
    build_phase_data,
    trace_inference,
    trained_variables,
)
from kerastl.training.train_step import Update, build_update, read_batches, step_inputs
from kerastl.training.trunk import (
    Source,
    activations_folder,
    build_phase_network,
    find_frozen_trunk,
    split_model,
)

Array = np.ndarray[Any, Any]


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
    show_progress: bool,
) -> dict[str, Any]:
    """Run the steps of the next epoch. Return the mean of each loss and metric over its images.

    Args:
        phase: Its learning rate, schedule and length.
        streams: Datasets by name. The epoch is one pass over the first.
        state: The training state.
        update: The update of the weights.
        optimizer: Its learning rate is set if the phase has a schedule or a warmup.
        averages: The averages of the weights, updated after each step.
        callbacks: The Keras callback list.
        strategy: The strategy with the replicas.
        show_progress: Whether a terminal shows a progress bar.

    Raises:
        Diverged: If a loss is not finite.
    """
    sums: dict[str, float] = {}
    seen, steps = 0, next(iter(streams.values())).steps_per_epoch
    epochs_before, epochs = phase.schedule_span
    start = (epochs_before + state.phase_epochs) * steps
    inputs: Any = step_inputs(streams, state.epochs, strategy, start)
    if show_progress:
        inputs = track(inputs, f"epoch {state.epochs + 1}, {phase.name}", steps)
    with closing(inputs):
        for index, (batches, share, numbers, count) in enumerate(inputs):
            done = start + index
            if phase.schedule != "constant" or phase.warmup_epochs > 0:
                # Without a schedule, callbacks control the learning rate.
                optimizer.learning_rate = learning_rate_at(
                    done, highest=phase.learning_rate, steps_per_epoch=steps, epochs=epochs,
                    schedule=phase.schedule, warmup_epochs=phase.warmup_epochs,
                )  # fmt: skip
            callbacks.on_train_batch_begin(index)
            progress = tf.constant(done / max(1, steps * epochs), tf.float32)
            losses = update(batches, share, progress, numbers)
            averages.on_step()
            values = {name: float(value) for name, value in losses.items()}
            check_losses(values, f"phase {phase.name}, epoch {state.epochs + 1}, step {index + 1}")
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value * count
            seen += count
            callbacks.on_train_batch_end(index, {name: sums[name] / seen for name in sums})
    return {name: value / seen for name, value in sums.items()}


Forward = Callable[[tf.Tensor], tf.Tensor]


def validate(forward: Forward, source: Source) -> dict[str, float | None]:
    """Return the validation metrics of a model.

    Args:
        forward: Images `[b, h, w, 3]` in [0, 255], or activations, to logits `[b, classes]`, in inference mode.
        source: Labeled images, not augmented.

    Returns:
        `val_loss` (cross-entropy in nats), `val_accuracy`, `val_balanced_accuracy` (mean recall of the classes that are
        present) and `val_auc` (macro one-vs-rest; None if a class is absent).
    """
    logits, labels = [], []
    for images, batch_labels, _ in read_batches(source, 0):
        logits.append(np.asarray(forward(images)))
        labels.append(np.asarray(batch_labels))
    return validation_metrics(np.concatenate(logits), np.concatenate(labels))


def validation_metrics(logits: Array, labels: Array) -> dict[str, float | None]:
    """Return the metrics of `validate` for logits `[n, classes]` and labels `[n]`."""
    is_correct = logits.argmax(axis=1) == labels
    recalls = [is_correct[labels == label].mean() for label in np.unique(labels)]
    return {
        "val_loss": float(tf.reduce_mean(SINGLE_LABEL.loss(labels, logits))),
        "val_accuracy": float(is_correct.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        "val_auc": _auc(logits.astype(np.float64), labels),
    }


def _auc(logits: Array, labels: Array) -> float | None:
    num_classes = logits.shape[1]
    if len(np.unique(labels)) < num_classes or not np.isfinite(logits).all():
        return None
    if num_classes == 2:
        return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    probabilities = SINGLE_LABEL.probabilities(logits)
    return float(roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))


def compare_trunk_precision(
    model: keras.Model, phase: Phase, val: ImageDataset | None
) -> dict[str, Any] | None:
    """Return the validation metrics with the frozen trunk in float32 and in the precision of the phase.

    Args:
        model: The model with the final weights of the phase.
        phase: The phase. The result is None if its `trunk_precision` is float32.
        val: The validation images, read once for both. None sets the metrics to None.

    Returns:
        `{"precision", "boundary", "float32": {...}, "rounded": {...}}` with the metrics of `validate`.
    """
    trunk = find_frozen_trunk(model, phase)
    if phase.trunk_precision == "float32" or trunk is None:
        return None
    report: dict[str, Any] = {"precision": phase.trunk_precision, "boundary": trunk.boundary}
    if val is None:
        return {**report, "float32": None, "rounded": None}
    parts = split_model(model, trunk)
    tail = trace_inference(parts.tail)
    trunks = [
        trace_inference(fold_batch_norm(parts.trunk, name)) for name in ("float32", phase.trunk_precision)
    ]
    logits: list[list[Any]] = [[], []]
    labels = []
    for images, batch_labels, _ in read_batches(val, 0):
        labels.append(np.asarray(batch_labels))
        for forward, rows in zip(trunks, logits, strict=True):
            rows.append(np.asarray(tail(forward(images))))
    exact, rounded = (validation_metrics(np.concatenate(rows), np.concatenate(labels)) for rows in logits)
    return {**report, "float32": exact, "rounded": rounded}


MIN_PROGRESS_BAR_S = 2.0
"""An epoch shows a progress bar if the previous one took this long. Shorter progress bars would only flicker."""


class EpochTimer:
    """The duration of each epoch and an estimate of the remaining time.

    Args:
        phases: All phases, in order.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = tuple(phases)
        self._phase, self._seconds = 0, list[float]()

    @property
    def shows_progress_bar(self) -> bool:
        """Whether an epoch is long enough for a progress bar. True for the first one."""
        return not self._seconds or self._seconds[-1] >= MIN_PROGRESS_BAR_S

    def add_epoch(self, seconds: float, state: TrainingState) -> dict[str, Any]:
        """Add an epoch and return the remaining time.

        The estimate is the median of the epochs of the phase. The first epoch includes tracing and counts only while it is
        the only one.

        Args:
            seconds: The duration of the epoch.
            state: The training state after the epoch.

        Returns:
            `seconds_left`: for the current phase. `at_most`: whether early stopping can shorten it. `untimed`: the names
            of later phases, whose duration is unknown.
        """
        if state.phase != self._phase:
            self._phase, self._seconds = state.phase, []
        self._seconds.append(seconds)
        phase, *later = self._phases[state.phase :]
        epochs = 0 if state.stopped else phase.epochs - state.phase_epochs
        remaining = [*([phase] if epochs else []), *later]
        return {
            "seconds_left": epochs * statistics.median(self._seconds[1:] or self._seconds),
            "at_most": any(phase.early_stopping is not None for phase in remaining),
            "untimed": [phase.name for phase in later],
        }


OnEpoch = Callable[[Sequence[dict[str, Any]], dict[str, Any]], None]
OnPhaseEnd = Callable[[Phase, History], None]
OnFreezeReport = Callable[[Sequence[dict[str, Any]]], None]


class PhaseLoop:
    """Runs the phases of one call of `fit`.

    Args:
        model, callbacks, on_epoch, checkpoints, strategy: As in `fit`.
        all_phase_data: The data of each phase.
        cache_dir: Folder of the caches.
        state: The training state, which is updated.
        timer: Estimates the remaining time.
    """

    def __init__(
        self,
        model: keras.Model,
        all_phase_data: Sequence[PhaseData],
        callbacks: Sequence[keras.callbacks.Callback],
        on_epoch: OnEpoch | None,
        checkpoints: Path | None,
        cache_dir: Path,
        strategy: tf.distribute.Strategy,
        state: TrainingState,
        timer: EpochTimer,
    ) -> None:
        self.model, self.all_phase_data, self.strategy = model, all_phase_data, strategy
        self.callbacks, self.on_epoch, self.checkpoints = callbacks, on_epoch, checkpoints
        self.state, self.cache_dir, self.timer = state, cache_dir, timer
        self.snapshot = WeightSnapshot(model)
        head = {weight.path for weight in model.get_layer("head").weights}
        self.initial_weights = {
            weight.path: value
            for weight, value in zip(model.weights, self.snapshot.values, strict=True)
            if weight.path not in head
        }
        self.optimizer: Any = None
        self.optimizer_name = ""
        self.optimized_paths: set[str] = set()

    def run(
        self,
        saved: Checkpoint | None,
        *,
        on_freeze_report: OnFreezeReport | None,
        on_phase_end: OnPhaseEnd | None,
    ) -> None:
        """Run the remaining phases. Resume from `saved` if given; the other arguments are as in `fit`."""
        for data in self.all_phase_data[self.state.phase :]:
            phase = data.phase
            report = self.run_phase(data, saved)
            saved = None
            if on_freeze_report and report["faults"]:
                on_freeze_report(self.state.freeze_reports)
            check_freeze_report(report)
            self.end_phase(phase)
            if comparison := compare_trunk_precision(self.model, phase, data.val):
                report["trunk"] = comparison
            if on_freeze_report:
                on_freeze_report(self.state.freeze_reports)
            if on_phase_end:
                on_phase_end(phase, self.state.history())

    def run_phase(self, data: PhaseData, saved: Checkpoint | None) -> dict[str, Any]:
        """Run one phase from its start, or from a checkpoint within it. Return its freeze report."""
        phase, step = data.phase, data.step
        unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
        variables = trained_variables(step, self.model)
        with self.strategy.scope():
            optimizer = self._build_optimizer(phase, variables, resumed=saved is not None)
            averages = WeightAverages(phase, variables)
        self.model.compile(optimizer.plain, loss=None)
        if saved:
            saved.restore(self.model, optimizer, step, averages)
            with averages.applied():
                self.snapshot.update_all()
        self.snapshot.set_changing(_changing_paths(self.model, step, variables))
        if not self.state.checksums:
            self.state.checksums = checksums(self.model)
            self.state.statistics = read_statistics(self.model)
        try:
            with disable_frozen_dropout(self.model):
                if isinstance(step, PhaseStartStep) and not saved:
                    step.on_phase_begin(self.model, data.streams)
                cache_report = self._run_epochs(data, optimizer, averages, variables)
        except Diverged as error:
            raise self._recover(phase, error) from error
        report = build_freeze_report(
            self.model, phase=phase.name, batch_norm=str(phase.batch_norm),
            trained={variable.path for variable in variables}, before=self.state.checksums,
            statistics=self.state.statistics, may_change=step.may_change,
        )  # fmt: skip
        if cache_report:
            report["cache"] = cache_report
        self.state.freeze_reports.append(report)
        return report

    def _recover(self, phase: Phase, error: Diverged) -> Diverged:
        """Restore the last good weights. Return the error with its remedy."""
        self.snapshot.restore()
        epoch = self.state.epochs
        restored = f"its weights after epoch {epoch}" if epoch else "its initial weights"
        return Diverged(
            error.what,
            f"The model has {restored} again. Try a smaller learning rate: "
            f"--set phases[{self.state.phase}].learning_rate={phase.learning_rate / 10:g}",
        )

    def _run_epochs(
        self, data: PhaseData, optimizer: Any, averages: WeightAverages, variables: Sequence[keras.Variable]
    ) -> dict[str, Any] | None:
        """Run the remaining epochs of a phase. Return the description of its cache."""
        phase, step, state = data.phase, data.step, self.state
        first = state.epochs - state.phase_epochs
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks), model=self.model, epochs=first + phase.epochs,
            steps=data.first.steps_per_epoch, verbose=0,
        )  # fmt: skip
        self.model.stop_training = False
        callbacks.on_train_begin()
        restore_callbacks(self.callbacks, state.callbacks)
        self._skip_epochs(int(self.model._initial_epoch or 0) - state.epochs)
        # Not before: the frozen trunk must be folded and cached with the restored weights.
        with self.strategy.scope():
            network = build_phase_network(self.model, data, self.cache_dir)
        forward = trace_inference(network.model)
        update = build_update(
            network.model, optimizer, step, variables, self.strategy, network.streams,
            build_l2_sp(phase.l2_sp, variables, self.initial_weights), phase.precision,
        )  # fmt: skip
        logs: dict[str, Any] = {}
        while state.phase_epochs < phase.epochs and not state.stopped:
            started = time.perf_counter()
            callbacks.on_epoch_begin(state.epochs)
            logs = run_steps(
                phase, network.streams, state, update, optimizer, averages, callbacks, self.strategy,
                show_progress=self.timer.shows_progress_bar,
            )  # fmt: skip
            averages.on_epoch(state.phase_epochs + 1)
            with averages.applied():
                step.on_epoch(self.model, data.streams)
                if network.val is not None:
                    callbacks.on_test_begin()
                    logs |= validate(forward, network.val)
                    callbacks.on_test_end(logs)
                rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
                where = f"phase {phase.name}, epoch {state.epochs + 1}"
                check_epoch(self.model, self.snapshot.current(), logs, where)
                callbacks.on_epoch_end(state.epochs, logs)
                self.snapshot.values = self.snapshot.current()  # a callback can have changed the weights
                self._record_epoch(data, {"learning_rate": rate, **logs}, started)
            state.callbacks = callback_states(self.callbacks)
            if self.checkpoints:
                write_checkpoint(self.checkpoints, state, self.model, optimizer, step, averages)
        callbacks.on_train_end(logs)
        state.callbacks = []
        return network.cache_report

    def _skip_epochs(self, epochs: int) -> None:
        """Count epochs that a Keras callback (BackupAndRestore) restored as finished."""
        if epochs > 0:
            self.state.epochs += epochs
            self.state.phase_epochs += epochs
            self.snapshot.update_all()

    def _record_epoch(self, data: PhaseData, logs: dict[str, Any], started: float) -> None:
        """Add an epoch to the history, and update the best epoch and early stopping."""
        phase, state = data.phase, self.state
        state.epochs += 1
        state.phase_epochs += 1
        state.rows.append({"phase": phase.name, "epoch": state.epochs, **logs})
        value = logs.get(phase.monitor)
        if value is not None:
            best = state.best.get(phase.domain)
            best_value = best.value if best and best.monitor == phase.monitor else None
            state.epochs_without_improvement += 1
            if phase.is_better(value, best_value):
                state.best[phase.domain] = BestEpoch(value, state.epochs, self.snapshot.values, phase.monitor)
                state.epochs_without_improvement = 0
        patience = phase.early_stopping
        out_of_patience = patience is not None and state.epochs_without_improvement >= patience
        state.stopped = out_of_patience or bool(self.model.stop_training)
        seconds = time.perf_counter() - started
        speed = data.first.num_examples / max(seconds, 1e-9)
        if self.on_epoch:
            timing = {"seconds": seconds, "images_per_s": speed} | self.timer.add_epoch(seconds, state)
            self.on_epoch(state.rows, timing)

    def _build_optimizer(self, phase: Phase, variables: Sequence[keras.Variable], *, resumed: bool) -> Any:
        """Return the optimizer of a phase, with the state of the previous optimizer if the phase keeps it."""
        is_kept = phase.optimizer_state == "keep" and phase.optimizer == self.optimizer_name
        old = self.optimizer if is_kept else None
        if not resumed:
            steps = 0 if old is None else int(old.iterations)
            known = set() if old is None else self.optimized_paths
            self.state.joined_at = {
                variable.path: self.state.joined_at.get(variable.path, 0) if variable.path in known else steps
                for variable in variables
            }
        factors = rate_factors(self.model, phase)
        optimizer = build_optimizer(phase, variables, factors, self.state.joined_at)
        if old is not None and not resumed:
            transfer_state(old, optimizer)
        self.optimizer, self.optimizer_name = optimizer, phase.optimizer
        self.optimized_paths = {variable.path for variable in variables}

        return optimizer

    def end_phase(self, phase: Phase) -> None:
        """Restore the best weights and reset the state for the next phase."""
        state = self.state
        best = state.best.get(phase.domain)
        # Otherwise the weights of the last epoch as validated: averaged if the phase averages weights.
        if best and best.monitor == phase.monitor and phase.keep == "best":
            self.snapshot.values = best.weights
        self.snapshot.restore()
        state.phase, state.phase_epochs, state.epochs_without_improvement = state.phase + 1, 0, 0
        state.stopped, state.checksums, state.statistics = False, {}, {}


def _changing_paths(model: keras.Model, step: Step, variables: Sequence[keras.Variable]) -> set[str]:
    """Return the paths of the variables that can change in a phase."""
    trained = {variable.path for variable in variables}
    return trained | {weight.path for weight in model.weights if step.may_change(weight)}


def classification_step(phase: Phase, source: ImageDataset) -> Step:
    """Return the classification step of a phase."""
    num_classes = len(source.class_names)
    weights = None
    if phase.class_weights == "balanced":
        weights = balanced_weights(np.asarray(source.labels), num_classes)
    elif isinstance(phase.class_weights, Mapping):
        weights = _class_weight_vector(phase.class_weights, source.class_names)
    return ClassificationStep(
        num_classes,
        label_smoothing=phase.label_smoothing,
        class_weights=weights,
        focal_gamma=phase.focal_gamma,
        update_statistics=phase.batch_norm != "frozen",
    )


def _class_weight_vector(weights: Mapping[str, float], class_names: Sequence[str]) -> Array:
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
    """Train a model phase by phase. It ends with the best weights of its last domain.

    If training diverges, the model gets the weights of the last good epoch.

    Args:
        model: A flat classifier from `build_model`, built inside `strategy.scope()` if there is a strategy.
        train: Labeled images, shuffled; or one dataset per domain, `{"source": ..., "target": ...}`. `{}` if the steps of
            all phases read only the target.
        phases: What each phase trains, how fast and how long.
        target: The training images of the target, for steps that read them. Only steps that use labels get them.
        val: Labeled validation images, or one dataset per domain. Without them, the last weights are kept.
        callbacks: Keras callbacks. Each phase is one `fit` for them, and epochs are counted over all phases.
        on_epoch: Called with all rows so far, and with `seconds`, `images_per_s` and the remaining time of the last epoch,
            see `EpochTimer.add_epoch`.
        checkpoints: Folder for a checkpoint after each epoch. It must be empty unless `resume` is set.
        resume: Whether to continue from the newest checkpoint.
        cache_dir: Folder of cached activations. None for the user's cache folder.
        strategy: A `tf.distribute` strategy. None for the current one.
        step_for: Builds the step of each phase before the first phase starts, see `PhaseStartStep`.
        on_phase_end: Called with the phase and the history when the model has the initial weights of the next phase.
        on_freeze_report: Called with all freeze reports so far, the last one possibly with faults.

    Returns:
        The history, with one freeze report per phase.

    Raises:
        RequestError: If a phase needs a domain, block, layer, stream or metric that does not exist. Nothing was trained.
        RunFailed: If an image cannot be read any more, or if there is no space for a cache.
        PermanentFailure: If frozen weights changed; as `Diverged`, if a loss or a weight is not finite.

    Example:
    ```python
    phase = kerastl.Phase("head", epochs=5, trainable="none")
    history = kerastl.training.fit(model, train, val=val, phases=[phase])
    ```
    """
    trains, vals = _by_domain(train), _by_domain(val)
    phases = [resolve_batch_norm(model, phase) for phase in _split_gradual(model, phases)]
    cache_dir = cache_dir or activations_folder()
    strategy = strategy or tf.distribute.get_strategy()
    all_phase_data = _prepare(model, phases, trains, vals, target, step_for, strategy, cache_dir)
    saved = _read_checkpoint(checkpoints, resume=resume)
    state = saved.state if saved else TrainingState()
    loop = PhaseLoop(
        model, all_phase_data, callbacks, on_epoch, checkpoints, cache_dir, strategy, state,
        EpochTimer([data.phase for data in all_phase_data]),
    )  # fmt: skip
    loop.run(saved, on_freeze_report=on_freeze_report, on_phase_end=on_phase_end)
    return state.history()


def _split_gradual(model: keras.Model, phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases, with gradual unfreezing split into one phase per block."""
    names: list[str] = []
    if any(isinstance(phase.trainable, Unfreeze) for phase in phases):
        names = [block.name for block in get_blocks(model)]
    return [part for phase in phases for part in phase.unfrozen_by_epoch(names)]


def _by_domain(images: ImageDataset | Sources | None) -> Sources:
    if images is None:
        return {}
    return images if isinstance(images, Mapping) else {"source": images}


def _prepare(
    model: keras.Model,
    phases: Sequence[Phase],
    trains: Sources,
    vals: Sources,
    target: ImageDataset | None,
    step_for: StepFactory,
    strategy: tf.distribute.Strategy,
    cache_dir: Path,
) -> list[PhaseData]:
    """Return the data of each phase with every cache decided, after all checks."""
    with strategy.scope():
        all_phase_data = build_phase_data(
            model, phases, trains=trains, vals=vals, target=target, step_for=step_for
        )
    phase_images = [list(data.streams.values()) for data in all_phase_data]
    decided = decide_phases([data.phase for data in all_phase_data], trains, phase_images=phase_images)
    check_phases(model, decided, trains=trains, vals=vals, cache_dir=cache_dir, phase_images=phase_images)
    return [replace(data, phase=phase) for data, phase in zip(all_phase_data, decided, strict=True)]


def _read_checkpoint(folder: Path | None, *, resume: bool) -> Checkpoint | None:
    path = newest_checkpoint(folder) if folder else None
    if path and not resume:
        raise RequestError(
            f"{path.parent} contains checkpoints of another training. Choose a new folder, or resume it."
        )
    return Checkpoint(path) if path else None
