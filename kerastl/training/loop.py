"""The training loop: phases, epochs and steps, with the public TensorFlow API.

The loop uses `keras.callbacks.CallbackList`, so that every Keras callback works. It runs under any
`tf.distribute` strategy and does not depend on the training method, which is a `Step`.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from kerastl.console import status, track
from kerastl.data import ImageDataset
from kerastl.errors import Diverged, RequestError, in_syntax, set_option
from kerastl.models import TrunkPrecision, fold_batch_norm
from kerastl.options import checked
from kerastl.recipe import diff_values
from kerastl.recipe.phase import Phase, Unfreeze
from kerastl.runs import refuse_changes
from kerastl.tasks import SINGLE_LABEL
from kerastl.training import freeze
from kerastl.training.checkpoint import (
    BestEpoch,
    Checkpoint,
    History,
    TrainingState,
    WeightSnapshot,
    describe_training,
    newest_checkpoint,
    write_checkpoint,
)
from kerastl.training.checks import Sources, check_epoch, check_losses, decide_phases
from kerastl.training.custom_objects import build_loss, describe_objects, metric_values
from kerastl.training.losses import ClassificationStep, balanced_weights
from kerastl.training.optimizer import WeightAverages, continue_optimizer, learning_rate_at
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
from kerastl.training.trunk import Source, activations_folder, build_phase_network, find_boundary, split_model

Array = np.ndarray[Any, Any]


def validate(
    forwards: Sequence[Callable[[tf.Tensor], tf.Tensor]],
    source: Source,
    *,
    phase: Phase | None = None,
    shows_progress: bool = True,
) -> list[dict[str, float | None]]:
    """Return the validation metrics of models, from one pass over the images.

    Args:
        forwards: One function per model: images `[b, h, w, 3]` in [0, 255], or activations, to logits `[b, classes]`, in
            inference mode.
        source: Labeled images, not augmented.
        phase: A phase whose custom loss replaces the cross-entropy, and whose custom metrics are added.
        shows_progress: Whether to show a progress bar on a terminal.

    Returns:
        For each model, `val_loss` (cross-entropy in nats), `val_accuracy`, `val_balanced_accuracy` (mean recall of the
        classes that are present) and `val_auc` (macro one-vs-rest; None if a class is absent).
    """
    batches: Any = read_batches(source, 0)
    if shows_progress:
        batches = track(batches, "validating", source.steps_per_epoch)
    outputs = [
        ([np.asarray(forward(images)) for forward in forwards], np.asarray(labels))
        for images, labels, _ in batches
    ]
    logits, labels = zip(*outputs, strict=True)
    return [
        _metrics(np.concatenate(parts), np.concatenate(labels), phase) for parts in zip(*logits, strict=True)
    ]


def _metrics(logits: Array, labels: Array, phase: Phase | None) -> dict[str, float | None]:
    is_correct = logits.argmax(axis=1) == labels
    recalls = [is_correct[labels == label].mean() for label in np.unique(labels)]
    loss = tf.reduce_mean(SINGLE_LABEL.loss(labels, logits))
    if phase is not None and phase.loss is not None:
        loss = build_loss(phase.loss)(tf.constant(labels), tf.constant(logits), tf.ones(len(labels)))
    return {
        "val_loss": float(loss),
        "val_accuracy": float(is_correct.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        "val_auc": _auc(logits.astype(np.float64), labels),
        **metric_values(phase.metrics if phase else (), logits, labels),
    }


def _auc(logits: Array, labels: Array) -> float | None:
    num_classes = logits.shape[1]
    if len(np.unique(labels)) < num_classes or not np.isfinite(logits).all():
        return None
    scores = logits[:, 1] - logits[:, 0] if num_classes == 2 else SINGLE_LABEL.probabilities(logits)
    return float(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


def compare_trunk_precision(
    model: keras.Model, phase: Phase, val: ImageDataset | None
) -> dict[str, Any] | None:
    """Return the validation metrics with the frozen trunk in float32 and in the precision of the phase.

    Args:
        model: The model with the final weights of the phase.
        phase: The phase. The result is None if its `trunk_precision` is float32.
        val: The validation images. None sets the metrics to None.

    Returns:
        `{"precision", "boundary", "float32": {...}, "rounded": {...}}` with the metrics of `validate`.
    """
    boundary = find_boundary(model, phase)
    if phase.trunk_precision == "float32" or boundary is None:
        return None
    trunk, tail = split_model(model, boundary)
    traced_tail = trace_inference(tail)

    def forward(precision: TrunkPrecision) -> Callable[[tf.Tensor], tf.Tensor]:
        traced_trunk = trace_inference(fold_batch_norm(trunk, precision))
        return lambda images: traced_tail(traced_trunk(images))

    report: dict[str, Any] = {"precision": phase.trunk_precision, "boundary": boundary}
    if val is None:
        return report | {"float32": None, "rounded": None}
    float32, rounded = validate([forward("float32"), forward(phase.trunk_precision)], val)
    return report | {"float32": float32, "rounded": rounded}


MIN_PROGRESS_BAR_S = 2.0
"""An epoch has a progress bar if the previous one took at least this long. Shorter ones would flicker."""


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

        The estimate is the median duration of the epochs in the phase. The first epoch includes tracing and
        is ignored as soon as there is a second one.

        Args:
            seconds: The duration of the epoch.
            state: The training state after the epoch.

        Returns:
            `seconds_left`: for the current phase. `at_most`: whether early stopping can shorten it.
            `untimed`: the names of later phases, whose duration is unknown.
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


@dataclass
class PhaseLoop:
    """Runs the phases of one call of `fit`.

    Args:
        model: The model as a functional model.
        keras_model: The model that callbacks receive, which has the same layers.
        callbacks, on_epoch, checkpoints, strategy: As in `fit`.
        all_phase_data: The data of each phase.
        cache_dir: Folder of the caches.
        saved: The checkpoint to resume from, or None.
        plan: The description of the training, see `describe_training`.
    """

    model: keras.Model
    keras_model: keras.Model
    all_phase_data: Sequence[PhaseData]
    callbacks: Sequence[keras.callbacks.Callback]
    on_epoch: OnEpoch | None
    checkpoints: Path | None
    cache_dir: Path
    strategy: tf.distribute.Strategy
    saved: Checkpoint | None
    plan: dict[str, Any]
    optimizer: Any = None

    def __post_init__(self) -> None:
        self.state = self.saved.state if self.saved else TrainingState(plan=self.plan)
        self.timer = EpochTimer([data.phase for data in self.all_phase_data])
        self.snapshot = WeightSnapshot(self.model)
        is_penalized = any(data.phase.l2_sp for data in self.all_phase_data)
        self.initial_weights = freeze.backbone_values(self.model) if is_penalized else {}

    def run(self, *, on_freeze_report: OnFreezeReport | None, on_phase_end: OnPhaseEnd | None) -> History:
        """Run the remaining phases. The arguments are as in `fit`."""
        for data in self.all_phase_data[self.state.phase :]:
            report = self.run_phase(data)
            self.saved = None
            if not report["faults"]:
                self.end_phase(data.phase, report["parameters"])
                if comparison := compare_trunk_precision(self.model, data.phase, data.val):
                    report["trunk"] = comparison
            if on_freeze_report:
                on_freeze_report(self.state.freeze_reports)
            freeze.check_freeze_report(report)
            if on_phase_end:
                on_phase_end(data.phase, self.state.history())
        return self.state.history()

    def run_phase(self, data: PhaseData) -> dict[str, Any]:
        """Run one phase from its start, or from a checkpoint within it. Return its freeze report."""
        phase, step = data.phase, data.step
        freeze.unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
        variables = trained_variables(step, self.model)
        with self.strategy.scope():
            joined_at = self.state.joined_at if self.saved else None
            self.optimizer = continue_optimizer(self.optimizer, self.model, phase, variables, joined_at)
            self.state.joined_at = self.optimizer.joined_at
            self.averages = WeightAverages(phase, variables)
        self.keras_model.compile(self.optimizer.plain, loss=None)
        if self.saved:
            self.saved.restore(self.model, self.optimizer, step, self.averages)
            with self.averages.applied():
                self.snapshot.update_all()
        states = freeze.state_paths(self.model)

        def may_change(variable: keras.Variable) -> bool:
            return variable.path in states or step.may_change(variable)

        self.snapshot.changing = {variable.path for variable in variables} | {
            weight.path for weight in self.model.weights if may_change(weight)
        }
        if not self.state.checksums:
            self.state.checksums = freeze.checksums(self.model)
            self.state.statistics = freeze.read_statistics(self.model)
        try:
            with freeze.disable_frozen_dropout(self.model):
                if isinstance(step, PhaseStartStep) and not self.saved:
                    step.on_phase_begin(self.model, data.streams)
                cache_report = self._run_epochs(data, variables)
        except Diverged as error:
            raise self._recover(phase, error) from error
        report = freeze.build_freeze_report(
            self.model, phase, trained={variable.path for variable in variables},
            before=self.state.checksums, statistics=self.state.statistics, may_change=may_change,
        )  # fmt: skip
        if cache_report:
            report["cache"] = cache_report
        self.state.freeze_reports.append(report)
        if objects := describe_objects(phase):
            self.state.objects.append(objects)
        return report

    def _recover(self, phase: Phase, error: Diverged) -> Diverged:
        """Restore the last good weights. Return the error with its remedy."""
        self.snapshot.restore()
        epoch = self.state.epochs
        restored = f"its weights after epoch {epoch}" if epoch else "its initial weights"
        rate = f"{phase.learning_rate / 10:g}"
        option = set_option(f"phases[{self.state.phase}].learning_rate", rate)
        smaller = in_syntax(option, f"learning_rate={rate}")
        return Diverged(error.what, f"The model has {restored} again. Try a smaller learning rate: {smaller}")

    def _run_epochs(self, data: PhaseData, variables: Sequence[keras.Variable]) -> dict[str, Any] | None:
        """Run the remaining epochs of a phase. Return the description of its cache."""
        phase, step, state = data.phase, data.step, self.state
        first = state.epochs - state.phase_epochs
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks), model=self.keras_model, epochs=first + phase.epochs,
            steps=data.first.steps_per_epoch, verbose=0,
        )  # fmt: skip
        self.keras_model.stop_training = False
        callbacks.on_train_begin()
        state.restore_callbacks(self.callbacks)
        self._skip_epochs(int(self.keras_model._initial_epoch or 0) - state.epochs)
        # Not before: the frozen trunk must be folded and cached with the restored weights.
        with status(f"preparing phase {phase.name}", prints_line=False), self.strategy.scope():
            network = build_phase_network(self.model, data, self.cache_dir)
        forward = trace_inference(network.model)
        update = build_update(network, data, self.optimizer, variables, self.strategy, self.initial_weights)
        logs: dict[str, Any] = {}
        while state.phase_epochs < phase.epochs and not state.stopped:
            started = time.perf_counter()
            callbacks.on_epoch_begin(state.epochs)
            logs = self._run_steps(phase, network.streams, update, callbacks)
            self.averages.on_epoch(state.phase_epochs + 1)
            with self.averages.applied():
                step.on_epoch(self.model, data.streams)
                if network.val is not None:
                    callbacks.on_test_begin()
                    shows_progress = self.timer.shows_progress_bar
                    (values,) = validate([forward], network.val, phase=phase, shows_progress=shows_progress)
                    logs |= values
                    callbacks.on_test_end(logs)
                rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
                where = f"phase {phase.name}, epoch {state.epochs + 1}"
                check_epoch(self.model, self.snapshot.current(), logs, where)
                callbacks.on_epoch_end(state.epochs, logs)
                self.snapshot.values = self.snapshot.current()  # a callback can have changed the weights
                self._record_epoch(data, {"learning_rate": rate, **logs}, started)
            state.read_callbacks(self.callbacks)
            if self.checkpoints:
                write_checkpoint(self.checkpoints, state, self.model, self.optimizer, step, self.averages)
        callbacks.on_train_end(logs)
        state.callbacks = []
        return network.cache_report

    def _run_steps(
        self, phase: Phase, streams: Mapping[str, Source], update: Update, callbacks: Any
    ) -> dict[str, Any]:
        """Run the steps of the next epoch. Return the mean of each loss and metric over its images.

        Raises:
            Diverged: If a loss is not finite.
        """
        state, sums = self.state, defaultdict[str, float](float)
        seen, steps = 0, next(iter(streams.values())).steps_per_epoch
        epochs_before, epochs = phase.schedule_span
        start = (epochs_before + state.phase_epochs) * steps
        inputs: Any = step_inputs(streams, state.epochs, self.strategy, start)
        if self.timer.shows_progress_bar:
            inputs = track(inputs, f"epoch {state.epochs + 1}, {phase.name}", steps)
        with closing(inputs):
            for index, (batches, share, numbers, count) in enumerate(inputs):
                done = start + index
                if phase.schedule != "constant" or phase.warmup_epochs > 0:
                    # Without a schedule, callbacks control the learning rate.
                    self.optimizer.learning_rate = learning_rate_at(phase, done, steps_per_epoch=steps)
                callbacks.on_train_batch_begin(index)
                progress = tf.constant(done / max(1, steps * epochs), tf.float32)
                losses = update(batches, share, progress, numbers)
                self.averages.on_step()
                values = {name: float(value) for name, value in losses.items()}
                check_losses(values, f"phase {phase.name}, epoch {state.epochs + 1}, step {index + 1}")
                for name, value in values.items():
                    sums[name] += value * count
                seen += count
                callbacks.on_train_batch_end(index, {name: sums[name] / seen for name in sums})
        return {name: value / seen for name, value in sums.items()}

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
        if out_of_patience:
            state.stopped = "early_stopping"
        elif self.keras_model.stop_training:
            reasons = [getattr(callback, "stop_reason", "") for callback in self.callbacks]
            state.stopped = next(filter(None, reasons), "callback")
        seconds = time.perf_counter() - started
        speed = data.first.num_examples / max(seconds, 1e-9)
        if self.on_epoch:
            timing = {"seconds": seconds, "images_per_s": speed} | self.timer.add_epoch(seconds, state)
            self.on_epoch(state.rows, timing)

    def end_phase(self, phase: Phase, parameters: Mapping[str, int]) -> None:
        """Restore the best weights, summarize the phase and reset the state for the next one."""
        state = self.state
        best = state.best.get(phase.domain)
        # Otherwise the weights of the last epoch as validated: averaged if the phase averages weights.
        kept = best if best and best.monitor == phase.monitor and phase.keep == "best" else None
        if kept:
            self.snapshot.values = kept.weights
        self.snapshot.restore()
        state.add_phase(phase, kept, parameters)
        state.phase, state.phase_epochs, state.epochs_without_improvement = state.phase + 1, 0, 0
        state.stopped, state.checksums, state.statistics = "", {}, {}


def classification_step(phase: Phase, source: ImageDataset) -> Step:
    """Return the classification step of a phase."""
    num_classes = len(source.class_names)
    weights: Any = None
    if phase.class_weights == "balanced":
        weights = balanced_weights(np.asarray(source.labels), num_classes)
    elif isinstance(phase.class_weights, Mapping):
        unknown = [name for name in phase.class_weights if name not in source.class_names]
        if unknown:
            raise RequestError(
                f"class_weights: there is no class {unknown[0]!r}. Classes: {', '.join(source.class_names)}."
            )
        weights = [phase.class_weights.get(name, 1.0) for name in source.class_names]
    return ClassificationStep(
        num_classes,
        label_smoothing=phase.label_smoothing,
        class_weights=weights,
        focal_gamma=phase.focal_gamma,
        loss=None if phase.loss is None else build_loss(phase.loss),
        update_statistics=phase.batch_norm != "frozen",
    )


@checked
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
    """Train a model phase by phase. At the end, the model has the best weights for its last domain.

    If training diverges, the weights of the last good epoch are restored.

    Args:
        model: A classifier from `build_model`, or any other Keras model from images `[batch, h, w, 3]` in [0, 255] to logits
            `[batch, classes]`, or to one logit for the second of two classes. If there is a strategy, it is built inside
            `strategy.scope()`.
        train: Labeled images, shuffled; or one dataset per domain, `{"source": ..., "target": ...}`. `{}` if
            the steps of all phases read only the target.
        phases: The training phases, in order.
        target: The training images of the target, for steps that read them. Labels are passed only to steps
            that use them.
        val: Labeled validation images, or one dataset per domain. Without them, the last weights are kept.
        callbacks: Keras callbacks. Each phase is one `fit` for them, and epochs are counted over all phases.
        on_epoch: Called with all rows so far, and with `seconds`, `images_per_s` and the remaining time after
            the last epoch (see `EpochTimer.add_epoch`).
        checkpoints: Folder for a checkpoint after each epoch. It must be empty unless `resume` is set.
        resume: Whether to continue from the newest checkpoint. The phases, with their custom objects, the settings of the
            images and the names of the weights must be those of the interrupted training.
        cache_dir: Folder for cached activations. None uses the user's cache folder.
        strategy: A `tf.distribute` strategy. None uses the current one.
        step_for: Builds the step of each phase, before the first phase starts (see `PhaseStartStep`).
        on_phase_end: Called with the phase and the history when the model has the initial weights of the next
            phase.
        on_freeze_report: Called with all freeze reports so far. The last one can contain faults.

    Returns:
        The history, with one freeze report per phase.

    Raises:
        RequestError: If the model does not return logits, or its class names or image size are not those of the
            images; if a phase needs a domain, block, layer, stream or metric that does not exist; if the training that is
            resumed differs from the interrupted one. Nothing was trained.
        RunFailed: If an image can no longer be read, or if there is no disk space for a cache.
        PermanentFailure: If frozen weights changed, or, as its subclass `Diverged`, if a loss or a weight is
            not finite.

    Example:
    ```python
    phase = kerastl.Phase("head", epochs=5, trainable="none")
    history = kerastl.training.fit(model, train, val=val, phases=[phase])
    ```
    """
    trains, vals = _by_domain(train), _by_domain(val)
    network = freeze.as_trainable(model, *trains.values(), *vals.values())
    _check_loss_is_used(phases, step_for)
    strategy = strategy or tf.distribute.get_strategy()
    cache_dir = cache_dir or activations_folder()
    with strategy.scope():
        all_phase_data = build_phase_data(
            network, _divide(network, phases), trains=trains, vals=vals, target=target, step_for=step_for
        )
    phase_images = [list(data.streams.values()) for data in all_phase_data]
    phases = decide_phases(
        network, [data.phase for data in all_phase_data], phase_images, vals=vals, cache_dir=cache_dir
    )
    all_phase_data = [replace(data, phase=phase) for data, phase in zip(all_phase_data, phases, strict=True)]
    plan = describe_training(network, phases, {"train": trains, "val": vals})
    saved = _read_checkpoint(checkpoints, plan, resume=resume)
    loop = PhaseLoop(
        network, model, all_phase_data, callbacks, on_epoch, checkpoints, cache_dir, strategy, saved, plan
    )
    return loop.run(on_freeze_report=on_freeze_report, on_phase_end=on_phase_end)


def _check_loss_is_used(phases: Sequence[Phase], step_for: StepFactory) -> None:
    """Raise an error if a phase has a loss that its step does not use."""
    named = [phase.name for phase in phases if phase.loss is not None]
    if named and step_for is not classification_step:
        raise RequestError(
            f"phase {named[0]}: loss: is used in classification only, but step_for= builds a different step, which has its own "
            "loss. Remove one of the two."
        )


def _divide(model: keras.Model, phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases with `batch_norm` set, and with gradual unfreezing divided into one phase per block."""
    names: list[str] = []
    if any(isinstance(phase.trainable, Unfreeze) for phase in phases):
        names = [block.name for block in freeze.list_blocks(model)]
    return [
        freeze.resolve_batch_norm(model, part) for phase in phases for part in phase.unfrozen_by_epoch(names)
    ]


def _by_domain(images: ImageDataset | Sources | None) -> Sources:
    if images is None:
        return {}
    return images if isinstance(images, Mapping) else {"source": images}


def _read_checkpoint(folder: Path | None, plan: dict[str, Any], *, resume: bool) -> Checkpoint | None:
    """Return the newest checkpoint of a training with the same plan, or None if there is none."""
    path = newest_checkpoint(folder) if folder else None
    if not path:
        return None
    if not resume:
        raise RequestError(
            f"{path.parent} contains checkpoints of a different training run. Choose a new folder, or resume that run."
        )
    saved = Checkpoint(path)
    refuse_changes(path.parent, diff_values(saved.state.plan, plan))
    return saved
