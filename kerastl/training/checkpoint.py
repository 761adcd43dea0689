"""The training state, its checkpoints on disk, and the history of a training.

A checkpoint is an `.npz` file of plain arrays and one JSON text. It cannot contain code.
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

from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.recipe.phase import Phase
from kerastl.runs import PhaseSummary, write_atomic
from kerastl.training.custom_objects import describe_objects
from kerastl.training.freeze import Array, copy_of
from kerastl.training.optimizer import WeightAverages
from kerastl.training.step import Step


@dataclass
class BestEpoch:
    """The best epoch so far on the validation images of one domain.

    Args:
        value: Value of the monitored metric.
        epoch: Its epoch, counted over the whole training from 1.
        weights: The values of `model.weights`, in order.
        monitor: Name of the metric. Values of different metrics are not compared.
    """

    value: float
    epoch: int
    weights: list[Array]
    monitor: str


@dataclass(frozen=True)
class History:
    """The result of `fit`.

    Args:
        rows: One row per epoch: `phase`, `epoch` (from 1, over all phases), `learning_rate`, `loss`, `accuracy` on
            training images, `val_loss`, `val_accuracy`, `val_balanced_accuracy`, `val_auc`.
        freeze_reports: One report per phase, see `build_freeze_report`.
        best: `{domain: (epoch, value)}` of the epochs whose weights were kept.
        phases: The outcome of each phase: its best epoch, why it stopped, and the epoch whose weights were kept.
        objects: The custom loss, metrics and optimizer of each phase that has any: `{"phase", "loss", "metrics",
            "optimizer"}`, each with its class and its config.
    """

    rows: tuple[dict[str, Any], ...]
    freeze_reports: tuple[dict[str, Any], ...]
    best: dict[str, tuple[int, float]]
    phases: tuple[PhaseSummary, ...] = ()
    objects: tuple[dict[str, Any], ...] = ()

    def __repr__(self) -> str:
        phases = list(dict.fromkeys(row["phase"] for row in self.rows))
        return f"History(phases={phases}, epochs={len(self.rows)}, best={self.best})"


COUNTERS = (
    "best", "best_epoch", "cooldown_counter", "elapsed_s", "phase_epochs", "phase_index", "stopped_epoch", "wait",
)  # fmt: skip
"""The counters of EarlyStopping, ReduceLROnPlateau, ModelCheckpoint and TimeBudget. Other attributes are not restored:
they are settings of the caller, and Keras changes some of them when training begins (the sign of `min_delta`)."""


@dataclass
class TrainingState:
    """The progress of a training.

    Args:
        phase: Index of the current phase. Equal to the number of phases when all are finished.
        phase_epochs: Finished epochs of the current phase.
        epochs: Finished epochs of all phases.
        epochs_without_improvement: Epochs since the monitored metric last improved.
        stopped: Why the phase was stopped early: `early_stopping`, `time_budget` or `callback`. Empty if it was not.
        best: The best epoch of each domain.
        checksums: Checksums of the model at the start of the phase.
        statistics: BatchNorm statistics of the model at the start of the phase, by path.
        rows: Rows of the history.
        freeze_reports: Reports of the finished phases.
        callbacks: The counters of each Keras callback, e.g. the patience used so far.
        joined_at: The optimizer step at which each variable joined the optimizer, by path.
        phases: The content of a `PhaseSummary` for each finished phase.
        objects: The custom objects of the finished phases, as in `History`.
        plan: The phases and the images of the training, see `describe_training`.
    """

    phase: int = 0
    phase_epochs: int = 0
    epochs: int = 0
    epochs_without_improvement: int = 0
    stopped: str = ""
    best: dict[str, BestEpoch] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, Array] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    freeze_reports: list[dict[str, Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    joined_at: dict[str, int] = field(default_factory=dict)
    phases: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)

    def history(self) -> History:
        """Return the history so far."""
        best = {domain: (best.epoch, best.value) for domain, best in self.best.items()}
        phases = tuple(PhaseSummary.model_validate(phase) for phase in self.phases)
        return History(tuple(self.rows), tuple(self.freeze_reports), best, phases, tuple(self.objects))

    def add_phase(self, phase: Phase, kept: BestEpoch | None, parameters: Mapping[str, int]) -> None:
        """Add the summary of the phase that has just ended.

        Args:
            phase: The phase.
            kept: The epoch whose weights are kept. None for the last one.
            parameters: The numbers of parameters, as in the freeze report.
        """
        rows = [row for row in self.rows if row["epoch"] > self.epochs - self.phase_epochs]
        values = {row["epoch"]: row[phase.monitor] for row in rows if row.get(phase.monitor) is not None}
        sign = 1 if phase.minimizes_monitor else -1
        best_epoch = min(values, key=lambda epoch: sign * values[epoch], default=None)
        best, earlier_best = values.get(best_epoch), None
        same_images = [earlier for earlier in self.phases if earlier["domain"] == phase.domain]
        if same_images and same_images[-1]["monitor"] == phase.monitor:
            last = same_images[-1]
            earlier_best = last["earlier_best"] if last["helped"] is False else last["best"]
        helped = None
        if best is not None and earlier_best is not None:
            helped = phase.is_better(best, earlier_best)
        kept_epoch = kept.epoch if kept else self.epochs
        kept_rows = [row["phase"] for row in self.rows if row["epoch"] == kept_epoch]
        self.phases.append({
            "phase": phase.name, "domain": phase.domain, "planned_epochs": phase.epochs, "epochs": self.phase_epochs,
            "trained": parameters["trained"], "frozen": parameters["total"] - parameters["trained"],
            "monitor": phase.monitor, "best_epoch": best_epoch, "best": best, "earlier_best": earlier_best,
            "stopped": self.stopped if self.phase_epochs < phase.epochs else "all_epochs", "helped": helped, "keep": phase.keep,
            "kept_phase": kept_rows[0] if kept_rows else phase.name, "kept_epoch": kept_epoch,
        })  # fmt: skip

    def read_callbacks(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Store the counters of each callback as plain numbers."""
        self.callbacks = [
            {
                name: None if value is None else np.asarray(value).item()
                for name, value in vars(callback).items()
                if name in COUNTERS
            }
            for callback in callbacks
        ]

    def restore_callbacks(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Restore the counters of each callback. Does nothing if the number of callbacks has changed."""
        if len(callbacks) == len(self.callbacks):
            for callback, counters in zip(callbacks, self.callbacks, strict=True):
                vars(callback).update(counters)


def describe_training(
    model: keras.Model, phases: Sequence[Phase], images: Mapping[str, Mapping[str, ImageDataset]]
) -> dict[str, Any]:
    """Return what a training and its continuation must have in common, as plain values.

    Args:
        model: The model. The names of its weights are compared, because a checkpoint identifies weights by name.
        phases: All phases.
        images: The datasets `train` and `val` by domain. Their settings are compared, not the pixels.
    """
    settings = {
        use: {domain: _describe_images(dataset) for domain, dataset in datasets.items()}
        for use, datasets in images.items()
    }
    weights = [weight.path for weight in model.weights]
    plan = {"phases": [_describe_phase(phase) for phase in phases], **settings, "weights": weights}
    plain: dict[str, Any] = json.loads(json.dumps(plan))
    return plain


SETTINGS = (
    "num_examples", "class_names", "image_size_px", "resize", "window", "batch_size", "seed", "views", "augmented", "mixes",
)  # fmt: skip


def _describe_images(dataset: ImageDataset) -> dict[str, Any]:
    policy = getattr(dataset, "_augment", None)  # a function of the user has no fingerprint
    settings = {name: getattr(dataset, name, None) for name in SETTINGS}
    return {**settings, "augment": getattr(policy, "fingerprint", None)}


def _describe_phase(phase: Phase) -> dict[str, Any]:
    objects = {key: item for key, item in describe_objects(phase).items() if key != "phase"}
    for key in ("loss", "optimizer"):  # Keras numbers their names per process: adam, adam_1
        objects.get(key, {}).get("config", {}).pop("name", None)
    return {**phase.model_dump(mode="json", warnings=False, exclude={*objects}), **objects}


KEPT_CHECKPOINTS = 2


def write_checkpoint(
    folder: Path,
    state: TrainingState,
    model: keras.Model,
    optimizer: keras.Optimizer,
    step: Step,
    averages: WeightAverages,
) -> Path:
    """Write a checkpoint atomically and delete all but the last two.

    Args:
        folder: Folder of the checkpoints. It is created if necessary.
        state: The training state.
        model: The model; its weights and the seeds of its dropout layers are saved.
        optimizer: The optimizer; its slot variables and step count are saved.
        step: The step; its own variables and its `state()` are saved.
        averages: The averages of the weights.
    """
    folder.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {}
    groups = {"model": model, "optimizer": optimizer, "average": averages, "step_variables": step}
    for group, owner in groups.items():
        arrays |= {
            f"{group}/{index:05d}": keras.ops.convert_to_numpy(variable)
            for index, variable in enumerate(owner.variables)
        }
    for domain, best in state.best.items():
        arrays |= {f"best/{domain}/{index:05d}": value for index, value in enumerate(best.weights)}
    arrays |= {f"statistics/{path}": value for path, value in state.statistics.items()}
    arrays |= {f"step/{name}": value for name, value in step.state().items()}
    content = {name: value for name, value in vars(state).items() if name not in ("best", "statistics")}
    content["best"] = {domain: asdict(best) | {"weights": []} for domain, best in state.best.items()}
    arrays["state"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path = folder / f"epoch-{state.epochs:05d}.npz"
    write_atomic(path, buffer.getvalue())
    for old in _checkpoint_files(folder)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)
    return path


def _checkpoint_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read. None if there is none."""
    return next((path for path in reversed(_checkpoint_files(folder)) if zipfile.is_zipfile(path)), None)


class Checkpoint:
    """A checkpoint that was read from disk.

    Args:
        path: A file that `write_checkpoint` wrote.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._arrays = {name: file[name] for name in file.files}
        content = json.loads(self._arrays["state"].tobytes())
        self.state = TrainingState(**content | {"statistics": self._with_prefix("statistics/")})
        self.state.best = {
            domain: BestEpoch(**best | {"weights": self._in_order(f"best/{domain}/")})
            for domain, best in content["best"].items()
        }

    def _with_prefix(self, prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in self._arrays.items()
            if name.startswith(prefix)
        }

    def _in_order(self, prefix: str) -> list[Any]:
        return [value for _, value in sorted(self._with_prefix(prefix).items())]

    def restore(
        self, model: keras.Model, optimizer: keras.Optimizer, step: Step, averages: WeightAverages
    ) -> None:
        """Restore every variable.

        Raises:
            RequestError: If the checkpoint belongs to a different model.
        """
        assign(model.variables, self._in_order("model/"))
        assign(optimizer.variables, self._in_order("optimizer/"))
        assign(averages.variables, self._in_order("average/"))
        assign(step.variables, self._in_order("step_variables/"))
        step.restore(self._with_prefix("step/"))


def assign(variables: Sequence[keras.Variable], values: Sequence[Any]) -> None:
    """Assign values to variables, in order.

    Raises:
        RequestError: If their number or shapes differ.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [np.shape(value) for value in values]:
        raise RequestError(
            "The checkpoint does not match: it was written for a different model or optimizer."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class WeightSnapshot:
    """A copy of the weights of a model, to restore if training diverges.

    Args:
        model: The model.

    Attributes:
        values: One array per weight, in order. They are never modified in place.
        changing: The paths of the weights that can change. `current` copies only these.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.changing: Collection[str] = ()
        self.update_all()

    def update_all(self) -> None:
        """Copy every weight."""
        self.values = [copy_of(weight) for weight in self._model.weights]

    def current(self) -> list[Any]:
        """Return copies of the current weights."""
        return [
            copy_of(weight) if weight.path in self.changing else value
            for weight, value in zip(self._model.weights, self.values, strict=True)
        ]

    def restore(self) -> None:
        """Assign the copies to the model."""
        assign(self._model.weights, self.values)
