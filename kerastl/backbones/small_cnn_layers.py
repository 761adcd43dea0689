"""A small plain network of our own, which learns from random weights on few pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

FILTERS = (32, 64, 128)
BATCH_NORM_MOMENTUM = 0.9
"""Keras's 0.99 needs hundreds of steps before the statistics can be trusted; small sets have tens."""


def build_small_cnn(
    *, include_top: bool, weights: None, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Build three blocks of convolution, max-pooling, BatchNorm and ReLU.

    Args:
        include_top, weights: False and None; it has no top and no published weights.
        input_shape: height, width and 3.

    Returns:
        Functional model, `[batch, height, width, 3]` to `[batch, height / 8, width / 8, 128]`.
    """
    import keras

    assert not include_top
    assert weights is None
    inputs = x = keras.Input(input_shape)
    for number, filters in enumerate(FILTERS, start=1):
        x = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"block_{number}_conv"
        )(x)
        # Pooling first leaves a quarter of the pixels to BatchNorm, the slowest part of a step on a CPU.
        x = keras.layers.MaxPooling2D(name=f"block_{number}_pool")(x)
        x = keras.layers.BatchNormalization(
            momentum=BATCH_NORM_MOMENTUM, name=f"block_{number}_bn"
        )(x)
        x = keras.layers.ReLU(name=f"block_{number}_relu")(x)
    return keras.Model(inputs, x)
