"""Mixed precision of what learns: activations in fewer bits, weights, logits and losses in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import keras

from kerastl.models import LINEAR

StepPrecision = Literal["float32", "mixed_bfloat16"]
IN_FULL = (keras.layers.GlobalAveragePooling2D, keras.layers.InputLayer)
"""Sums over many numbers; what hands on what it got."""


@contextmanager
def computing_in(precision: StepPrecision, model: keras.Model) -> Iterator[None]:
    """Let what learns be traced in another precision; afterwards every layer is as it was.

    As Keras's policy `mixed_bfloat16` does it (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1; bfloat16 has the range
    of float32, so no loss needs a scale: Kalamkar et al. 2019, arXiv:1905.12322), with two differences: pixels are scaled in full,
    and only the training step is traced so, so that figures of validation are those of the float32 network that is saved.

    Args:
        precision: `float32` changes nothing.
        model: that a phase runs: flat, or a frozen front (which keeps its own precision) and a last part.
    """
    layers = [] if precision == "float32" else _that_follow(model)
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy(precision)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def _that_follow(model: keras.Model) -> list[Any]:
    """Return the layers of what learns, from its first that multiplies on, without the head."""
    last = model.layers[-1]
    layers = last.layers if isinstance(last, keras.Model) else model.layers
    first = next((at for at, one in enumerate(layers) if _multiplies(one)), len(layers))
    return [
        part
        for layer in layers[first:]
        if not isinstance(layer, IN_FULL) and layer.name != "head"
        for part in layer._flatten_layers()
    ]


def _multiplies(layer: Any) -> bool:
    """Tell whether a layer is linear, or stands for one that is."""
    return isinstance(getattr(layer, "layer", layer), LINEAR)
