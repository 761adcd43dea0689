"""Proof that what was frozen did not move and that what was not frozen did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from kerastl.errors import WouldFailAgain


def checksums(model: keras.Model) -> dict[str, str]:
    """Return the sha256 of every variable by its path, 16 hex digits, seeds of dropout left out."""
    return {
        variable.path: hashlib.sha256(keras.ops.convert_to_numpy(variable).tobytes()).hexdigest()[
            :16
        ]
        for layer in model.layers
        for variable in layer.weights
    }


def _digest(sums: Mapping[str, str], paths: Collection[str]) -> str:
    return hashlib.sha256("".join(sums[path] for path in paths).encode()).hexdigest()[:16]


def phase_proof(
    model: keras.Model,
    *,
    phase: str,
    trained: Collection[str],
    before: Mapping[str, str],
    may_move: Callable[[keras.Variable], bool],
) -> dict[str, Any]:
    """Compare checksums before and after the steps of one phase.

    Args:
        model: straight after the last step, before best weights are restored.
        phase: its name.
        trained: paths of the variables that the optimizer was given.
        before: `checksums` when the phase began.
        may_move: tells which other variables may change (statistics of BatchNorm).

    Returns:
        `{"phase", "layers": [{"layer", "trainable", "before", "after", "moved", "statistics_moved"}],
        "warnings": [...], "faults": [...]}`: one entry for each layer that has variables; statistics that
        may follow the pictures are told apart from weights. `check_proof` raises for the faults.
    """
    after = checksums(model)
    moved = {path for path in after if after[path] != before[path]}
    allowed = {
        variable.path for layer in model.layers for variable in layer.weights if may_move(variable)
    }
    stray = sorted(moved - set(trained) - allowed)
    faults = []
    if stray:
        faults.append(f"{len(stray)} frozen variables moved, the first is {stray[0]}.")
    if not moved & set(trained):
        faults.append(
            "no trainable variable moved. Is the learning rate zero, or too small for float32?"
        )
    layers = []
    for layer in model.layers:
        paths = [variable.path for variable in layer.weights]
        if paths:
            layers.append(
                {
                    "layer": layer.name,
                    "trainable": any(path in trained for path in paths),
                    "before": _digest(before, paths),
                    "after": _digest(after, paths),
                    "moved": any(path in moved - allowed for path in paths),
                    "statistics_moved": any(path in moved & allowed for path in paths),
                }
            )
    still = [row["layer"] for row in layers if row["trainable"] and not row["moved"]]
    warnings = (
        [f"phase {phase}: trainable layers that did not move: {', '.join(still)}"] if still else []
    )
    return {"phase": phase, "layers": layers, "warnings": warnings, "faults": faults}


def check_proof(proof: Mapping[str, Any]) -> None:
    """See that a proof holds.

    Raises:
        WouldFailAgain: a frozen variable moved, or no trained variable did.
    """
    if proof["faults"]:
        raise WouldFailAgain(f"phase {proof['phase']}: {' Also, '.join(proof['faults'])}")
