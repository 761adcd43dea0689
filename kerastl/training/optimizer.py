"""The optimizer of a phase: a Keras optimizer with a learning rate for each block.

Keras optimizers have one learning rate. Here the rate of each variable is that rate times a factor, in the step and in
weight decay. Clipping sees all gradients together, schedules keep the ratios, and a variable that joins later counts
its own steps, so that Adam's bias correction holds. The model itself is compiled with the plain Keras optimizer, which
shares all variables, so that `keras.saving.load_model` needs no class of this package.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kerastl.models import blocks_of
from kerastl.recipe.phase import Phase


class _ByVariable:
    """Update rules with a rate for each variable, on the state of a plain Keras optimizer; see `build_optimizer`.

    Attributes:
        plain: the Keras optimizer. The learning rate, the step count and the momenta are the same variables in both.
    """

    plain: keras.Optimizer

    @property
    def iterations(self: Any) -> Any:
        """Steps so far; within the step of a variable, since it joined."""
        return self._iterations - self._joined if self._joined else self._iterations

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable at its own rate."""
        key = self._var_key(variable)
        self._joined = self._born[key]
        try:
            parent: Any = super()
            parent.update_step(gradient, variable, learning_rate * self._factors[key])
        finally:
            self._joined = 0

    def _apply_weight_decay(self: Any, variables: Sequence[Any]) -> None:
        parent: Any = super()
        whole = self.weight_decay
        if whole is None:
            return
        groups = defaultdict(list)
        for variable in variables:
            groups[self._factors[self._var_key(variable)]].append(variable)
        try:
            for factor, members in groups.items():
                self.weight_decay = whole * factor
                parent._apply_weight_decay(members)
        finally:
            self.weight_decay = whole


class _Adam(_ByVariable, keras.optimizers.Adam):
    """Kingma & Ba 2015, arXiv:1412.6980, with a rate for each variable."""


class _AdamW(_ByVariable, keras.optimizers.AdamW):
    """Loshchilov & Hutter 2019, arXiv:1711.05101, with a rate for each variable; vectors are not decayed."""


