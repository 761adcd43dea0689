"""FixMatch: confident predictions for target images become labels for strongly augmented versions of them.

`classification + weight * mean(1[max q >= threshold] * -log p(argmax q))` over the target batch: q is the
prediction, without gradient, for the image as its stream provides it (with `augment`, the weak view), p that
for the same image after another policy (the strong view). `confident` is the fraction of the batch above the
threshold. In the paper, the views are independent, all images of a step share one batch, and the target batch
is seven times as large. Here the strong view augments the weak one, each view is normalized by itself, and
both domains have the same batch size.

Reference: Sohn et al. 2020, arXiv:2001.07685, equations 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import AdaptationStep, StepPolicy
from kerastl.adaptation.method import Method, Weight
from kerastl.augment.presets import PolicyName
from kerastl.options import Fraction, StrictModel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerastl.training.step import Batches, Losses

METHOD = Method(reference="Sohn et al. 2020, arXiv:2001.07685", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `fixmatch`.

    Args:
        weight: Weight of the target loss relative to classification; 1 in the paper.
        threshold: Probability above which a prediction is used as a label; 0.95 in the paper.
        policy: Name of the policy of the strong view. `strong` flips images and masks parts of them; use
            `radiograph` if left and right matter.
    """

    weight: Weight = 1.0
    threshold: Fraction = 0.95
    policy: PolicyName = "strong"


class FixMatch(AdaptationStep):
    """Source classification, and pseudo-labels for strongly augmented target images.

    Source, weak view and strong view are run one after the other, so that BatchNorm in training mode
    normalizes each by itself.

    Args:
        options: Options of the method.
        step_arguments: As in `AdaptationStep`.
    """

    metric_names = ("accuracy", "confident")
    changed_stream = "target"

    def __init__(self, options: Options, **step_arguments: Any) -> None:
        super().__init__(**step_arguments)
        self._options = options
        self._policy = StepPolicy(options.policy, seed=self.seed)

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of the source, the weighted `pseudo_label_loss`, and `confident`."""
        classification = self.classify(model, batches["source"], progress)
        weak, strong = (
            adaptation.features_and_logits(model, images, training=True)[1]
            for images in (batches["target"][0], self.change_images(batches, progress))
        )
        loss, confident = adaptation.pseudo_label_loss(
            strong, teacher=weak, threshold=self._options.threshold
        )
        return classification | {"pseudo_label_loss": self._options.weight * loss, "confident": confident}

    def change_images(self, batches: Batches, progress: tf.Tensor) -> tf.Tensor:
        """Return the strong view of the target images: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["target"], progress)


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    return FixMatch(options, **step_arguments)
