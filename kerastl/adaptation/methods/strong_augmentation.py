"""Strong augmentation: source images are learnt in many more shapes and colours; a baseline that sees no target image.

`mean(-log p(y))` over source images that go through one more policy, after what the recipe does to them, anew at each step. Where BatchNorm follows
the images, its statistics are re-estimated on the target before an evaluation, as with every method; no loss sees the target. On the
tissue slides of Camelyon17-WILDS the like of it was ahead of methods that adapt.

Reference: Sagawa et al. 2022, arXiv:2112.05090, section 5 (augmentation against adaptation); Koh et al. 2021, arXiv:2012.07421 (the data).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.augment.presets import PolicyName
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Sagawa et al. 2022, arXiv:2112.05090", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `strong_augmentation`.

    Args:
        policy: by name; `strong` mirrors images and hides parts of them: `radiograph` where left and right mean something.
    """

    policy: PolicyName = "strong"


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import StrongAugmentation

    return StrongAugmentation(options.policy, **given)
