"""Verification by checksums: frozen variables did not change in a phase, and trained variables did."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from kerastl.errors import PermanentFailure
from kerastl.models import get_blocks
from kerastl.training.batch_norm import is_statistic
from kerastl.training.freeze import batch_norm_layers

Array = np.ndarray[Any, Any]
HEAD = "head"


def read_statistics(model: keras.Model) -> dict[str, Array]:
    """Return the moving mean and variance of every BatchNorm layer, `[channels]` float32, by path."""
    return {
        variable.path: np.array(keras.ops.convert_to_numpy(variable))
        for layer in batch_norm_layers(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    }


def compare_statistics(model: keras.Model, *, rule: str, before: Mapping[str, Array]) -> dict[str, Any]:
    """Compare the BatchNorm statistics before and after the steps of one phase.

    Args:
        model: The model after the last step.
        rule: `batch_norm` of the phase.
        before: `read_statistics` at the start of the phase.

    Returns:
        `{"rule", "layers", "changed", "before", "after", "largest"}`: the number of layers, the number of layers with
        changed statistics, the sha256 of all statistics (16 hex digits), and the largest change, or None:
        `{"layer", "statistic", "channel", "deviations"}`. `deviations` is the change of the mean or of the standard
        deviation, in standard deviations of that channel before the phase, epsilon included. It is None if not finite.
    """
    after = read_statistics(model)
    layers = batch_norm_layers(model)
    changes = [_changed_statistics(layer, before, after) for layer in layers]
    return {
        "rule": rule,
        "layers": len(layers),
        "changed": sum(bool(of_layer) for of_layer in changes),
        "before": _digest(before[path].tobytes() for path in sorted(before)),
        "after": _digest(after[path].tobytes() for path in sorted(after)),
        "largest": max((change for of_layer in changes for change in of_layer), key=_size, default=None),
    }


def _changed_statistics(
    layer: Any, before: Mapping[str, Array], after: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """Return the largest change of each of the two statistics of a layer, if it changed."""
    mean, variance = layer.moving_mean.path, layer.moving_variance.path
    old, new = (np.sqrt(values[variance].astype(np.float64) + layer.epsilon) for values in (before, after))
    shift = after[mean].astype(np.float64) - before[mean].astype(np.float64)
    changes = []
    for name, path, change in (("moving_mean", mean, shift), ("moving_variance", variance, new - old)):
        if before[path].tobytes() != after[path].tobytes():
            deviations = np.abs(change) / old
            channel = int(np.argmax(deviations))
            size = float(f"{deviations[channel]:.6g}")
            changes.append(
                {
                    "layer": layer.name,
                    "statistic": name,
                    "channel": channel,
                    "deviations": size if math.isfinite(size) else None,
                }
            )
    return changes


def _size(change: Mapping[str, Any]) -> float:
    deviations = change["deviations"]
    return math.inf if deviations is None else float(deviations)


def _digest(parts: Iterable[bytes]) -> str:
    """Return the sha256 of the joined parts, 16 hex digits."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def count_parameters(
    model: keras.Model, *, trained: Collection[str], updated: Collection[str]
) -> dict[str, Any]:
    """Count the parameters of a flat classifier.

    Args:
        model: A flat classifier with a known backbone.
        trained: Paths of the variables that the optimizer trains.
        updated: Paths of the statistics that are updated without being trained.

    Returns:
        `{"total", "trained", "statistics", "frozen", "blocks": [{"block", "total", "trained"}]}`, integers. Trained,
        statistics and frozen add up to the total, which is Keras's `count_params`. Blocks are in order from the input;
        the last one, `head`, is everything after the backbone.
    """
    block_of = {name: block.name for block in get_blocks(model) for name in block.layers}
    blocks: dict[str, dict[str, Any]] = {
        name: {"block": name, "total": 0, "trained": 0} for name in [*dict.fromkeys(block_of.values()), HEAD]
    }
    statistics = 0
    for layer in model.layers:
        row = blocks[block_of.get(layer.name, HEAD)]
        for variable in layer.weights:
            size = math.prod(variable.shape)
            row["total"] += size
            if variable.path in trained:
                row["trained"] += size
            elif variable.path in updated:
                statistics += size
    total, num_trained = (sum(row[key] for row in blocks.values()) for key in ("total", "trained"))
    return {
        "total": total,
        "trained": num_trained,
        "statistics": statistics,
        "frozen": total - num_trained - statistics,
        "blocks": list(blocks.values()),
    }


