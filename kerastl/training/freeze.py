"""Who may move: the one place that sets flags, layer by layer.

On Keras 3 `backbone(x, training=False)` does not hold BatchNorm still during training, and a flag set on
a model is handed to every layer in it. So each layer gets its own flag, and BatchNorm gets its own rule.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import keras

from kerastl.errors import RequestError
from kerastl.models import blocks_of
from kerastl.recipe.phase import BatchNorm, FromBlock, LayerNames, Phase, TopFraction, Trainable, Unfreeze

HEAD_LAYERS = ("pooled", "head_dropout", "head")


def batch_norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNorm layers of a flat model, from input to output."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def resolve_trainable(model: keras.Model, trainable: Trainable) -> list[str]:
    """Return the names of the backbone's layers that a phase lets move, from input to output.

    Args:
        model: a flat classifier.
        trainable: the choice; `top_fraction` is rounded to the nearest edge of a block, so that no
            residual connection leads around a frozen layer, and takes in one block at the least.

    Raises:
        RequestError: no such block, or a pattern that no layer matches.
    """
    blocks = blocks_of(model)
    names = [name for block in blocks for name in block.layers]
    if trainable == "all":
        return names
    if trainable == "none":
        return []
    if isinstance(trainable, LayerNames):
        chosen = [name for name in names if re.fullmatch(trainable.names, name)]
        if not chosen:
            raise RequestError(
                f"trainable.names: '{trainable.names}' is no layer's whole name. "
                f"Layers are named like {', '.join(names[:3])}, {names[-1]}."
            )
        return chosen
    starts = [sum(len(block.layers) for block in blocks[:index]) for index in range(len(blocks))]
    if isinstance(trainable, FromBlock):
        known = [block.name for block in blocks]
        if trainable.from_block not in known:
            near = difflib.get_close_matches(trainable.from_block, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RequestError(
                f"trainable.from_block: no block '{trainable.from_block}'.{hint} Blocks: {', '.join(known)}."
            )
        return names[starts[known.index(trainable.from_block)] :]
    if isinstance(trainable, Unfreeze):
        raise RequestError("trainable: gradual unfreezing is divided into phases by `fit`.")
    wanted = len(names) * (1.0 - trainable.top_fraction)
    return names[min(starts, key=lambda start: abs(start - wanted)) :]


def default_batch_norm(model: keras.Model) -> BatchNorm:
    """Return the rule for BatchNorm where none is given: `trainable` for random weights, `frozen` for pretrained ones.

    Random weights do not train behind frozen statistics of mean 0 and variance 1.

    Args:
        model: a flat classifier. Its weights are random if all BatchNorm statistics have their initial values.
    """
    norms = batch_norm_layers(model)
    is_random = bool(norms) and all(
        (keras.ops.convert_to_numpy(norm.moving_mean) == 0).all()
        and (keras.ops.convert_to_numpy(norm.moving_variance) == 1).all()
        for norm in norms
    )
    return "trainable" if is_random else "frozen"


def resolve_batch_norm(model: keras.Model, phase: Phase) -> Phase:
    """Return the phase with `default_batch_norm` of the model if its own is None."""
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
    """Set every layer's flag: the chosen layers and the head may move, all others may not.

    Args:
        model: a flat classifier from `build_model`.
        trainable: which layers of the backbone, as in `Phase`.
        top_fraction: short for `trainable=TopFraction(top_fraction=...)`.
        batch_norm: the rule of every BatchNorm layer, see `Phase`; None: see `default_batch_norm`.

    Returns:
        The names of the layers that may move, from input to output. Compile the model again before
        Keras's own `fit`: it reads the flags only then.
    """
    if top_fraction is not None:
        trainable = TopFraction(top_fraction=top_fraction)
    rule = batch_norm or default_batch_norm(model)
    chosen = {*resolve_trainable(model, trainable), *HEAD_LAYERS}
    model.trainable = True  # or the flags of single layers have no effect
    for layer in model.layers:
        layer.trainable = layer.name in chosen
        if isinstance(layer, keras.layers.BatchNormalization):
            _set_batch_norm(layer, rule, chosen)
    return [layer.name for layer in model.layers if layer.name in chosen and layer.trainable]


def _set_batch_norm(layer: keras.layers.BatchNormalization, rule: BatchNorm, chosen: Collection[str]) -> None:
    """Training mode is the layer's flag; whether scale and offset move is each variable's own flag."""
    layer.trainable = rule != "frozen"
    for variable in (layer.gamma, layer.beta):
        if variable is not None and rule != "frozen":
            variable.trainable = rule == "trainable" and layer.name in chosen


@contextmanager
def disable_frozen_dropout(model: keras.Model) -> Iterator[None]:
    """Switch off dropout in the frozen part while a phase trains: what is frozen gives the same features.

    Keras's Dropout does not heed `trainable`, and some backbones (EfficientNet) hold dropout inside.
    """
    silenced = [
        (layer, layer.rate)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout) and not layer.trainable
    ]
    try:
        for layer, _ in silenced:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in silenced:
            layer.rate = rate
