"""A network in two parts, cut at its pooled features: what `features` and `explain` stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Cut:
    """A network that pools a feature map once.

    Args:
        trunk: pictures to the last feature map `[n, h, w, channels]`.
        pooling: the feature map to features `[n, channels]`.
        head: features to logits.
    """

    trunk: keras.Model
    pooling: Any
    head: keras.Model


def cut_at_pooling(model: keras.Model) -> Cut | None:
    """Return a network in parts; None where it does not pool one feature map to one vector, as all of `build_model` do.

    Args:
        model: functional; the parts share its layers and weights.
    """
    pooled = [layer for layer in getattr(model, "layers", ()) if _pools(layer)]
    if not pooled:
        return None
    pooling = pooled[-1]
    try:
        trunk = keras.Model(model.inputs, pooling.input)
        head = keras.Model(pooling.output, model.outputs[0])
    except (ValueError, KeyError, AttributeError):
        return None  # something goes round the pooling, or it is called twice
    return Cut(trunk, pooling, head)


def _pools(layer: Any) -> bool:
    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    return isinstance(layer, kinds) and not layer.keepdims
