"""The optimizer of a phase: a Keras optimizer with a learning rate for each block.

Keras optimizers have one learning rate. Here the rate of each variable is that rate times a factor, in the step and in
weight decay. Clipping sees all gradients together, schedules keep the ratios, and a variable that joins later counts
its own steps, so that Adam's bias correction holds. The model itself is compiled with the plain Keras optimizer, which
shares all variables, so that `keras.saving.load_model` needs no class of this package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

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


def carry_over(old: Any, new: Any) -> None:
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
