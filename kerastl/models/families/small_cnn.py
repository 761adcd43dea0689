"""A small network for small images, small datasets, and random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerastl.models.backbone import Backbone, BlockSeries

if TYPE_CHECKING:
    import keras

BACKBONES = {
    "small_cnn": Backbone(
        builder="kerastl.models.families.small_cnn.build_small_cnn",
        pixels="minus_one_to_one",
        image_size_px=96,
        min_size_px=16,
        parameters=93_920,
        blocks=(BlockSeries("block_{}", "block_{}_relu", range(1, 4)),),
        linear_top=False,
        reference="none: three blocks of convolution, max-pooling, BatchNorm and ReLU",
        top1_source="",
    )
}


FILTERS = (32, 64, 128)
BATCH_NORM_MOMENTUM = 0.9
"""With the 0.99 of Keras, statistics need hundreds of steps to converge; small datasets have tens."""


def build_small_cnn(*, include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> keras.Model:
    """Build three blocks of convolution, max-pooling, BatchNorm and ReLU.

    Args:
        include_top: Must be False; there is no top.
        weights: Must be None; there are no published weights.
        input_shape: Height, width and 3.

    Returns:
        A functional model from `[batch, height, width, 3]` to `[batch, height / 8, width / 8, 128]`.
    """
    import keras

    assert not include_top
    assert weights is None
    inputs = x = keras.Input(input_shape)
    for number, filters in enumerate(FILTERS, start=1):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block_{number}_conv")(x)
        # Pooling first leaves a quarter of the pixels for BatchNorm, the slowest layer on a CPU.
        x = keras.layers.MaxPooling2D(name=f"block_{number}_pool")(x)
        x = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"block_{number}_bn")(x)
        x = keras.layers.ReLU(name=f"block_{number}_relu")(x)
    return keras.Model(inputs, x)
