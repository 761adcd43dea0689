"""Fine-tuning on labeled target images, alone or together with source images.

`mean(-log p(y))` over the labeled target images of a batch. With `both_domains`, the mean of that and the
source's, so that both domains have the same weight regardless of their batch sizes. Unlabeled target images
are ignored.

Reference: Yosinski et al. 2014, arXiv:1411.1792 (fine-tuning); Daume 2007, arXiv:0907.1815, section 2
(`weighted`: both domains at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerastl.training.step import Batch, Batches, Losses

METHOD = Method(reference="Yosinski et al. 2014, arXiv:1411.1792", target_labels="some", learns="head")


class Options(StrictModel):
    """Options of `fine_tune`.

    Args:
        both_domains: Also train on a source batch in each step, with the same weight.
    """

    both_domains: bool = False


class FineTune(AdaptationStep):
    """Classification of labeled target images.

    Args:
        both_domains: As in `Options`.
        step_arguments: As in `AdaptationStep`.
    """

    uses_target_labels = True

    def __init__(self, *, both_domains: bool = False, **step_arguments: Any) -> None:
        super().__init__(**step_arguments)
        self.stream_names = ("source", "target") if both_domains else ("target",)

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy`, averaged over the domains."""
        import tensorflow as tf

        losses = [self._losses_of(model, batches[name], progress) for name in self.stream_names]
        return {name: tf.add_n([terms[name] for terms in losses]) / len(losses) for name in losses[0]}

    def _losses_of(self, model: keras.Model, batch: Batch, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of the labeled images of a batch; 0 if there are none."""
        import tensorflow as tf

        images, labels, indices = batch
        _, logits = adaptation.features_and_logits(model, images, training=True)
        # A mixed label is a row of class weights. Unlabeled images are never mixed.
        is_labeled = labels >= 0 if labels.shape.rank == 1 else tf.reduce_sum(labels, -1) > 0
        logits, labels, indices = (
            tf.boolean_mask(values, is_labeled) for values in (logits, labels, indices)
        )
        return self.classification_losses((images, labels, indices), logits, progress)


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    return FineTune(both_domains=options.both_domains, **step_arguments)
