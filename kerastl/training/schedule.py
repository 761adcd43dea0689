"""The learning rate of every step, as a pure function of the step."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_at(
    step: int,
    *,
    highest: float,
    steps_per_epoch: int,
    epochs: int,
    schedule: Literal["constant", "cosine"],
    warmup_epochs: float,
) -> float:
    """Return the rate of one step of a phase.

    Args:
        step: 0 for the first step of the phase.
        highest: the rate after warm-up.
        steps_per_epoch, epochs: the length of the phase.
        schedule: `cosine` follows Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
        warmup_epochs: epochs of linear climb, Goyal et al. 2017, arXiv:1706.02677, section 2.2.
    """
    total = steps_per_epoch * epochs
    warmup = min(round(warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return highest
    done = (step - warmup) / max(1, total - warmup)
    return highest * 0.5 * (1.0 + math.cos(math.pi * done))
