"""Phases of training; recipes and Python share these classes."""

from kerastl.recipe.phase import (
    BatchNorm,
    BlockRate,
    Cache,
    FromBlock,
    LayerNames,
    Phase,
    TopFraction,
    Trainable,
    Unfreeze,
)

__all__ = [
    "BatchNorm",
    "BlockRate",
    "Cache",
    "FromBlock",
    "LayerNames",
    "Phase",
    "TopFraction",
    "Trainable",
    "Unfreeze",
]
