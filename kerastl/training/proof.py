"""Proof that what was frozen did not move and that what was not frozen did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras

from kerastl.errors import WouldFailAgain
from kerastl.training.batch_norm import is_statistic
from kerastl.training.moved_statistics import Array, statistics_record
from kerastl.training.parameters import parameters_by_block


def checksums(model: keras.Model) -> dict[str, str]:
    """Return the sha256 of every variable by its path, 16 hex digits, seeds of dropout left out."""
    return {
        variable.path: hashlib.sha256(keras.ops.convert_to_numpy(variable).tobytes()).hexdigest()[
            :16
        ]
        for layer in model.layers
        for variable in layer.weights
    }


def _checksum_digest(sums: Mapping[str, str], paths: Collection[str]) -> str:
    return hashlib.sha256("".join(sums[path] for path in paths).encode()).hexdigest()[:16]


def phase_proof(
    model: keras.Model,
    *,
    phase: str,
    batch_norm: str,
    trained: Collection[str],
    before: Mapping[str, str],
    statistics: Mapping[str, Array],
    may_move: Callable[[keras.Variable], bool],
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
        `{"phase", "layers": [{"layer", "trainable", "before", "after", "moved", "statistics_moved"}],
        "batch_norm", "parameters", "warnings": [...], "faults": [...]}`: one entry for each layer that has
        variables; statistics that may follow the pictures are told apart from weights; `batch_norm` as in
        `statistics_record`, `parameters` as in `parameters_by_block`. `check_proof` raises for the faults.
    """
    after = checksums(model)
    moved = {path for path in after if after[path] != before[path]}
    variables = {one.path: one for layer in model.layers for one in layer.weights}
    allowed = {path for path, variable in variables.items() if may_move(variable)}
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
        faults.append(
            "no trainable variable moved. Is the learning rate zero, or too small for float32?"
        )
    layers = _layer_rows(model, trained, before, after, allowed)
    still = [row["layer"] for row in layers if row["trainable"] and not row["moved"]]
    warnings = (
        [f"phase {phase}: trainable layers that did not move: {', '.join(still)}"] if still else []
    )
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
    """Return one row for each layer that has variables; parameters as in `phase_proof`."""
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
                    "moved": any(path not in allowed for path in moved),
                    "statistics_moved": any(path in allowed for path in moved),
                }
            )
    return rows


def check_proof(proof: Mapping[str, Any]) -> None:
    """See that a proof holds.

    Raises:
        WouldFailAgain: a frozen variable moved, or no trained variable did.
    """
    if proof["faults"]:
        raise WouldFailAgain(f"phase {proof['phase']}: {' Also, '.join(proof['faults'])}")
