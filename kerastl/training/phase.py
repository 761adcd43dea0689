"""One phase of training: what may move, how fast, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kerastl.backbones import TrunkPrecision
from kerastl.training.mixed_precision import StepPrecision
from kerastl.training.precision import Precision

BatchNorm = Literal["frozen", "statistics", "trainable"]
Cache = Literal["auto", "none", "features", "boundary"]
MINIMISED = ("val_loss",)


@dataclass(frozen=True)
class Trainable:
    """Which layers of the backbone may move. The head always may.

    Args:
        which: `all`, `none`, `top_fraction`, `from_block` or `names`.
        fraction: for `top_fraction`, the share of the layers nearest the output, 0 to 1; it is rounded
            to the edge of a block.
        text: for `from_block` the block's name, for `names` a regular expression that must match a layer's
            whole name.
    """

    which: Literal["all", "none", "top_fraction", "from_block", "names"] = "none"
    fraction: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one optimizer and one set of trainable layers.

    Args:
        name: shown in the history.
        epochs: at least 1.
        learning_rate: the highest rate of the phase.
        trainable: which layers of the backbone may move.
        domain: whose pictures are learnt from, `source` or `target`.
        optimizer: `adam`, `adamw` or `sgd` (momentum 0.9).
        schedule: `constant`, or `cosine` down to zero at the end of the phase.
        warmup_epochs: epochs over which the rate climbs from zero; may be a fraction of one.
        batch_norm: `frozen`: running statistics are used and kept. `statistics`: pictures are normalised
            by their batch, the statistics are re-estimated before each evaluation, scale and offset stay.
            `trainable`: as `statistics`, and scale and offset move in the trainable layers.
        label_smoothing: 0 to below 1.
        class_weights: `balanced` weighs a class by the inverse of its share.
        early_stopping: epochs without a better `monitor` after which the phase ends; None: never.
        monitor: the validation figure that names the best epoch.
        weight_decay: for `adamw`.
        clip_norm: the norm that the gradients of all variables together are cut to; None: none.
        accumulate: batches whose gradients are averaged for one update.
        layer_decay: factor of the rate from each block to the one before it, see `rate_factors`.
        rates: factor of the rate of single blocks, by name.
        momenta: `keep` goes on with the optimizer's momenta and step count of the phase before, `renew` begins anew.
        l2_sp: strength of the pull back to the weights that training began with, see `build_pull`.
        ema: momentum of an average of the weights over all steps, which is evaluated and kept; None: none.
        average_last: epochs at the end whose weights are averaged, evaluated and kept so; 0: none.
        focal_gamma: pictures that are told right already count less; 0: all alike, see `cross_entropy`.
        stretch: (epochs before, epochs in all) of the longer phase that this one is a part of, for the schedule; None:
            it stands for itself.
        cache: `features`: the frozen part runs once, and the head learns from what it made; `boundary`: likewise where
            the last blocks learn; `none`: pictures run through the whole in each epoch; `auto`: `features` where that
            is the same training, as `choose_cache` says.
        cache_precision: how the cache is kept: `float32`, `bfloat16` or `uint8`.
        trunk_precision: what the frozen front computes in, `float32` or `bfloat16`; what learns is float32.
        precision: what the layers that learn compute in at each step: `float32`, or `mixed_bfloat16`; see `computing_in`.
        keep: `best` goes on from the best epoch so far, `last` from the last.
    """

    name: str
    epochs: int
    learning_rate: float = 1e-3
    trainable: Trainable = Trainable()
    domain: Literal["source", "target"] = "source"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    batch_norm: BatchNorm = "frozen"
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    early_stopping: int | None = None
    monitor: str = "val_loss"
    weight_decay: float = 0.0
    keep: Literal["best", "last"] = "best"
    clip_norm: float | None = None
    accumulate: int = 1
    layer_decay: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    momenta: Literal["renew", "keep"] = "renew"
    l2_sp: float = 0.0
    ema: float | None = None
    average_last: int = 0
    focal_gamma: float = 0.0
    stretch: tuple[int, int] | None = None
    cache: Cache = "none"
    cache_precision: Precision = "float32"
    trunk_precision: TrunkPrecision = "float32"
    precision: StepPrecision = "float32"

    def is_better(self, value: float, best: float | None) -> bool:
        """Tell whether a value of `monitor` beats the best so far."""
        if best is None:
            return True
        return value < best if self.monitor in MINIMISED else value > best
