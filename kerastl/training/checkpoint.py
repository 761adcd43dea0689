"""One object holds the state of training; one function writes it, one restores it.

A checkpoint is an `.npz` of plain arrays and one JSON text: nothing in it can run code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.errors import RequestError
from kerastl.runs import write_atomic
from kerastl.training.optimizer import WeightAverages
from kerastl.training.step import Step

Array = np.ndarray[Any, Any]


@dataclass
class Best:
    """The best epoch so far on the validation images of one domain.

    Args:
        value: of the monitored figure.
        epoch: counted over the whole run, from 1.
        weights: of `model.weights`, in order.
        monitor: the figure's name; values of another figure do not compare.
    """

    value: float
    epoch: int
    weights: list[Array]
    monitor: str


@dataclass(frozen=True)
class History:
    """What was learnt.

    Args:
        rows: one an epoch: `phase`, `epoch` (from 1, over all phases), `learning_rate`, `loss`, `accuracy`
            on training images, `val_loss`, `val_accuracy`, `val_balanced_accuracy`, `val_auc`.
        proofs: one a phase, see `build_freeze_report`.
        best: `{domain: (epoch, value)}` of the epochs whose weights were kept.
    """

    rows: tuple[dict[str, Any], ...]
    freeze_reports: tuple[dict[str, Any], ...]
    best: dict[str, tuple[int, float]]

    def __repr__(self) -> str:
        phases = list(dict.fromkeys(row["phase"] for row in self.rows))
        return f"History(phases={phases}, epochs={len(self.rows)}, best={self.best})"


@dataclass
class TrainingState:
    """Where training stands.

    Args:
        phase: index of the phase under way; equal to their number when all have ended.
        phase_epochs: epochs of that phase that have ended.
        epochs: epochs that have ended in all.
        waited: epochs since the monitored figure last improved.
        stopped: the phase was ended early.
        best: by domain.
        before: checksums of the model when the phase began.
        statistics: BatchNorm statistics of the model when the phase began, by path.
        rows: of the history.
        proofs: of the phases that have ended.
        born: number of the optimizer's step with which a variable joined it, by path; 0 where there is none.
        callbacks: what each Keras callback has counted, as a patience that has run so far.
    """

    phase: int = 0
    phase_epochs: int = 0
    epochs: int = 0
    waited: int = 0
    stopped: bool = False
    best: dict[str, Best] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, Array] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    freeze_reports: list[dict[str, Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    born: dict[str, int] = field(default_factory=dict)

    def history(self) -> History:
        """Return what was learnt so far."""
        best = {domain: (one.epoch, one.value) for domain, one in self.best.items()}
        return History(tuple(self.rows), tuple(self.freeze_reports), best)


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
    averages: WeightAverages,
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
        arrays |= {f"{group}/{_name(i)}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
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
    best = {domain: Best(best.value, best.epoch, [], best.monitor) for domain, best in state.best.items()}
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

    def restore(self, model: keras.Model, optimizer: keras.Optimizer, step: Step, averages: WeightAverages) -> None:
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
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


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


COUNTERS = (
    "best", "best_epoch", "cooldown_counter", "elapsed_s", "phase_epochs", "phase_index", "stopped_epoch", "wait",
)  # fmt: skip
"""The counters of EarlyStopping, ReduceLROnPlateau, ModelCheckpoint and TimeBudget. Their settings stay the caller's, and some are
turned over when training begins (the sign of `min_delta`), so not every attribute can be put back."""


def callback_states(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
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
    """Set what `callback_states` returned; nothing when another number of callbacks is at work now."""
    if len(callbacks) != len(states):
        return
    for callback, state in zip(callbacks, states, strict=True):
        vars(callback).update(state)


class WeightSnapshot:
    """Copies of a model's weights.

    Args:
        model: whose weights they are.

    Attributes:
        values: one array a weight, in order; never written to.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._moving: Collection[str] = ()
        self.take_all()

    def take_all(self) -> None:
        """Copy every weight, wherever it came from."""
        self.values = [_copy(weight) for weight in self._model.weights]

    def expect(self, moving: Collection[str]) -> None:
        """Say which weights may move from here on, by path; the others are not copied again."""
        self._moving = moving

    def now(self) -> list[Any]:
        """Return the weights as they are now, as copies that stay as they are."""
        return [
            _copy(weight) if weight.path in self._moving else value
            for weight, value in zip(self._model.weights, self.values, strict=True)
        ]

    def put_back(self) -> None:
        """Give the model these weights."""
        assign(self._model.weights, self.values)


def _copy(weight: keras.Variable) -> Any:
    return np.array(keras.ops.convert_to_numpy(weight))
