"""From RGB in [0, 255] to what each network was trained on, with built-in Keras layers only.

The rules are those of `keras.applications`' `preprocess_input` functions, and of the layers that
some of its networks have inside. They are made here once, so that a saved model needs no
instructions and no code of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.backbones.backbone import Pixels

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def apply_pixels(image: keras.KerasTensor, pixels: Pixels) -> keras.KerasTensor:
    """Put the pixel layers behind an input.

    Args:
        image: `[batch, height, width, 3]` float32, RGB in [0, 255].
        pixels: the rule.

    Returns:
        The same shape, float32, as the network wants it.
    """
    if pixels == "bgr_minus_mean":
        image = _reversed_channels(image)
    return _scaling(pixels)(image)


def _scaling(pixels: Pixels) -> keras.Layer:
    """Return the layer `pixels`. It stays float32 under every policy: bfloat16 has 8 bits, pixels more."""
    import keras

    settings: dict[str, Any] = {"name": "pixels", "dtype": "float32"}
    match pixels:
        case "minus_one_to_one":
            return keras.layers.Rescaling(1 / 127.5, offset=-1.0, **settings)
        case "minus_one_to_one_128":
            return keras.layers.Rescaling(1 / 128.0, offset=-1.0, **settings)
        case "zero_to_one":
            return keras.layers.Rescaling(1 / 255.0, **settings)
        case "bgr_minus_mean":
            return keras.layers.Rescaling(
                1.0, offset=[-mean for mean in CAFFE_MEAN_BGR], **settings
            )
        case "mean_and_std":
            return keras.layers.Normalization(
                mean=[255 * mean for mean in IMAGENET_MEAN],
                variance=[(255 * std) ** 2 for std in IMAGENET_STD],
                **settings,
            )


def _reversed_channels(image: keras.KerasTensor) -> keras.KerasTensor:
    """Return red, green, blue as blue, green, red.

    A Keras operation, not a layer: it has no weights that a training could move, and it is saved
    and loaded like any layer. Its name is chosen by hand, as an automatic one would differ from
    model to model.
    """
    import keras

    flip = keras.Model(image, keras.ops.flip(image, axis=-1)).operations[-1]
    return type(flip).from_config({**flip.get_config(), "name": "pixels_bgr"})(image)
