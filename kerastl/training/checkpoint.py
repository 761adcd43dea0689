"""One object holds the state of training; one function writes it, one restores it.

A checkpoint is an `.npz` of plain arrays and one JSON text: nothing in it can run code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.errors import RequestError
from kerastl.runs import write_atomic
from kerastl.training.averages import Averages
from kerastl.training.state import Best, TrainingState
from kerastl.training.step import Step

KEPT = 2
PLAIN = (
    "phase", "phase_epochs", "epochs", "waited", "stopped", "before", "rows", "proofs", "callbacks",
    "born",
)  # fmt: skip


def _name(index: int) -> str:
    return f"{index:05d}"


def write_checkpoint(
    folder: Path,
    state: TrainingState,
    model: keras.Model,
    optimizer: keras.Optimizer,
    step: Step,
    averages: Averages,
) -> Path:
    """Write the whole state atomically; keep the last two.

    Args:
        folder: of the checkpoints; made where it is missing.
        state: where training stands.
        model: with its weights and the seeds of its dropout.
        optimizer: with its momenta and its step count.
        step: with its variables beside the model's, and what it says it needs.
        averages: of the weights.
    """
    folder.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {}
    groups = {"model": model, "optimizer": optimizer, "average": averages, "beside": step}
    for group, variables in ((name, holder.variables) for name, holder in groups.items()):
        arrays |= {
            f"{group}/{_name(i)}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)
        }
    for domain, best in state.best.items():
        arrays |= {f"best/{domain}/{_name(i)}": value for i, value in enumerate(best.weights)}
    arrays |= {f"statistics/{path}": value for path, value in state.statistics.items()}
    arrays |= {f"step/{name}": value for name, value in step.state().items()}
    told = asdict(_without_weights(state))
    arrays["state"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path = folder / f"epoch-{state.epochs:05d}.npz"
    write_atomic(path, buffer.getvalue())
    for old in _found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _without_weights(state: TrainingState) -> TrainingState:
    best = {
        domain: Best(best.value, best.epoch, [], best.monitor)
        for domain, best in state.best.items()
    }
    return TrainingState(**{name: getattr(state, name) for name in PLAIN}, best=best)


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read, None when there is none."""
    for path in reversed(_found(folder)):
        if zipfile.is_zipfile(path):
            return path
    return None


class Checkpoint:
    """A checkpoint read from disk.

    Args:
        path: an `.npz` that `write_checkpoint` wrote.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._arrays = {name: file[name] for name in file.files}
        told = json.loads(self._arrays["state"].tobytes())
        best = {
            domain: Best(one["value"], one["epoch"], self._group(f"best/{domain}/"), one["monitor"])
            for domain, one in told["best"].items()
        }
        self.state = TrainingState(
            **{name: told[name] for name in PLAIN}, best=best,
            statistics=_named(self._arrays, "statistics/"),
        )  # fmt: skip

    def _group(self, prefix: str) -> list[Any]:
        return [self._arrays[name] for name in sorted(self._arrays) if name.startswith(prefix)]

    def restore(
        self, model: keras.Model, optimizer: keras.Optimizer, step: Step, averages: Averages
    ) -> None:
        """Put every variable back.

        Raises:
            RequestError: the checkpoint is of another model.
        """
        assign(model.variables, self._group("model/"))
        assign(optimizer.variables, self._group("optimizer/"))
        assign(averages.variables, self._group("average/"))
        assign(step.variables, self._group("beside/"))
        step.restore(_named(self._arrays, "step/"))


def _named(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def assign(variables: Sequence[keras.Variable], values: Sequence[Any]) -> None:
    """Set variables in order.

    Raises:
        RequestError: another number or another shape.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [np.shape(value) for value in values]:
        raise RequestError("The checkpoint is of another model or another optimizer.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
