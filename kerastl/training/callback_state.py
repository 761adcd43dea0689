"""What Keras callbacks remember, so that a resumed run goes on with their patience where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

COUNTERS = (
    "best", "best_epoch", "cooldown_counter", "elapsed_s", "phase_epochs", "phase_index", "stopped_epoch", "wait",
)  # fmt: skip
"""The counters of EarlyStopping, ReduceLROnPlateau, ModelCheckpoint and TimeBudget. Their settings stay the caller's, and some are
turned over when training begins (the sign of `min_delta`), so not every attribute can be put back."""


def state_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Return what each callback has counted so far, as plain numbers."""
    return [
        {name: _plain(vars(callback)[name]) for name in COUNTERS if name in vars(callback)}
        for callback in callbacks
    ]


def _plain(value: Any) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return float(value)


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[Mapping[str, Any]]
) -> None:
    """Set what `state_of` returned; nothing when another number of callbacks is at work now."""
    if len(callbacks) != len(states):
        return
    for callback, state in zip(callbacks, states, strict=True):
        vars(callback).update(state)
