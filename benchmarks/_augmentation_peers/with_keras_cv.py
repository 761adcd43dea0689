"""keras-cv 0.9.0 unchanged: its layers and its random numbers in a parallel `map` over batches, float32."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from bursts import StreamFactory, serve
from keras_cv import layers
from layers_in_a_map import make_layer_stream

PIXELS = (0, 255)


def make_stream(images) -> StreamFactory:
    chain = [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(15 / 360, fill_mode="reflect"),
        layers.RandomZoom(0.2, fill_mode="reflect"),
        layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
        layers.RandomBrightness(0.2, value_range=PIXELS),
        layers.RandomContrast(value_range=PIXELS, factor=0.2),
        # The saturation is multiplied by x / (1 - x), here 0.7 to 1.3.
        layers.RandomSaturation((0.7 / 1.7, 1.3 / 2.3)),
        layers.RandomHue(20 / 180, value_range=PIXELS),
        layers.RandomCutout(0.25, 0.25, fill_value=127.5),
    ]
    return make_layer_stream(images, chain)


if __name__ == "__main__":
    serve(make_stream, packages=("keras-cv", "keras", "tensorflow"), yields="float32")
    sys.exit(0)
