"""The optimizer of a phase: Keras's own, with a rate of its own for every block.

Keras's optimizers know one rate. Here the rate of each variable is that one times a factor, wherever the rate is
used: in the step, and in the decay of weights. Clipping sees all gradients together, schedules keep the ratios, and
what was frozen before starts its own count of steps when it joins, so that Adam's correction of its first moments holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.backbones import blocks_of
from kerastl.training.phase import Phase


class _ByVariable:
    """What is put before an optimizer of Keras; see `build_optimizer`."""

    def prepare(
        self: Any,
        variables: Sequence[keras.Variable],
        factors: Mapping[str, float],
        born: Mapping[str, int],
    ) -> None:
        """Build for some variables.

        Args:
            variables: all that will be trained.
            factors: of the rate, by path; 1 where there is none.
            born: number of the step with which a variable joins, by path; 0 where there is none.
        """
        by_key = {self._var_key(one): one.path for one in variables}
        self._factors = {key: factors.get(path, 1.0) for key, path in by_key.items()}
        self._born = {key: born.get(path, 0) for key, path in by_key.items()}
        self._joined = 0
        # Biases, and the scales and offsets of norms, are vectors: decay would pull them away from what they measure.
        self.exclude_from_weight_decay(var_list=[one for one in variables if len(one.shape) < 2])
        self.build(variables)

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


class Adam(_ByVariable, keras.optimizers.Adam):
    """Kingma & Ba 2015, arXiv:1412.6980, with a rate for each variable."""


class AdamW(_ByVariable, keras.optimizers.AdamW):
    """Loshchilov & Hutter 2019, arXiv:1711.05101, with a rate for each variable; vectors are not decayed."""


class SGD(_ByVariable, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, with a rate for each variable."""


def build_optimizer(
    phase: Phase,
    variables: Sequence[keras.Variable],
    factors: Mapping[str, float] | None = None,
    born: Mapping[str, int] | None = None,
) -> keras.Optimizer:
    """Return the optimizer of a phase, built for its variables, its rate set to the highest.

    Args:
        phase: names the optimizer, its rate, decay, clipping and accumulation.
        variables: all that will be trained.
        factors: of each variable's rate, by path, as `rate_factors` returns them; None: all 1.
        born: step with which each variable joined, by path; None: all with the first.
    """
    more = {
        "global_clipnorm": phase.clip_norm,
        "gradient_accumulation_steps": phase.accumulate if phase.accumulate > 1 else None,
    }
    optimizer: Any
    if phase.optimizer == "adam":
        optimizer = Adam(phase.learning_rate, **more)
    elif phase.optimizer == "adamw":
        optimizer = AdamW(phase.learning_rate, weight_decay=phase.weight_decay, **more)
    else:
        optimizer = SGD(phase.learning_rate, momentum=0.9, **more)
    optimizer.prepare(variables, factors or {}, born or {})
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
    if phase.layer_decay == 1.0 and not phase.rates:
        return {}
    blocks = blocks_of(model)
    factors = {}
    for place, block in enumerate(reversed(blocks)):
        factor = phase.rates.get(block.name, phase.layer_decay ** (place + 1))
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
