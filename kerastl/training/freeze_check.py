"""Proof that what was frozen did not move and that what was not frozen did."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.errors import PermanentFailure
from kerastl.models import blocks_of
from kerastl.training.batch_norm import is_statistic
from kerastl.training.freeze import batch_norm_layers

Array = np.ndarray[Any, Any]


def read_statistics(model: keras.Model) -> dict[str, Array]:
    """Return the moving mean and variance of every BatchNorm layer, `[channels]` float32, by path."""
    return {
        variable.path: np.array(keras.ops.convert_to_numpy(variable))
        for layer in batch_norm_layers(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    }


def statistics_record(model: keras.Model, *, rule: str, before: Mapping[str, Array]) -> dict[str, Any]:
    """Compare BatchNorm statistics before and after the steps of one phase.

    Args:
        model: straight after the last step.
        rule: `batch_norm` of the phase.
        before: `read_statistics` when the phase began.

    Returns:
        `{"rule", "layers", "changed", "before", "after", "largest"}`: the number of layers, of those whose
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
        "changed": moved,
        "before": _statistics_digest(before),
        "after": _statistics_digest(after),
        "largest": largest,
    }


def _changes(layer: Any, before: Mapping[str, Array], after: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return the largest change of each of a layer's two statistics that moved."""
    mean, variance = layer.moving_mean.path, layer.moving_variance.path
    old, new = (np.sqrt(values[variance].astype(np.float64) + layer.epsilon) for values in (before, after))
    shift = after[mean].astype(np.float64) - before[mean].astype(np.float64)
    found = []
    for name, path, change in (("moving_mean", mean, shift), ("moving_variance", variance, new - old)):
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


HEAD = "head"


def parameters_by_block(
    model: keras.Model, *, trained: Collection[str], followed: Collection[str]
) -> dict[str, Any]:
    """Count the parameters of a flat classifier.

    Args:
        model: built on a known backbone.
        trained: paths of the variables that the optimizer was given.
        followed: paths of statistics that may follow the images without being trained.

    Returns:
        `{"total", "trained", "statistics", "frozen", "blocks": [{"block", "total", "trained"}]}`, all whole
        numbers; trained, statistics and frozen add up to the total, which is Keras's `count_params`. Blocks
        come from the input on; what lies behind the backbone is the last, `head`.
    """
    block_of = {name: block.name for block in blocks_of(model) for name in block.layers}
    counts: dict[str, dict[str, Any]] = {
        name: {"block": name, "total": 0, "trained": 0} for name in [*dict.fromkeys(block_of.values()), HEAD]
    }
    statistics = 0
    for layer in model.layers:
        row = counts[block_of.get(layer.name, HEAD)]
        for variable in layer.weights:
            size = math.prod(variable.shape)
            row["total"] += size
            if variable.path in trained:
                row["trained"] += size
            elif variable.path in followed:
                statistics += size
    rows = list(counts.values())
    total, learnt = (sum(row[key] for row in rows) for key in ("total", "trained"))
    return {
        "total": total,
        "trained": learnt,
        "statistics": statistics,
        "frozen": total - learnt - statistics,
        "blocks": rows,
    }


def checksums(model: keras.Model) -> dict[str, str]:
    """Return the sha256 of every variable by its path, 16 hex digits, seeds of dropout left out."""
    return {
        variable.path: hashlib.sha256(keras.ops.convert_to_numpy(variable).tobytes()).hexdigest()[:16]
        for layer in model.layers
        for variable in layer.weights
    }


def _checksum_digest(sums: Mapping[str, str], paths: Collection[str]) -> str:
    return hashlib.sha256("".join(sums[path] for path in paths).encode()).hexdigest()[:16]


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
        model: straight after the last step, before best weights are restored.
        phase, batch_norm: its name and its rule.
        trained: paths of the variables that the optimizer was given; none where a step lets statistics alone move.
        before: `checksums` when the phase began.
        statistics: `read_statistics` when the phase began.
        may_move: tells which other variables may change (statistics of BatchNorm).

    Returns:
        `{"phase", "layers": [{"layer", "trainable", "before", "after", "changed", "statistics_changed"}],
        "batch_norm", "parameters", "warnings": [...], "faults": [...]}`: one entry for each layer that has
        variables; statistics that may follow the images are told apart from weights; `batch_norm` as in
        `statistics_record`, `parameters` as in `parameters_by_block`. `check_freeze_report` raises for the faults.
    """
    after = checksums(model)
    moved = {path for path in after if after[path] != before[path]}
    variables = {one.path: one for layer in model.layers for one in layer.weights}
    allowed = {path for path, variable in variables.items() if may_change(variable)}
    stray = sorted(moved - set(trained) - allowed)
    faults = []
    if stray:
        faults.append(
            f"{len(stray)} frozen variables moved, the first is {stray[0]}."
            + _of_batch_norm([path for path in stray if is_statistic(variables[path])], batch_norm)
        )
    if not trained and not moved:
        faults.append("nothing moved, and the statistics of BatchNorm should have.")
    if trained and not moved & set(trained):
        faults.append("no trainable variable moved. Is the learning rate zero, or too small for float32?")
    layers = _layer_rows(model, trained, before, after, allowed)
    still = [row["layer"] for row in layers if row["trainable"] and not row["changed"]]
    warnings = [f"phase {phase}: trainable layers that did not move: {', '.join(still)}"] if still else []
    return {
        "phase": phase,
        "layers": layers,
        "batch_norm": statistics_record(model, rule=batch_norm, before=statistics),
        "parameters": parameters_by_block(model, trained=trained, followed=allowed),
        "warnings": warnings,
        "faults": faults,
    }


def _of_batch_norm(paths: Sequence[str], rule: str) -> str:
    if not paths:
        return ""
    return f" {len(paths)} of them are BatchNorm statistics, and the phase says batch_norm: {rule}."


def _layer_rows(
    model: keras.Model,
    trained: Collection[str],
    before: Mapping[str, str],
    after: Mapping[str, str],
    allowed: Collection[str],
) -> list[dict[str, Any]]:
    """Return one row for each layer that has variables; parameters as in `build_freeze_report`."""
    rows = []
    for layer in model.layers:
        paths = [variable.path for variable in layer.weights]
        moved = [path for path in paths if after[path] != before[path]]
        if paths:
            rows.append(
                {
                    "layer": layer.name,
                    "trainable": any(path in trained for path in paths),
                    "before": _checksum_digest(before, paths),
                    "after": _checksum_digest(after, paths),
                    "changed": any(path not in allowed for path in moved),
                    "statistics_changed": any(path in allowed for path in moved),
                }
            )
    return rows


def check_freeze_report(proof: Mapping[str, Any]) -> None:
    """See that a proof holds.

    Raises:
        PermanentFailure: a frozen variable moved, or no trained variable did.
    """
    if proof["faults"]:
        raise PermanentFailure(f"phase {proof['phase']}: {' Also, '.join(proof['faults'])}")
