"""What is known of an adaptation method before it is run. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOURCE_ONLY = "source_only"
"""The name of the model that was trained at the source and not adapted; always among the candidates."""


@dataclass(frozen=True)
class Method:
    """Facts of a method, by which a choice among methods is made.

    Args:
        reference: paper and arXiv number.
        target_labels: `some` reads the labels of the target's training pictures where there are any, `none` never.
        source_free: whether it never reads a source picture, whatever its options.
        source_optional: whether it reads the source where that is at hand, and works without, too: by
            `build_without_source` of its file.
        moves_statistics: whether it works by BatchNorm statistics, so that the phase must not freeze BatchNorm.
        assumes_equal_prevalence: whether it makes the two domains' pictures alike as a whole, or the classes of the target
            equally frequent: where the shares of the classes differ, it makes pictures of different classes alike.
        learns: `head`: the head alone has something to learn from it, so features may be cached, unless it
            `changes_pixels`; `any`: it works by layers before the head, whichever of them learn.
        changes_pixels: whether it changes pictures, of either domain, in its step, so that nothing can be cached of them.
        only_batch_norm: whether nothing but the scale and offset of BatchNorm may learn.
        freezes_head: whether the head stays as it is: it gets a gradient of 0, and its step keeps it.
        aligns: names of its losses that measure a distance between the domains, 0 where they are the same pictures.
    """

    reference: str
    target_labels: Literal["none", "some"] = "none"
    source_free: bool = False
    source_optional: bool = False
    moves_statistics: bool = False
    assumes_equal_prevalence: bool = False
    learns: Literal["head", "any"] = "any"
    changes_pixels: bool = False
    only_batch_norm: bool = False
    freezes_head: bool = False
    aligns: tuple[str, ...] = ()

    @property
    def works_without_source(self) -> bool:
        """Whether a trained model and pictures of the target can be enough."""
        return self.source_free or self.source_optional
