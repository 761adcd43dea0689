"""How many parameters a phase trained, block by block."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import keras

from kerastl.models import blocks_of

HEAD = "head"


def parameters_by_block(
    model: keras.Model, *, trained: Collection[str], followed: Collection[str]
) -> dict[str, Any]:
    """Count the parameters of a flat classifier.

    Args:
        model: built on a known backbone.
        trained: paths of the variables that the optimizer was given.
        followed: paths of statistics that may follow the pictures without being trained.

    Returns:
        `{"total", "trained", "statistics", "frozen", "blocks": [{"block", "total", "trained"}]}`, all whole
        numbers; trained, statistics and frozen add up to the total, which is Keras's `count_params`. Blocks
        come from the input on; what lies behind the backbone is the last, `head`.
    """
    block_of = {name: block.name for block in blocks_of(model) for name in block.layers}
    counts: dict[str, dict[str, Any]] = {
        name: {"block": name, "total": 0, "trained": 0}
        for name in [*dict.fromkeys(block_of.values()), HEAD]
    }
    statistics = 0
    for layer in model.layers:
        row = counts[block_of.get(layer.name, HEAD)]
        for variable in layer.weights:
            size = math.prod(variable.shape)
            row["total"] += size
            if variable.path in trained:
                row["trained"] += size
            elif variable.path in followed:
                statistics += size
    rows = list(counts.values())
    total, learnt = (sum(row[key] for row in rows) for key in ("total", "trained"))
    return {
        "total": total,
        "trained": learnt,
        "statistics": statistics,
        "frozen": total - learnt - statistics,
        "blocks": rows,
    }
