"""Strong augmentation: trains on strongly augmented source images; a baseline without target images.

`mean(-log p(y))` over source images after another policy, which is applied after the recipe's augmentation,
anew in each step. If BatchNorm is in training mode, its statistics are re-estimated on the target before an
evaluation, as for every method. On the tissue slides of Camelyon17-WILDS, such a baseline was better than
methods that adapt.

Reference: Sagawa et al. 2022, arXiv:2112.05090, section 5 (augmentation against adaptation); Koh et al. 2021,
arXiv:2012.07421 (the data).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.adaptation_step import AdaptationStep, SourceStep, StepPolicy
from kerastl.adaptation.method import Method
from kerastl.augment.presets import PolicyName
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import tensorflow as tf

    from kerastl.training.step import Batches

METHOD = Method(reference="Sagawa et al. 2022, arXiv:2112.05090", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `strong_augmentation`.

    Args:
        policy: Name of the policy. `strong` flips images and masks parts of them; use `radiograph` if left
            and right matter.
    """

    policy: PolicyName = "strong"


class StrongAugmentation(SourceStep):
    """Classification of source images that are augmented by another policy in the step.

    Args:
        policy: Name of the policy.
        step_arguments: As in `AdaptationStep`; the statistics are those of the target.
    """

    def __init__(self, policy: str, **step_arguments: Any) -> None:
        super().__init__(**step_arguments)
        # No loss uses the target, but `on_epoch` gets the datasets of these streams.
        self.stream_names = ("source", "target") if self.update_statistics else ("source",)
        self._policy = StepPolicy(policy, seed=self.seed)

    def change_images(self, batches: Batches, progress: tf.Tensor) -> tf.Tensor:
        """Return the augmented source images: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["source"], progress)


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    return StrongAugmentation(options.policy, **step_arguments)
