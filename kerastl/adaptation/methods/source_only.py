"""No adaptation: trains on the source only. The baseline for all other methods.

`mean(-log p(y))` over labeled source images. If BatchNorm is in training mode, its statistics are those of
the source.

Reference: none; the baseline of Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerastl.training.step import Batches, Losses

METHOD = Method(reference="Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4", learns="head")


class Options(StrictModel):
    """`source_only` has no options."""


class SourceOnly(AdaptationStep):
    """Classification of source images."""

    stream_names: Sequence[str] = ("source",)

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of the source batch."""
        from kerastl.adaptation.features import features_and_logits

        _, logits = features_and_logits(model, batches["source"][0], training=True)
        return self.classification_losses(batches["source"], logits, progress)


def build(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step."""
    return SourceOnly(**step_arguments)
