"""Everything that a resumed run must know, in one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Best:
    """The best epoch so far on the validation pictures of one domain.

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
            on training pictures, `val_loss`, `val_accuracy`, `val_balanced_accuracy`, `val_auc`.
        proofs: one a phase, see `phase_proof`.
        best: `{domain: (epoch, value)}` of the epochs whose weights were kept.
    """

    rows: tuple[dict[str, Any], ...]
    proofs: tuple[dict[str, Any], ...]
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
    proofs: list[dict[str, Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    born: dict[str, int] = field(default_factory=dict)

    def history(self) -> History:
        """Return what was learnt so far."""
        best = {domain: (one.epoch, one.value) for domain, one in self.best.items()}
        return History(tuple(self.rows), tuple(self.proofs), best)
