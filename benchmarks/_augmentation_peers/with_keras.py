"""Keras's preprocessing layers in a parallel `map` over batches, float32."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from bursts import StreamFactory, serve
from keras import layers
from layers_in_a_map import make_layer_stream


def make_stream(images) -> StreamFactory:
    chain = [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(15 / 360),
        # A single factor keeps the aspect ratio.
        layers.RandomZoom(0.2),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomBrightness(0.2),
        layers.RandomContrast(0.2),
        # The saturation is multiplied by x / (1 - x), here 0.7 to 1.3.
        layers.RandomSaturation((0.7 / 1.7, 1.3 / 2.3)),
        # A factor of 1 rotates the hue by 180 degrees.
        layers.RandomHue(20 / 180),
        # The scale is a fraction of the area: up to a quarter of each side.
        layers.RandomErasing(factor=(1.0, 1.0), scale=(0.0, 0.0625), fill_value=127.5),
    ]
    return make_layer_stream(images, chain)


if __name__ == "__main__":
    serve(make_stream, packages=("keras", "tensorflow"), yields="float32")
