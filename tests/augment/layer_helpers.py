"""Helpers for tests of masks, histograms and JPEG: layers with random numbers from known seeds."""

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from kerastl import registry
from kerastl.augment.stateless_random import StatelessGenerator

PHOTO = load_sample_image("flower.jpg")[140:260, 250:370]
"""A part of a photograph, 8-bit: `[120, 120, 3]`."""


def built(name, count, **options):
    """Return the layer of an operation with random numbers from `count` adjacent seeds."""
    module = registry.module("operation", name)
    layer = module.build_layer(module.Options(**options), dtype="float32", seed=1)
    seeds = np.stack([np.arange(count), np.full(count, 7)], axis=1).astype(np.int32)
    layer._random_generator = StatelessGenerator(seeds, 0)
    return layer


def changed(name, images, **options):
    layer = built(name, len(images), **options)
    params = layer.get_random_transformation_batch(len(images), images=tf.constant(images))
    return layer.augment_images(tf.constant(images), transformations=params).numpy()


def fully(name, images):
    """Return the changed copies, with nothing of the originals mixed in."""
    return built(name, len(images)).changed(tf.constant(images, tf.float32)).numpy()


def by_pillow(change, image):
    """Return Pillow's result: `[height, width, channels]` uint8 in and out."""
    converted = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(change(converted)).reshape(image.shape)


def mean_within(values, expected):
    values = np.asarray(values, np.float64)
    return abs(values.mean() - expected) < 5 * values.std() / np.sqrt(len(values))
