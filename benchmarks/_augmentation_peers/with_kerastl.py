"""kerastl, as in a run: deterministic operations, ordered batches, one seed per example.

`exact` runs each layer separately, with the random numbers of kerastl. `compiled` is the default of a recipe.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from bursts import BATCH_SIZE, StreamFactory, serve

from kerastl.augment import build_policy
from kerastl.data import seeds_for

OPERATIONS = [
    {"name": "random_flip"},
    {"name": "random_rotation", "max_deg": 15},
    {"name": "random_zoom", "max_fraction": 0.2},
    {"name": "random_translation", "max_fraction": 0.1},
    {"name": "random_brightness", "max_fraction": 0.2},
    {"name": "random_contrast", "max_fraction": 0.2},
    {"name": "random_saturation", "max_fraction": 0.3},
    {"name": "random_hue", "max_deg": 20},
    {"name": "random_cutout", "max_fraction": 0.25},
]


def make_stream(images) -> StreamFactory:
    exact = sys.argv[2] == "exact"
    policy = build_policy(OPERATIONS, image_size_px=images.shape[1], exact=exact)
    rows = tf.range(BATCH_SIZE, dtype=tf.int64)

    def augment(number: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        seeds = seeds_for(1, number * 0, number * BATCH_SIZE + rows)
        return policy(tf.cast(batch, tf.float32), seeds)

    batches = tf.data.Dataset.from_tensor_slices(images).repeat().batch(BATCH_SIZE, True)
    batches = batches.enumerate().map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE).__iter__


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()
    serve(make_stream, packages=("kerastl", "keras-cv", "keras", "tensorflow"), yields="float32")
