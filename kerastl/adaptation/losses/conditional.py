"""What a domain classifier reads where it is told what the classifier believes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.adaptation.losses.entropy import entropy


def multilinear_map(features: Any, probabilities: Any) -> tf.Tensor:
    """Return each feature times each class's probability: `[batch, features * classes]` float32.

    Args:
        features: `[batch, features]` float32.
        probabilities: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (multilinear conditioning).
    """
    features, probabilities = (tf.cast(one, tf.float32) for one in (features, probabilities))
    products = features[:, :, None] * probabilities[:, None, :]
    width = features.shape[1] * probabilities.shape[1]
    return tf.reshape(products, [tf.shape(products)[0], width])


class RandomMultilinearMap:
    """A random projection of `multilinear_map` that keeps inner products on average, for maps that would be too wide.

    `(R_f f) * (R_g g) / sqrt(width)`, the entries of both matrices from a normal distribution, never trained.

    Args:
        num_features, num_classes: of what is mapped.
        width: numbers in the result.
        seed: of the matrices.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (randomized multilinear conditioning).
    """

    def __init__(self, num_features: int, num_classes: int, *, width: int, seed: int) -> None:
        drawn = np.random.default_rng(seed)
        self._of_features = drawn.standard_normal((num_features, width)).astype(np.float32)
        self._of_classes = drawn.standard_normal((num_classes, width)).astype(np.float32)

    def __call__(self, features: Any, probabilities: Any) -> tf.Tensor:
        """Return `[batch, width]` float32."""
        width = self._of_features.shape[1]
        mapped = tf.matmul(features, self._of_features) * tf.matmul(probabilities, self._of_classes)
        return mapped / width**0.5


def certainty_weights(logits: Any) -> tf.Tensor:
    """Return `1 + exp(-H)` of each picture, H the entropy of its prediction: `[batch]` float32 from 1 to 2.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Long et al. 2018, arXiv:1705.10667, section 3 (entropy conditioning).
    """
    return 1.0 + tf.exp(-entropy(logits))
