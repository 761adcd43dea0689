"""AdaBN: BatchNorm uses target statistics; the weights are trained on the source.

Training normalizes each source batch by itself. Before an evaluation, the running mean and variance of each
layer are set to those of the target's training images by an exact two-pass estimate, to which the online
average of the paper converges.

Without source images, only these statistics change, as in the paper.

Only means and variances per channel are aligned. If the class frequencies differ between the domains, this
shifts features less than a scanner does, so the method stays eligible when methods that align whole
distributions are not.

Reference: Li et al. 2017, arXiv:1603.04779, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from kerastl.adaptation.adaptation_step import AdaptationStep, SourceStep
from kerastl.adaptation.method import Method
from kerastl.adaptation.methods.tent import Tent
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras

METHOD = Method(reference="Li et al. 2017, arXiv:1603.04779", source_optional=True, requires_statistics=True)


class Options(StrictModel):
    """`adabn` has no options."""


class AdaBN(SourceStep):
    """Classification of source images, evaluated with target statistics."""

    # No loss uses the target, but `on_epoch` gets the datasets of these streams.
    stream_names = ("source", "target")


class TargetStatistics(Tent):
    """BatchNorm statistics of the target, without training any weight."""

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Return the paths of all weights."""
        return {weight.path for weight in model.weights}


def build(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step."""
    return AdaBN(**step_arguments)


def build_without_source(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step for training without source images."""
    return TargetStatistics(**step_arguments)
