"""Helpers for tests of color, levels and sharpness: images, and layers of single operations."""

import itertools

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from kerastl import registry
from kerastl.augment import build_policy

NEAR = 0.01
"""Pixel levels."""


def operation(name):
    return registry.module("operation", name)


def layer_of(name, **options):
    module = operation(name)
    return module.build_layer(module.Options(**options), dtype="float32", seed=1)


def layer_and_params(name, strength, images):
    """Return the layer of an operation and its sampled parameters for a batch."""
    module = operation(name)
    layer = module.build_layer(module.at_strength(strength), dtype="float32", seed=1)
    return layer, layer.get_random_transformation_batch(len(images), images=tf.constant(images))


def policy_of(name, options, size=16, *, channels=3, exact=True):
    """Return a policy of one operation. Compiling takes seconds, and the contract compares both."""
    return build_policy([(name, options)], image_size_px=size, channels=channels, exact=exact)


def changed(name, images, **options):
    policy = policy_of(name, options, images.shape[1], channels=images.shape[-1])
    return policy(images, seeds(len(images))).numpy()


def seeds(count):
    return np.random.default_rng(3).integers(-(2**31), 2**31, (count, 2)).astype(np.int32)


def per_image(values):
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


def noise(count=8, size=16, channels=3):
    generator = np.random.default_rng(0)
    return generator.uniform(0, 255, (count, size, size, channels)).astype(np.float32)


def cuts_of_a_photo():
    """Four 48 px cuts from a photograph, whole levels as float32."""
    photo = np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((160, 107)))
    corners = itertools.product((10, 58), (20, 90))
    return np.stack([photo[y : y + 48, x : x + 48] for y, x in corners]).astype(np.float32)


def as_pillow(image):
    return Image.fromarray(image.astype(np.uint8))