def checksums(model: keras.Model) -> dict[str, str]:
    """Return the sha256 of every variable by path, 16 hex digits, without the seeds of dropout."""
    return {
        variable.path: _digest([keras.ops.convert_to_numpy(variable).tobytes()])
        for layer in model.layers
        for variable in layer.weights
    }


def build_freeze_report(
    model: keras.Model,
    *,
    phase: str,
    batch_norm: str,
    trained: Collection[str],
    before: Mapping[str, str],
    statistics: Mapping[str, Array],
    may_change: Callable[[keras.Variable], bool],
) -> dict[str, Any]:
    """Compare a model before and after the steps of one phase.

    Args:
        model: The model after the last step, before the best weights are restored.
        phase: Name of the phase.
        batch_norm: Its rule for BatchNorm.
        trained: Paths of the variables that the optimizer trains. Empty if the step updates statistics only.
        before: `checksums` at the start of the phase.
        statistics: `read_statistics` at the start of the phase.
        may_change: Returns whether a variable that is not trained can change (BatchNorm statistics).

    Returns:
        `{"phase", "layers": [{"layer", "trainable", "before", "after", "changed", "statistics_changed"}],
        "batch_norm", "parameters", "warnings": [...], "faults": [...]}`, with one entry for each layer that has
        variables. `changed` excludes statistics that may change. `batch_norm` is that of `compare_statistics`,
        `parameters` that of `count_parameters`. `check_freeze_report` raises an error for faults.
    """
    after = checksums(model)
    changed = {path for path in after if after[path] != before[path]}
    variables = {variable.path: variable for layer in model.layers for variable in layer.weights}
    allowed = {path for path, variable in variables.items() if may_change(variable)}
    unexpected = sorted(changed - set(trained) - allowed)
    faults = []
    if unexpected:
        num_statistics = sum(is_statistic(variables[path]) for path in unexpected)
        fault = f"{len(unexpected)} frozen variables changed; the first is {unexpected[0]}."
        if num_statistics:
            fault += f" {num_statistics} of them are BatchNorm statistics, although the phase has batch_norm: {batch_norm}."
        faults.append(fault)
    if not trained and not changed:
        faults.append("no variable changed, although the BatchNorm statistics are updated.")
    if trained and not changed & set(trained):
        faults.append("no trainable variable changed. The learning rate may be 0 or too small for float32.")
    layers = _layer_rows(model, trained, before, after, allowed)
    unchanged = [row["layer"] for row in layers if row["trainable"] and not row["changed"]]
    warnings = [f"phase {phase}: trainable layers did not change: {', '.join(unchanged)}"]
    return {
        "phase": phase,
        "layers": layers,
        "batch_norm": compare_statistics(model, rule=batch_norm, before=statistics),
        "parameters": count_parameters(model, trained=trained, updated=allowed),
        "warnings": warnings if unchanged else [],
        "faults": faults,
    }


def _layer_rows(
    model: keras.Model,
    trained: Collection[str],
    before: Mapping[str, str],
    after: Mapping[str, str],
    allowed: Collection[str],
) -> list[dict[str, Any]]:
    """Return one row for each layer that has variables."""
    rows = []
    for layer in model.layers:
        paths = [variable.path for variable in layer.weights]
        changed = [path for path in paths if after[path] != before[path]]
        if paths:
            rows.append(
                {
                    "layer": layer.name,
                    "trainable": any(path in trained for path in paths),
                    "before": _digest(before[path].encode() for path in paths),
                    "after": _digest(after[path].encode() for path in paths),
                    "changed": any(path not in allowed for path in changed),
                    "statistics_changed": any(path in allowed for path in changed),
                }
            )
    return rows


def check_freeze_report(report: Mapping[str, Any]) -> None:
    """Raise an error if a freeze report has faults.

    Raises:
        PermanentFailure: If a frozen variable changed, or no trained variable did.
    """
    if report["faults"]:
        raise PermanentFailure(f"phase {report['phase']}: {' Also, '.join(report['faults'])}")
