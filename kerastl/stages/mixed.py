"""What a candidate makes of mixed pictures of the target, for the validator that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.recipe import Recipe
from kerastl.selection.evidence import Mixed
from kerastl.selection.validators.mixval import Options, draw_pairs

NAME = "mixval"


def mixing_of(recipe: Recipe) -> Options | None:
    """Return how pictures are mixed for the choice; None: no validator of the recipe asks for it."""
    asked = recipe.adaptation.select_by if recipe.adaptation else ()
    for one in asked:
        if one.name == NAME:
            return one.options or Options()
    return None


def mixed_target(
    forward: Callable[[Any], Any],
    target: ImageDataset,
    logits: np.ndarray[Any, Any],
    options: Options,
) -> Mixed:
    """Return a candidate's answers to mixed pictures of the target.

    Args:
        forward: images `[b, size, size, 3]` float32 in [0, 255] to (features, logits).
        target: the pictures, as they are.
        logits: `[n, classes]` of the candidate, which decide who is mixed with whom.
        options: share and seed.

    Raises:
        RunFailed: a file that could be read when the run began can no longer be; the text names it.
    """
    first, second = draw_pairs(logits, options)
    # Both of a pair in one go: where pictures are not kept they are decoded in parallel.
    sides = (target.at(rows, target.batch_size) for rows in (first, second))
    told = []
    try:
        for (one, _), (other, _) in tf.data.Dataset.zip(tuple(sides)):
            told.append(forward(options.share * one + (1 - options.share) * other)[1])
    except tf.errors.OpError as error:
        raise target.explain(error) from error
    answers = np.concatenate([np.asarray(one) for one in told])
    return Mixed(answers, first, second, options.share)
