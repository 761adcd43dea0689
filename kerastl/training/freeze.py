"""Freezing: the one place that sets the `trainable` flag of each layer.

In Keras 3, `backbone(x, training=False)` does not freeze BatchNorm during training, and setting the flag of a model
sets it for every layer inside. Therefore each layer gets its own flag, and BatchNorm gets its own rule.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import keras

from kerastl.errors import RequestError
from kerastl.models import get_blocks
from kerastl.recipe.phase import BatchNorm, FromBlock, LayerNames, Phase, TopFraction, Trainable, Unfreeze

HEAD_LAYERS = ("pooled", "head_dropout", "head")


def batch_norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNorm layers of a flat model, from input to output."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def resolve_trainable(model: keras.Model, trainable: Trainable) -> list[str]:
    """Return the names of the backbone layers that a phase trains, from input to output.

    Args:
        model: A flat classifier.
        trainable: The selection. `top_fraction` is rounded to the nearest start of a block, so that no residual
            connection bypasses a frozen layer, and selects at least one block.

    Raises:
        RequestError: If there is no such block, or if no layer matches the pattern.
    """
    blocks = get_blocks(model)
    names = [name for block in blocks for name in block.layers]
    if trainable == "all":
        return names
    if trainable == "none":
        return []
    if isinstance(trainable, LayerNames):
        matching = [name for name in names if re.fullmatch(trainable.names, name)]
        if not matching:
            raise RequestError(
                f"trainable.names: '{trainable.names}' matches no layer name. The pattern must match the whole name. "
                f"Layer names: {', '.join(names[:3])}, ..., {names[-1]}."
            )
        return matching
    starts = [sum(len(block.layers) for block in blocks[:index]) for index in range(len(blocks))]
    if isinstance(trainable, FromBlock):
        known = [block.name for block in blocks]
        if trainable.from_block not in known:
            similar = difflib.get_close_matches(trainable.from_block, known, n=1)
            hint = f" Did you mean '{similar[0]}'?" if similar else ""
            raise RequestError(
                f"trainable.from_block: there is no block '{trainable.from_block}'.{hint} Blocks: {', '.join(known)}."
            )
        return names[starts[known.index(trainable.from_block)] :]
    if isinstance(trainable, Unfreeze):
        raise RequestError("trainable: gradual unfreezing works in `fit` only, which divides it into phases.")
    boundary = len(names) * (1.0 - trainable.top_fraction)
    return names[min(starts, key=lambda start: abs(start - boundary)) :]


def default_batch_norm(model: keras.Model) -> BatchNorm:
    """Return the default rule for BatchNorm: `trainable` for random weights, `frozen` for pretrained weights.

    A network with random weights does not train if its statistics are frozen at mean 0 and variance 1.

    Args:
        model: A flat classifier. Its weights are random if all BatchNorm statistics have their initial values.
    """
    norms = batch_norm_layers(model)
    is_random = bool(norms) and all(
        (keras.ops.convert_to_numpy(norm.moving_mean) == 0).all()
        and (keras.ops.convert_to_numpy(norm.moving_variance) == 1).all()
        for norm in norms
    )
    return "trainable" if is_random else "frozen"


def resolve_batch_norm(model: keras.Model, phase: Phase) -> Phase:
    """Return the phase with `batch_norm` set, by default to `default_batch_norm` of the model."""
    if phase.batch_norm is not None:
        return phase
    return phase.model_copy(update={"batch_norm": default_batch_norm(model)})


def unfreeze(
    model: keras.Model,
    trainable: Trainable = "none",
    *,
    top_fraction: float | None = None,
    batch_norm: BatchNorm | None = "frozen",
) -> list[str]:
    """Make the selected layers and the head trainable, and freeze all other layers.

    Args:
        model: A flat classifier from `build_model`.
        trainable: The layers of the backbone to train, as in `Phase`.
        top_fraction: Short for `trainable=TopFraction(top_fraction=...)`.
        batch_norm: The rule for BatchNorm layers, see `Phase`. None selects `default_batch_norm`.

    Returns:
        The names of the trainable layers, from input to output.

    Example:
    ```python
    kerastl.training.unfreeze(model, top_fraction=0.3)
    model.compile("adam", loss)  # Keras reads the flags when it compiles
    model.fit(dataset)
    ```
    """
    if top_fraction is not None:
        trainable = TopFraction(top_fraction=top_fraction)
    rule = batch_norm or default_batch_norm(model)
    selected = {*resolve_trainable(model, trainable), *HEAD_LAYERS}
    model.trainable = True  # otherwise the flags of single layers have no effect
    for layer in model.layers:
        layer.trainable = layer.name in selected
        if isinstance(layer, keras.layers.BatchNormalization):
            _set_batch_norm(layer, rule, selected)
    return [layer.name for layer in model.layers if layer.name in selected and layer.trainable]


def _set_batch_norm(
    layer: keras.layers.BatchNormalization, rule: BatchNorm, selected: Collection[str]
) -> None:
    """Set the flag of the layer, which controls training mode, and the flags of its scale and offset."""
    layer.trainable = rule != "frozen"
    for variable in (layer.gamma, layer.beta):
        if variable is not None and rule != "frozen":
            variable.trainable = rule == "trainable" and layer.name in selected


@contextmanager
def disable_frozen_dropout(model: keras.Model) -> Iterator[None]:
    """Disable dropout in frozen layers, so that their features are constant.

    Keras's Dropout ignores `trainable`, and some backbones (EfficientNet) contain dropout.
    """
    rates = [
        (layer, layer.rate)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout) and not layer.trainable
    ]
    try:
        for layer, _ in rates:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in rates:
            layer.rate = rate
