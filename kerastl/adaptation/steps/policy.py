"""A policy of augmentation inside a step, beside the one that the stream has."""

from __future__ import annotations

import tensorflow as tf

from kerastl.adaptation.chance import step_seeds
from kerastl.augment import Policy, build_policy, named_policy
from kerastl.training.step import Batch


class StepPolicy:
    """A policy that is built when the size of the pictures is known, at the first step.

    Args:
        name: of the policy.
        seed: of what it draws, anew at each step.
    """

    def __init__(self, name: str, *, seed: int) -> None:
        self._operations, self._seed = named_policy(name), seed
        self._policy: Policy | None = None

    def __call__(self, batch: Batch, progress: tf.Tensor) -> tf.Tensor:
        """Return the pictures of a batch, changed: `[batch, h, w, 3]` float32 in [0, 255]."""
        images, _, indices = batch
        if self._policy is None:
            with tf.init_scope():  # which stands inside a function that is being traced
                self._policy = build_policy(self._operations, image_size_px=images.shape[1])
        return self._policy(images, step_seeds(self._seed, progress, indices))
