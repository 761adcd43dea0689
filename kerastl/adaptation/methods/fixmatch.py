"""FixMatch: a target image that is surely answered is learnt under that answer, strongly changed.

`classification + weight * mean(1[max q >= threshold] * -log p(argmax q))` over the target's batch: q is the network's answer, without gradient, to the
image as its stream gives it (with what `augment` does to it, the weak view), p its answer to the same image after one more policy
(the strong view). `confident` tells the share of the batch that is sure enough. In the paper the two views are two draws of the weak change, all images
of a step share one batch, and the target's is seven times as large: here the strong view changes the weak one further, each
view is normalised by itself, and the two domains' batches are of one size.

Reference: Sohn et al. 2020, arXiv:2001.07685, equations 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.augment.presets import PolicyName
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Sohn et al. 2020, arXiv:2001.07685", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `fixmatch`.

    Args:
        weight: of the target beside classification; 1 in the paper.
        threshold: probability from which an answer is sure; 0.95 in the paper.
        policy: the strong change, by name; `strong` mirrors images and hides parts of them: `radiograph` where left and right mean something.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    threshold: Annotated[float, Ge(0), Le(1)] = 0.95
    policy: PolicyName = "strong"


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import FixMatch

    return FixMatch(weight=options.weight, threshold=options.threshold, policy=options.policy, **given)
