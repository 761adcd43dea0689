"""Callbacks for `keras.Model.fit` (unfreezing, BatchNorm, freeze check) and a time budget for `kerastl.fit`.

Keras traces the training step once, with the current `trainable` flags, so later changes have no effect. The
callbacks that change flags therefore make Keras retrace the step, and rebuild the optimizer with slots for
the variables that are trained from then on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any

import keras
from annotated_types import Gt, MinLen

from kerastl.errors import PermanentFailure, RequestError
from kerastl.options import checked
from kerastl.recipe.phase import BatchNorm, Phase
from kerastl.training import freeze
from kerastl.training.custom_objects import copy_optimizer

Phases = Annotated[Sequence[Phase], MinLen(1)]


class UnfreezeSchedule(keras.callbacks.Callback):
    """Unfreeze layers at given epochs.

    When the trained variables change, the optimizer is reset, with its current learning rate, so that Adam's
    bias correction is valid for the newly trained variables. In `kerastl.fit`, use one `Phase` per part
    instead.

    Args:
        schedule: Maps epochs, counted from 0, to the layers that are trained from the beginning of that
            epoch: `"none"` (only the head), `"all"`, `{"top_fraction": 0.3}`, `{"names": "block_4.*"}` (a
            regular expression) or `{"from_block": NAME}`. Before the first of these epochs, the layers keep
            their flags.
        batch_norm: The rule for BatchNorm layers: `"frozen"`, `"statistics"` or `"trainable"`, as in `Phase`.

    The head of a classifier from `build_classifier` is always trained, and fractions are rounded to a block
    boundary. In any other model, the head is the last layer with weights, and every other layer with weights
    is its own block.

    Raises:
        RequestError: If an epoch or a selection is not allowed. When training begins: if a selection does not
            match the model, or if the optimizer has a learning rate schedule, which would also be reset.

    Example:
    ```python
    unfreezing = kerastl.callbacks.UnfreezeSchedule({0: "none", 3: {"top_fraction": 0.3}})
    model.compile(keras.optimizers.Adam(1e-4), loss)
    model.fit(images, labels, epochs=6, callbacks=[unfreezing])
    ```
    """

    def __init__(self, schedule: Mapping[int, Any], *, batch_norm: BatchNorm = "frozen") -> None:
        super().__init__()
        epochs = list(schedule) if isinstance(schedule, Mapping) else []
        if not epochs or not all(type(epoch) is int and epoch >= 0 for epoch in epochs):
            raise RequestError(
                f"UnfreezeSchedule needs at least one epoch, an integer from 0, got {epochs or schedule}. "
                "Use {0: 'none', 3: 'all'}."
            )
        self._stages = {
            epoch: Phase(f"epoch_{epoch}", 1, trainable=trainable, batch_norm=batch_norm)
            for epoch, trainable in schedule.items()
        }
        self._stage: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Check that the model allows all selections, before any step."""
        _check_is_keras_fit(self)
        self._stage = None
        for stage in self._stages.values():
            freeze.select_layers(self.model, stage.trainable)
        if max(self._stages) > 0:
            _check_learning_rate(self.model.optimizer)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Set the flags if the trained layers change at this epoch."""
        stage = max((first for first in self._stages if first <= epoch), default=None)
        if stage is not None and stage != self._stage:
            self._stage = stage
            phase = self._stages[stage]
            freeze.unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
            _apply_flags(self.model)


class BatchNormPolicy(keras.callbacks.Callback):
    """Apply one rule to all BatchNorm layers, including those in nested models and layers.

    `backbone(x, training=False)` does not keep BatchNorm layers in inference mode during training, and
    setting `trainable = True` on a model enables all of them again. The rule is applied at the beginning of
    each epoch.

    Args:
        rule: `"frozen"` uses the running statistics, and changes neither these nor the scale and offset.
            `"statistics"` normalizes with the batch statistics and updates the running statistics, but keeps
            the scale and offset. `"trainable"` also trains the scale and offset.

    Example:
    ```python
    model.fit(images, labels, epochs=3, callbacks=[kerastl.callbacks.BatchNormPolicy("frozen")])
    ```
    """

    def __init__(self, rule: BatchNorm = "frozen") -> None:
        super().__init__()
        self._rule = Phase("batch_norm", 1, batch_norm=rule).batch_norm or "frozen"

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Check that `keras.Model.fit` trains the model."""
        _check_is_keras_fit(self)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Apply the rule."""
        layers = freeze.batch_norm_layers(self.model)
        before = _flags(layers)
        for layer in layers:
            freeze.set_batch_norm(layer, self._rule, is_selected=True)
        if _flags(layers) != before:
            _apply_flags(self.model)


class FreezeCheck(keras.callbacks.Callback):
    """Verify by checksums in each epoch that no frozen variable changed and a trainable variable did.

    BatchNorm statistics are frozen while their layer has `trainable = False`. All weights are read twice per
    epoch. This callback can be listed before or after those that change flags.

    Raises:
        PermanentFailure: If the check fails, at the end of the epoch. With a learning rate of 0, it always
            fails.

    Example:
    ```python
    model.fit(images, labels, epochs=3, callbacks=[kerastl.callbacks.FreezeCheck()])
    ```
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[tuple[keras.Variable, str]] = []
        self._trained: list[tuple[keras.Variable, str]] = []
        self._is_read = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Start a new comparison."""
        self._is_read = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Read the variables before the first step, when all callbacks have set their flags."""
        if not self._is_read:
            self._is_read = True
            self._frozen, self._trained = (
                [(variable, freeze.checksum(variable)) for variable in variables]
                for variables in (freeze.frozen_variables(self.model), self.model.trainable_variables)
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Compare the variables with those before the first step."""
        if not self._is_read:
            return
        changed = [variable for variable, before in self._frozen if freeze.checksum(variable) != before]
        faults = [freeze.describe_frozen_changes(changed)] if changed else []
        if self._trained and all(freeze.checksum(variable) == before for variable, before in self._trained):
            faults.append(freeze.NOTHING_CHANGED)
        if faults:
            raise PermanentFailure(f"epoch {epoch + 1}: {' Also, '.join(faults)}")


def _check_is_keras_fit(callback: keras.callbacks.Callback) -> None:
    """Raise an error if the model is not trained by `keras.Model.fit`."""
    if callback.model.train_function is None:
        raise RequestError(
            f"{type(callback).__name__} works only in keras.Model.fit. With kerastl.fit, set trainable and batch_norm of each "
            "kerastl.Phase instead."
        )


def _check_learning_rate(optimizer: keras.Optimizer) -> None:
    """Raise an error if the learning rate depends on the step count, which is reset."""
    if not isinstance(getattr(optimizer, "inner_optimizer", optimizer)._learning_rate, keras.Variable):
        raise RequestError(
            "The optimizer uses a learning rate schedule, which would restart when the trainable variables change. "
            "Compile the model with a constant learning rate, and use keras.callbacks.LearningRateScheduler."
        )


def _flags(layers: Sequence[keras.layers.Layer]) -> list[bool]:
    return [owner.trainable for layer in layers for owner in (layer, *layer.weights)]


def _apply_flags(model: keras.Model) -> None:
    """Make Keras retrace the training step, with an optimizer for the variables that are now trainable."""
    optimizer = model.optimizer
    if {id(variable) for variable in optimizer._trainable_variables} != {
        id(variable) for variable in model.trainable_variables
    }:
        if int(optimizer.iterations):
            _check_learning_rate(optimizer)
        with model.distribute_strategy.scope():
            restarted = copy_optimizer(optimizer)
            restarted.build(model.trainable_variables)
        # In place, because the model and other callbacks hold a reference to this object.
        vars(optimizer).clear()
        vars(optimizer).update(vars(restarted))
    model.make_train_function(force=True)


class TimeBudget(keras.callbacks.Callback):
    """Stop each phase of `fit` when its share of a time budget is used up.

    Each phase has a share of the time in proportion to its epochs. Unused time is available to the following
    phases. A phase stops after an epoch if the next one, which is expected to take the same time, would
    exceed the share. Every phase trains for at least one epoch. Validation, checkpoints and filling a cache
    count as training.

    Args:
        seconds: The time budget for all phases.
        phases: The phases that are passed to `fit`.

    Raises:
        RequestError: If an argument has a wrong type or is out of range.

    Attributes:
        elapsed_s: The seconds used so far. `fit` stores it in its checkpoints, so that resumed training uses
            the remainder.
    """

    @checked
    def __init__(self, seconds: Annotated[float, Gt(0)], phases: Phases) -> None:
        super().__init__()
        self._phases = phases
        epochs = list(accumulate(phase.epochs for phase in self._phases))
        self._deadlines = [seconds * done / epochs[-1] for done in epochs]
        self.elapsed_s = 0.0
        self.phase_index = -1
        self.phase_epochs = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Start a phase."""
        self.phase_index += 1
        self.phase_epochs = 0
        self.stop_reason = ""
        self._counted_until = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Start timing an epoch."""
        self._epoch_start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Stop the phase if there is no time for another epoch."""
        now = time.perf_counter()
        self.elapsed_s += now - self._counted_until
        self._counted_until = now
        self.phase_epochs += 1
        phase = self._phases[self.phase_index]
        expected_s = self.elapsed_s + now - self._epoch_start
        if self.phase_epochs < phase.epochs and expected_s > self._deadlines[self.phase_index]:
            self.model.stop_training = True
            self.stop_reason = "time_budget"
