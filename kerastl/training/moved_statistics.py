"""How far BatchNorm statistics moved in a phase, in the unit that the layer itself divides by."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl.training.freezing import batch_norm_layers

Array = np.ndarray[Any, Any]


def read_statistics(model: keras.Model) -> dict[str, Array]:
    """Return the moving mean and variance of every BatchNorm layer, `[channels]` float32, by path."""
    return {
        variable.path: np.array(keras.ops.convert_to_numpy(variable))
        for layer in batch_norm_layers(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    }


def statistics_record(
    model: keras.Model, *, rule: str, before: Mapping[str, Array]
) -> dict[str, Any]:
    """Compare BatchNorm statistics before and after the steps of one phase.

    Args:
        model: straight after the last step.
        rule: `batch_norm` of the phase.
        before: `read_statistics` when the phase began.

    Returns:
        `{"rule", "layers", "moved", "before", "after", "largest"}`: the number of layers, of those whose
        statistics moved, sha256 of all statistics (16 hex digits), and the largest change, None where none
        moved: `{"layer", "statistic", "channel", "deviations"}`. A change is told in moving standard
        deviations of that channel before the phase, epsilon included: of the mean, and of the standard
        deviation itself. None in `deviations`: no finite number.
    """
    after = read_statistics(model)
    moved, largest = 0, None
    for layer in batch_norm_layers(model):
        changes = _changes(layer, before, after)
        moved += bool(changes)
        for change in changes:
            if largest is None or _size(change) > _size(largest):
                largest = change
    return {
        "rule": rule,
        "layers": len(batch_norm_layers(model)),
        "moved": moved,
        "before": _statistics_digest(before),
        "after": _statistics_digest(after),
        "largest": largest,
    }


def _changes(
    layer: Any, before: Mapping[str, Array], after: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """Return the largest change of each of a layer's two statistics that moved."""
    mean, variance = layer.moving_mean.path, layer.moving_variance.path
    old, new = (
        np.sqrt(values[variance].astype(np.float64) + layer.epsilon) for values in (before, after)
    )
    shift = after[mean].astype(np.float64) - before[mean].astype(np.float64)
    found = []
    for name, path, change in (
        ("moving_mean", mean, shift),
        ("moving_variance", variance, new - old),
    ):
        if before[path].tobytes() != after[path].tobytes():
            deviations = np.abs(change) / old
            channel = int(np.argmax(deviations))
            told = float(f"{deviations[channel]:.6g}")
            found.append(
                {
                    "layer": layer.name,
                    "statistic": name,
                    "channel": channel,
                    "deviations": told if math.isfinite(told) else None,
                }
            )
    return found


def _size(change: Mapping[str, Any]) -> float:
    deviations = change["deviations"]
    return math.inf if deviations is None else float(deviations)


def _statistics_digest(statistics: Mapping[str, Array]) -> str:
    joined = hashlib.sha256()
    for path in sorted(statistics):
        joined.update(statistics[path].tobytes())
    return joined.hexdigest()[:16]