class _SGD(_ByVariable, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, with a rate for each variable."""


def build_optimizer(
    phase: Phase,
    variables: Sequence[keras.Variable],
    factors: Mapping[str, float] | None = None,
    born: Mapping[str, int] | None = None,
) -> Any:
    """Return the optimizer of a phase, built for its variables, with the phase's learning rate.

    Args:
        phase: its optimizer, learning rate, weight decay, clipping and accumulation.
        variables: all that will be trained.
        factors: of each variable's rate, by path, as `rate_factors` returns them; None: all 1.
        born: step with which each variable joined, by path; None: all with the first.

    Returns:
        A `keras.Optimizer` of a private class. Compile the model with its attribute `plain`.
    """
    factors, born = factors or {}, born or {}
    options: dict[str, Any] = {
        "learning_rate": phase.learning_rate,
        "global_clipnorm": phase.clip_norm,
        "gradient_accumulation_steps": phase.accumulate if phase.accumulate > 1 else None,
    }
    plain: Any
    if phase.optimizer == "adam":
        kind, plain = _Adam, keras.optimizers.Adam(**options)
    elif phase.optimizer == "adamw":
        kind, plain = _AdamW, keras.optimizers.AdamW(weight_decay=phase.weight_decay, **options)
    else:
        kind, plain = _SGD, keras.optimizers.SGD(momentum=0.9, **options)
    # Biases, and the scales and offsets of norms, are vectors: decay would pull them away from what they measure.
    plain.exclude_from_weight_decay(var_list=[one for one in variables if len(one.shape) < 2])
    plain.build(variables)
    optimizer: Any = kind.__new__(kind)
    keys = {plain._var_key(one): one.path for one in variables}
    vars(optimizer).update(
        vars(plain),
        plain=plain,
        _factors={key: factors.get(path, 1.0) for key, path in keys.items()},
        _born={key: born.get(path, 0) for key, path in keys.items()},
        _joined=0,
    )
    return optimizer


def rate_factors(model: keras.Model, phase: Phase) -> dict[str, float]:
    """Return the factor of each variable's rate, by path, where it is not 1.

    With `layer_decay` d the head has 1, the last block d, the one before d squared, and so on; a factor in `rates` takes
    its place.

    Args:
        model: a flat classifier.
        phase: its `layer_decay` and `rates`.

    Reference:
        Howard & Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning).
    """
    rates = {rate.block: rate.factor for rate in phase.rates}
    if phase.layer_decay == 1.0 and not rates:
        return {}
    blocks = blocks_of(model)
    factors = {}
    for place, block in enumerate(reversed(blocks)):
        factor = rates.get(block.name, phase.layer_decay ** (place + 1))
        for name in block.layers:
            factors.update({one.path: factor for one in model.get_layer(name).weights})
    return factors


def transfer_state(old: Any, new: Any) -> None:
    """Give an optimizer the momenta and the step count of the one before it, for the variables both have.

    Args:
        old, new: of `build_optimizer`, of one kind; those of another kind have nothing to hand on.
    """
    if type(old) is not type(new):
        return
    new.iterations.assign(old.iterations)
    known = {one.name: one for one in old.variables}
    for variable in new.variables:
        before = known.get(variable.name)
        if before is not None and variable is not new.iterations and before.shape == variable.shape:
            variable.assign(np.array(keras.ops.convert_to_numpy(before)))


def learning_rate_at(
    step: int,
    *,
    highest: float,
    steps_per_epoch: int,
    epochs: int,
    schedule: Literal["constant", "cosine"],
    warmup_epochs: float,
) -> float:
    """Return the rate of one step of a phase.

    Args:
        step: 0 for the first step of the phase.
        highest: the rate after warm-up.
        steps_per_epoch, epochs: the length of the phase.
        schedule: `cosine` follows Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
        warmup_epochs: epochs of linear climb, Goyal et al. 2017, arXiv:1706.02677, section 2.2.
    """
    total = steps_per_epoch * epochs
    warmup = min(round(warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return highest
    done = (step - warmup) / max(1, total - warmup)
    return highest * 0.5 * (1.0 + math.cos(math.pi * done))


Array = np.ndarray[Any, Any]


class WeightAverages:
    """The average of each trained variable, of one phase.

    Args:
        phase: `ema` follows every step: `average += (1 - m) * (weight - average)`, `m` the smaller of `ema` and
            `(1 + t) / (10 + t)` at step t, so that the start is soon forgotten. `average_last: n` is the plain mean of
            the weights at the ends of the last n epochs. Neither: nothing is averaged.
        variables: what is trained; created under the strategy.

    Reference:
        Polyak & Juditsky 1992, doi 10.1137/0330046; Izmailov et al. 2018, arXiv:1803.05407 (the last epochs).
    """

    def __init__(self, phase: Phase, variables: Sequence[keras.Variable]) -> None:
        self._momentum, self._last, self._epochs = phase.ema, phase.average_last, phase.epochs
        averaged = variables if self._momentum is not None or self._last else ()
        self._pairs = [
            (one, keras.Variable(np.array(keras.ops.convert_to_numpy(one)), trainable=False, dtype=one.dtype))
            for one in averaged
        ]  # fmt: skip
        self._count = keras.Variable(0.0, trainable=False, dtype="float32")
        self._follow = tf.function(self._move, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint must hold."""
        return [self._count, *(average for _, average in self._pairs)] if self._pairs else []

    def on_step(self) -> None:
        """Follow the weights after a step."""
        if self._momentum is None:
            return
        count = float(self._count.numpy())
        self._follow(tf.constant(1.0 - min(self._momentum, (1.0 + count) / (10.0 + count))))
        self._count.assign(count + 1.0)

    def on_epoch(self, epoch: int) -> None:
        """Take in the weights at the end of an epoch of the phase, counted from 1."""
        if self._last and epoch > self._epochs - self._last:
            count = float(self._count.numpy()) + 1.0
            self._count.assign(count)
            self._follow(tf.constant(1.0 / count, tf.float32))

    def _move(self, share: tf.Tensor) -> None:
        for weight, average in self._pairs:
            average.assign(average + tf.cast(share, average.dtype) * (weight - average))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the averages in the place of the weights for a while, once there are any."""
        if not self._pairs or not float(self._count.numpy()):
            yield
            return
        kept = [np.array(keras.ops.convert_to_numpy(weight)) for weight, _ in self._pairs]
        try:
            for weight, average in self._pairs:
                weight.assign(average)
            yield
        finally:
            for (weight, _), value in zip(self._pairs, kept, strict=True):
                weight.assign(value)


Pull = Callable[[], tf.Tensor]


def build_l2_sp(
    strength: float, variables: Sequence[keras.Variable], start: Mapping[str, Any]
) -> Pull | None:
    """Return a function that gives `strength / 2 * sum((w - w_start) ** 2)`, a float32 scalar; None where it is 0.

    Args:
        strength: of the pull, per step.
        variables: what is trained; those that are not in `start`, as the new head, are not pulled.
        start: the weights that training began with, by path.

    Reference:
        Li, Grandvalet & Davoine 2018, arXiv:1802.01483, equation 3 (L2-SP).
    """
    pairs = [(one, tf.constant(start[one.path])) for one in variables if one.path in start]
    if not strength or not pairs:
        return None

    def pull() -> tf.Tensor:
        squares = [tf.reduce_sum(tf.square(tf.cast(one.value, tf.float32) - to)) for one, to in pairs]
        return 0.5 * strength * tf.add_n(squares)

    return pull
