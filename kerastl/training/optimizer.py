"""The optimizer of a phase: a Keras optimizer with its own learning rate for each variable.

Keras optimizers have one learning rate. Here, the learning rate of each variable is that rate times a factor, in the
update and in weight decay. Clipping uses all gradients together, and a variable that joins later has its own step count,
so that the bias correction of Adam is correct. The model is compiled with the plain Keras optimizer, which shares all
variables. Therefore `keras.saving.load_model` needs no class of this package.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from kerastl.recipe.phase import Phase
from kerastl.training.custom_objects import copy_optimizer
from kerastl.training.freeze import copy_of, list_blocks, named_layers, override_attribute, preserve_values


class _VariableRates:
    """Update rules with a learning rate per variable, on the state of a plain Keras optimizer. See `build_optimizer`.

    Attributes:
        plain: The Keras optimizer. Both share the variables of the learning rate, the step count and the slots.
    """

    plain: keras.Optimizer

    @property
    def iterations(self: Any) -> Any:
        """The number of steps. During the update of a variable, the number of steps since it joined."""
        return self._iterations - self._current_offset if self._current_offset else self._iterations

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable with its own learning rate."""
        key = self._var_key(variable)
        parent: Any = super()
        with override_attribute([self], "_current_offset", self._joined_at[key]):
            parent.update_step(gradient, variable, learning_rate * self._factors[key])

    def _apply_weight_decay(self: Any, variables: Sequence[Any]) -> None:
        parent: Any = super()
        if self.weight_decay is None:
            return
        groups = defaultdict(list)
        for variable in variables:
            groups[self._factors[self._var_key(variable)]].append(variable)
        for factor, members in groups.items():
            with override_attribute([self], "weight_decay", self.weight_decay * factor):
                parent._apply_weight_decay(members)


class _Adam(_VariableRates, keras.optimizers.Adam):
    """Kingma & Ba 2015, arXiv:1412.6980, with a learning rate per variable."""


class _AdamW(_VariableRates, keras.optimizers.AdamW):
    """Loshchilov & Hutter 2019, arXiv:1711.05101, with a learning rate per variable. Vectors are not decayed."""


