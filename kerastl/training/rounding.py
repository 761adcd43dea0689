"""What a frozen front that computes in fewer digits changes, in figures."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.models import fold
from kerastl.recipe.phase import Phase
from kerastl.training.feed import read_batches
from kerastl.training.learner import frozen_front, part
from kerastl.training.tracing import inference
from kerastl.training.validation import figures


def rounding_of(
    model: keras.Model, phase: Phase, val: ImageDataset | None
) -> dict[str, Any] | None:
    """Return the figures of validation pictures with the front in float32 and as the phase computed it.

    Args:
        model: with the weights that the phase ends with.
        phase: names the precision; None is returned where it is float32.
        val: pictures; they are read once for both. None: the figures are None.

    Returns:
        `{"precision", "behind", "float32": {...}, "rounded": {...}}`, the figures those of `validate`.
    """
    front = frozen_front(model, phase)
    if phase.trunk_precision == "float32" or front is None:
        return None
    told: dict[str, Any] = {"precision": phase.trunk_precision, "behind": front.behind}
    if val is None:
        return {**told, "float32": None, "rounded": None}
    parts = part(model, front)
    tail = inference(parts.tail)
    trunks = [inference(fold(parts.trunk, one)) for one in ("float32", phase.trunk_precision)]
    logits: list[list[Any]] = [[], []]
    labels = []
    for images, batch_labels, _ in read_batches(val, 0):
        labels.append(np.asarray(batch_labels))
        for trunk, rows in zip(trunks, logits, strict=True):
            rows.append(np.asarray(tail(trunk(images))))
    exact, rounded = (figures(np.concatenate(rows), np.concatenate(labels)) for rows in logits)
    return {**told, "float32": exact, "rounded": rounded}
