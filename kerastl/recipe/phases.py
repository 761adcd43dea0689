"""What a recipe can say of a phase of training; a part of `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from kerastl.recipe.plugins import Pattern

BatchNorm = Literal["frozen", "statistics", "trainable"]
Label = Annotated[
    str, Pattern(r"[A-Za-z0-9_-]{1,40}", "up to 40 letters, digits, '_' and '-' without spaces")
]


@dataclass(frozen=True)
class TopFraction:
    """Train the last part of the backbone.

    Args:
        top_fraction: share of the backbone's layers, rounded to the edge of a block.
    """

    top_fraction: Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class FromBlock:
    """Train from one block on.

    Args:
        from_block: the first block that is trained, by its name.
    """

    from_block: Annotated[str, MinLen(1)]


@dataclass(frozen=True)
class LayerNames:
    """Train the layers whose names match.

    Args:
        names: a regular expression; it must match a layer's whole name.
    """

    names: Annotated[str, MinLen(1)]


@dataclass(frozen=True)
class Unfreeze:
    """Train the last block first, and with each epoch one more, as gradual unfreezing does.

    Args:
        unfreeze: `one_block_per_epoch`.
    """

    unfreeze: Literal["one_block_per_epoch"]


@dataclass(frozen=True)
class BlockRate:
    """The rate of one block.

    Args:
        block: its name.
        factor: of the phase's rate.
    """

    block: Annotated[str, MinLen(1)]
    factor: Annotated[float, Ge(0), Le(100)]


@dataclass(frozen=True)
class Stretch:
    """Where a phase stands in the longer one that it is a part of; written by kerastl where it divides a phase.

    Args:
        before: epochs of the longer one before it.
        epochs: of the longer one in all.
    """

    before: Annotated[int, Ge(0), Le(100_000)]
    epochs: Annotated[int, Ge(1), Le(100_000)]


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: how it is called in the files of the run.
        epochs: how often each picture is seen at most.
        learning_rate: the optimizer's rate, after the warm-up.
        trainable: what of the backbone learns: `all`, `none` (the head only), or a part; the head always learns.
        domain: whose pictures: `source` (data) or `target`.
        optimizer: adam, adamw or sgd.
        schedule: the rate after the warm-up: constant, or falling to zero along a cosine.
        warmup_epochs: epochs in which the rate rises from zero; may be a fraction of one.
        batch_norm: `frozen`, `statistics` (mean and variance follow the pictures) or `trainable`; null is
            trainable when the weights are `none`, and frozen otherwise.
        label_smoothing: share of the label spread over the other classes.
        class_weights: `balanced` weighs rare classes up.
        early_stopping: stop after so many epochs without a better `monitor`; null never stops early.
        monitor: what decides which epoch is the best.
        weight_decay: how strongly adamw pulls the weights to zero.
        keep: the weights that go on: of the `best` epoch or the `last`.
        clip_norm: the norm that all gradients together are cut to; null: none.
        accumulate: batches whose gradients are averaged for one update.
        layer_decay: factor of the rate from each block to the one before it; the head keeps the phase's rate.
        rates: factors of the rate for single blocks, in place of what `layer_decay` gives them.
        momenta: `renew` begins with a fresh optimizer, `keep` goes on with that of the phase before.
        l2_sp: strength of a pull back to the weights that training began with; the head is not pulled.
        ema: momentum of an average of the weights over the steps, which is judged and kept; null: none.
        average_last: epochs at the end whose weights are averaged, judged and kept so.
        focal_gamma: pictures that are told right already count less, the more the larger it is.
        stretch: the longer phase that this one is a part of; kerastl writes it where it divides one.
        cache: `features`: the frozen network sees each picture once, and the head learns from what it made of it;
            `boundary`: likewise for a network whose last blocks learn; `none`; `auto`: features where that is the
            same training.
        cache_precision: how a cache is kept on disk: `float32`, `bfloat16` (half the room) or `uint8` (a quarter).
        trunk_precision: what the frozen layers in front of those that learn compute in: `float32`, or `bfloat16`, which
            rounds every number to 8 bits; the run tells what that changes. All weights stay float32.
        precision: what the layers that learn compute in at each step: `float32`, or `mixed_bfloat16`, faster where a GPU
            or CPU has instructions for it. Weights, logits, losses and validation stay float32.
    """

    name: Label
    epochs: Annotated[int, Ge(1), Le(100_000)]
    learning_rate: Annotated[float, Gt(0), Le(10)]
    trainable: Literal["all", "none"] | TopFraction | FromBlock | LayerNames | Unfreeze
    domain: Literal["source", "target"] = "source"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: Annotated[float, Ge(0), Le(100_000)] = 0.0
    batch_norm: BatchNorm | None = None
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    early_stopping: Annotated[int, Ge(1), Le(100_000)] | None = None
    monitor: Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auc"] = "val_loss"
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    keep: Literal["best", "last"] = "best"
    clip_norm: Annotated[float, Gt(0), Le(1e6)] | None = None
    accumulate: Annotated[int, Ge(1), Le(10_000)] = 1
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    rates: tuple[BlockRate, ...] = ()
    momenta: Literal["renew", "keep"] = "renew"
    l2_sp: Annotated[float, Ge(0), Le(1e6)] = 0.0
    ema: Annotated[float, Gt(0), Lt(1)] | None = None
    average_last: Annotated[int, Ge(0), Le(100_000)] = 0
    focal_gamma: Annotated[float, Ge(0), Le(10)] = 0.0
    stretch: Stretch | None = None
    cache: Literal["auto", "none", "features", "boundary"] = "auto"
    cache_precision: Literal["float32", "bfloat16", "uint8"] = "float32"
    trunk_precision: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
