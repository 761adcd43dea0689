"""Gradual unfreezing, written out: a phase for each block that joins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kerastl.recipe.phases import FromBlock, Phase, Stretch, Unfreeze
from kerastl.recipe.schema import Recipe
from kerastl.recipe.tables import Tables


def unfrozen_by_epoch(recipe: Recipe, tables: Tables) -> Recipe:
    """Return the recipe with each phase that unfreezes by epoch divided into ordinary ones.

    The last block learns in the first epoch, and in each further one the block before joins; the optimizer goes on, one
    schedule spans all, and the weights of the last epoch go from part to part.

    Args:
        recipe: checked by itself.
        tables: tells the blocks of the backbone.

    Reference:
        Howard & Ruder 2018, arXiv:1801.06146, section 3.3.
    """
    if not any(isinstance(phase.trainable, Unfreeze) for phase in recipe.phases):
        return recipe
    blocks = tables.block_names(recipe.backbone.name)
    phases = (part for phase in recipe.phases for part in _parts(phase, blocks))
    return replace(recipe, phases=tuple(phases))


def _parts(phase: Phase, blocks: Sequence[str]) -> Iterator[Phase]:
    if not isinstance(phase.trainable, Unfreeze):
        yield phase
        return
    count = min(phase.epochs, len(blocks))
    for part in range(count):
        last = part == count - 1
        yield replace(
            phase,
            name=f"{phase.name}_{part + 1}",
            epochs=phase.epochs - part if last else 1,
            trainable=FromBlock(blocks[-1 - part]),
            momenta="keep" if part else phase.momenta,
            keep=phase.keep if last else "last",
            stretch=Stretch(part, phase.epochs),
        )
