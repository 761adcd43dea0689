"""What Keras callbacks remember, so that a resumed run goes on with their patience where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

PLAIN = (bool, int, float, str, type(None))


def state_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Return the plain attributes of each callback: counters, best values, names. Arrays are left out."""
    return [
        {name: _plain(value) for name, value in vars(callback).items() if _is_plain(value)}
        for callback in callbacks
    ]


def _is_plain(value: Any) -> bool:
    return isinstance(value, (*PLAIN, np.generic))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[Mapping[str, Any]]
) -> None:
    """Set what `state_of` returned; nothing when another number of callbacks is at work now."""
    if len(callbacks) != len(states):
        return
    for callback, state in zip(callbacks, states, strict=True):
        vars(callback).update(state)
