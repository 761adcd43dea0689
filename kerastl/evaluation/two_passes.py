"""The same pictures predicted twice: a model that is only a function of its input answers with the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.evaluation.predict import predict
from kerastl.evaluation.predictions import Array


def two_passes(model: keras.Model, new_source: Callable[[], ImageDataset]) -> dict[str, Any]:
    """Predict the pictures of a source twice, from the files on, and compare the logits to the byte.

    Args:
        model: as in `predict`.
        new_source: gives a fresh source of the same pictures, so that the second pass decodes them anew.

    Returns:
        `{"pictures", "differ", "largest_difference", "sha256", "faults"}`: number of pictures, of those whose
        logits differ in any bit, the largest difference of a logit, sha256 of the logits of each pass (16 hex
        digits), and what is wrong, nothing where the passes are equal.

    Raises:
        RequestError, RunFailed: as in `predict`.
    """
    first, second = (predict(model, new_source()) for _ in range(2))
    told = [row.tobytes() for row in first.logits]
    differ = [index for index, row in enumerate(second.logits) if row.tobytes() != told[index]]
    largest = float(np.abs(first.logits - second.logits).max()) if differ else 0.0
    faults = []
    if differ:
        faults.append(
            f"of {len(told)} pictures predicted twice, {len(differ)} got other logits the second "
            f"time, by up to {largest:.2g}; the first is {first.paths[differ[0]]}. Some layer draws at random, "
            "or keeps a state, when it should not."
        )
    return {
        "pictures": len(told),
        "differ": len(differ),
        "largest_difference": largest,
        "sha256": [_digest(one.logits) for one in (first, second)],
        "faults": faults,
    }


def _digest(logits: Array) -> str:
    return hashlib.sha256(logits.tobytes()).hexdigest()[:16]