class _SGD(_VariableRates, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, with a learning rate per variable."""


OPTIMIZERS: dict[str, Any] = {"adam": _Adam, "adamw": _AdamW, "sgd": _SGD}
MOMENTUM = 0.9


def build_optimizer(
    phase: Phase,
    variables: Sequence[keras.Variable],
    factors: Mapping[str, float] | None = None,
    joined_at: Mapping[str, int] | None = None,
) -> Any:
    """Return the optimizer of a phase, built for its variables, with the learning rate of the phase.

    Args:
        phase: Its optimizer, learning rate, weight decay, clipping and gradient accumulation.
        variables: All trained variables.
        factors: The learning rate factor of each variable by path, see `rate_factors`. None for 1.
        joined_at: The step at which each variable joined, by path. None for the first step.

    Returns:
        A `keras.Optimizer` of a private class. Compile the model with its attribute `plain`. Its attribute `joined_at` is the
        argument.
    """
    factors, joined_at = factors or {}, joined_at or {}
    if isinstance(phase.optimizer, str):
        kind, plain = OPTIMIZERS[phase.optimizer], _plain_optimizer(phase, variables)
    else:
        plain = copy_optimizer(phase.optimizer)
        kind = type(f"_{type(plain).__name__}", (_VariableRates, type(plain)), {})
    plain.build(variables)
    optimizer: Any = kind.__new__(kind)
    paths = {plain._var_key(variable): variable.path for variable in variables}
    vars(optimizer).update(
        vars(plain),
        plain=plain,
        joined_at=joined_at,
        _factors={key: factors.get(path, 1.0) for key, path in paths.items()},
        _joined_at={key: joined_at.get(path, 0) for key, path in paths.items()},
        _current_offset=0,
    )
    return optimizer


def _plain_optimizer(phase: Phase, variables: Sequence[keras.Variable]) -> Any:
    """Return the Keras optimizer that a phase names, not built yet."""
    options: dict[str, Any] = {
        "learning_rate": phase.learning_rate,
        "global_clipnorm": phase.clip_norm,
        "gradient_accumulation_steps": phase.accumulate if phase.accumulate > 1 else None,
    }
    kind = OPTIMIZERS[phase.optimizer]
    more = {"adamw": {"weight_decay": phase.weight_decay}, "sgd": {"momentum": MOMENTUM}}
    plain: Any = kind.__bases__[1](**options, **more.get(phase.optimizer, {}))
    # Vectors are biases, and scales and offsets of normalization layers. Weight decay would distort them.
    plain.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    return plain


def rate_factors(model: keras.Model, phase: Phase) -> dict[str, float]:
    """Return the learning rate factor of each variable by path, if it is not 1.

    With `layer_decay` d, the factor is 1 for the head, d for the last block, d squared for the one before, and so on.
    A factor in `rates` overrides it.

    Args:
        model: A flat classifier.
        phase: Its `layer_decay` and `rates`.

    Reference:
        Howard & Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning).
    """
    rates = {rate.block: rate.factor for rate in phase.rates}
    if phase.layer_decay == 1.0 and not rates:
        return {}
    factors: dict[str, float] = {}
    layers = named_layers(model)
    for depth, block in enumerate(reversed(list_blocks(model)), start=1):
        factor = rates.get(block.name, phase.layer_decay**depth)
        for name in block.layers:
            factors.update({weight.path: factor for weight in layers[name].weights})
    return factors


def transfer_state(old: Any, new: Any) -> None:
    """Copy the step count and the slots to an optimizer of the same type, for the variables that both train."""
    new.iterations.assign(old.iterations)
    known = {variable.name: variable for variable in old.variables}
    for variable in new.variables:
        source = known.get(variable.name)
        if source is not None and variable is not new.iterations and source.shape == variable.shape:
            variable.assign(copy_of(source))


def continue_optimizer(
    old: Any,
    model: keras.Model,
    phase: Phase,
    variables: Sequence[keras.Variable],
    joined_at: Mapping[str, int] | None,
) -> Any:
    """Return the optimizer of a phase, with the state of the previous optimizer if the phase keeps it.

    Args:
        old: The optimizer of the previous phase, or None.
        model: A flat classifier.
        phase, variables: As in `build_optimizer`.
        joined_at: As in `build_optimizer`, for a phase that is resumed. None for a phase that starts.
    """
    named = OPTIMIZERS.get(phase.optimizer)
    kind = named.__bases__[1] if named else type(phase.optimizer)
    is_kept = phase.optimizer_state == "keep" and old is not None and type(old.plain) is kind
    if joined_at is None:
        earlier, steps = (old.joined_at, int(old.iterations)) if is_kept else ({}, 0)
        joined_at = {variable.path: earlier.get(variable.path, steps) for variable in variables}
    optimizer = build_optimizer(phase, variables, rate_factors(model, phase), joined_at)
    if is_kept:
        transfer_state(old, optimizer)
    return optimizer


def learning_rate_at(phase: Phase, step: int, *, steps_per_epoch: int) -> float:
    """Return the learning rate of one step of a phase, or of the schedule that the phase is a part of.

    `cosine` follows Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts, after a linear increase as in
    Goyal et al. 2017, arXiv:1706.02677, section 2.2.

    Args:
        phase: Its learning rate, schedule and warmup.
        step: The step in the schedule, from 0.
        steps_per_epoch: The number of steps of an epoch.
    """
    total = steps_per_epoch * phase.schedule_span[1]
    warmup = min(round(phase.warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return phase.learning_rate * (step + 1) / (warmup + 1)
    if phase.schedule == "constant":
        return phase.learning_rate
    done = (step - warmup) / max(1, total - warmup)
    return phase.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


class WeightAverages:
    """The average of each trained variable over a phase.

    Args:
        phase: With `ema`, the average is updated after each step: `average += (1 - m) * (weight - average)`, where `m` is
            the smaller of `ema` and `(1 + t) / (10 + t)` at step t, which reduces the influence of the initial weights.
            With `average_last: n`, it is the mean of the weights at the ends of the last n epochs. Without either,
            nothing is averaged.
        variables: The trained variables, created under the strategy.

    Reference:
        Polyak & Juditsky 1992, doi 10.1137/0330046; Izmailov et al. 2018, arXiv:1803.05407 (the last epochs).
    """

    def __init__(self, phase: Phase, variables: Sequence[keras.Variable]) -> None:
        self._momentum, self._last, self._epochs = phase.ema, phase.average_last, phase.epochs
        averaged = variables if self._momentum is not None or self._last else ()
        self._pairs = [
            (variable, keras.Variable(copy_of(variable), trainable=False, dtype=variable.dtype))
            for variable in averaged
        ]
        self._count = keras.Variable(0.0, trainable=False, dtype="float32")
        self._update = tf.function(self._move_averages, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables for a checkpoint."""
        return [self._count, *(average for _, average in self._pairs)] if self._pairs else []

    def on_step(self) -> None:
        """Update the averages after a step."""
        if self._momentum is None:
            return
        count = float(self._count.numpy())
        self._update(tf.constant(1.0 - min(self._momentum, (1.0 + count) / (10.0 + count))))
        self._count.assign(count + 1.0)

    def on_epoch(self, epoch: int) -> None:
        """Update the averages after an epoch of the phase, counted from 1."""
        if self._last and epoch > self._epochs - self._last:
            count = float(self._count.numpy()) + 1.0
            self._count.assign(count)
            self._update(tf.constant(1.0 / count, tf.float32))

    def _move_averages(self, share: tf.Tensor) -> None:
        for weight, average in self._pairs:
            average.assign(average + tf.cast(share, average.dtype) * (weight - average))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Assign the averages to the weights within the context, if there are averages."""
        if not self._pairs or not float(self._count.numpy()):
            yield
            return
        with preserve_values([weight for weight, _ in self._pairs]):
            for weight, average in self._pairs:
                weight.assign(average)
            yield


def build_l2_sp(
    strength: float, variables: Sequence[keras.Variable], initial_weights: Mapping[str, Any]
) -> Callable[[], tf.Tensor] | None:
    """Return a function that computes `strength / 2 * sum((w - w_initial) ** 2)`, a float32 scalar. None if it is 0.

    Args:
        strength: The strength of the penalty per step.
        variables: The trained variables. Those without initial weights, e.g. of a new head, are not penalized.
        initial_weights: The weights before training, by path.

    Reference:
        Li, Grandvalet & Davoine 2018, arXiv:1802.01483, equation 3 (L2-SP).
    """
    pairs = [
        (variable, tf.constant(initial_weights[variable.path]))
        for variable in variables
        if variable.path in initial_weights
    ]
    if not strength or not pairs:
        return None

    def penalty() -> tf.Tensor:
        squares = [
            tf.reduce_sum(tf.square(tf.cast(variable.value, tf.float32) - initial))
            for variable, initial in pairs
        ]
        return 0.5 * strength * tf.add_n(squares)

    return penalty
