"""Keras's own file and what one must know to go on with it: for another hospital that adapts the model without the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Answering, Trained


def write(trained: Trained, out: Path, *, answering: Answering, version: int | None = None) -> Path:
    """Export a trained model under `out`, as `version` or the next number, and return the folder written; it answers as learnt."""
    del answering
    from kerastl.export.portable import export_portable

    return export_portable(trained, out, version)
