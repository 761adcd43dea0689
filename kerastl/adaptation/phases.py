"""Which phases of training a method can work in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.errors import RequestError

if TYPE_CHECKING:
    import keras

    from kerastl.recipe import LayerNames, Phase


def check_phase(name: str, method: Method, model: keras.Model, phase: Phase) -> None:
    """See that a phase lets a method do its work, and nothing else.

    Args:
        name, method: of the method.
        model: a flat classifier.
        phase: that it shall work in.

    Raises:
        RequestError: the phase freezes what the method works by, moves what it must leave alone, or keeps what it changes.
    """
    from kerastl.training import batch_norm_layers, resolve_trainable

    where = f"phase {phase.name}: {name}"
    norms = {layer.name for layer in batch_norm_layers(model)}
    learning = resolve_trainable(model, phase.trainable)
    if method.moves_statistics and not norms:
        raise RequestError(
            f"{where} works by BatchNorm, and this network has none. Take another method."
        )
    if method.moves_statistics and phase.batch_norm == "frozen":
        wanted = "trainable" if method.only_batch_norm else "statistics"
        raise RequestError(
            f"{where} works by the statistics of BatchNorm, and all are frozen. "
            f"Write batch_norm: {wanted}."
        )
    if method.changes_pixels and phase.cache != "none":
        raise RequestError(
            f"{where} changes pictures at each step, and cache: {phase.cache} keeps what the frozen layers "
            "made of them before. Write cache: none."
        )
    if method.only_batch_norm:
        _check_only_batch_norm(where, model, phase, learning, norms)
    elif method.learns == "any" and not method.moves_statistics and not learning:
        raise RequestError(
            f"{where} works by layers before the head, and all are frozen. "
            "Write trainable: all, or trainable: {from_block: NAME}."
        )


def _check_only_batch_norm(
    where: str, model: keras.Model, phase: Phase, learning: list[str], norms: set[str]
) -> None:
    others = [one for one in learning if one not in norms and model.get_layer(one).weights]
    if others or phase.batch_norm != "trainable" or not set(learning) & norms:
        also = f", and this phase lets {others[0]} move, too" if others else ""
        raise RequestError(
            f"{where} learns the scale and offset of BatchNorm alone{also}. Write batch_norm: trainable and "
            f"trainable: {{names: PATTERN}}, the pattern matching BatchNorm layers only, as {min(norms)}."
        )


def batch_norm_alone(model: keras.Model) -> LayerNames:
    """Return the choice of all BatchNorm layers of a flat classifier and of no other, for a phase of `tent`."""
    from kerastl.recipe import LayerNames
    from kerastl.training import batch_norm_layers

    names: list[Any] = [re.escape(layer.name) for layer in batch_norm_layers(model)]
    return LayerNames(names="|".join(names))
