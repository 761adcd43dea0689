"""What the loop asks of a way of learning. Classification is one; every adaptation method is another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Step(Protocol):
    """One way of learning, which the loop drives and never looks into.

    `batches` maps a stream's name to `(images [b, h, w, 3] float32 in [0, 255], labels [b] int32, or
    [b, classes] float32 where the source mixes its pictures, indices [b] int64)`; batches of two streams may
    differ in size. Where the phase has a cache, `model` is the part behind it, and images are what that reads.
    `progress` is a float32 scalar from 0 at the first step of the phase to 1 at its end.
    """

    variables: Sequence[keras.Variable]
    """Trainable variables beside the model's, e.g. a domain classifier's; a checkpoint holds them."""
    shown: Sequence[str]
    """Names in `losses` that are reported and not minimised, e.g. `accuracy`."""
    reads: Sequence[str]
    """Streams that `batches` holds: `train` or `source`, which both name the phase's own pictures, and `target`. An
    epoch goes once through the first; the others go round, in another order each time."""
    reads_target_labels: bool
    """Whether the labels of `target` are handed over; where not, each is -1."""

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return named scalars, each a mean over the batch; all but `shown` are added up and minimised."""

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before each evaluation with the pictures of each stream, e.g. to re-estimate statistics."""

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what a resumed run needs beyond the variables."""

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Take back what `state` returned."""

    def may_move(self, variable: keras.Variable) -> bool:
        """Tell whether a variable that is not trained may change all the same (statistics)."""


@runtime_checkable
class KeepsWeights(Protocol):
    """A step that leaves weights alone which its phase lets move, as the head of a model that must fit it.

    The optimizer is not given them, and the proof of the phase holds them for frozen.
    """

    def kept(self, model: keras.Model) -> Collection[str]:
        """Return the paths of these weights."""


def trained_by(step: Step, model: keras.Model) -> list[keras.Variable]:
    """Return what an optimizer is given: what the model's flags let learn, but what the step keeps; the step's own behind."""
    kept = step.kept(model) if isinstance(step, KeepsWeights) else ()
    return [*(one for one in model.trainable_variables if one.path not in kept), *step.variables]


@runtime_checkable
class BeginsWithPhase(Protocol):
    """A step that looks at the weights its phase starts from, e.g. to copy a teacher from them.

    Steps of all phases are built before the first begins, so none can do so when it is built.
    """

    def on_phase(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before the first step of the phase, not where it goes on from a checkpoint inside it."""
