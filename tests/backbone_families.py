"""The smallest member of each architecture of keras.applications, with random weights that behave like trained ones."""

from functools import lru_cache
from typing import NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from kerastl.models import build_backbone


class Member(NamedTuple):
    """A backbone of a family.

    Args:
        name: Name of the backbone.
        image_size_px: A size close to the smallest allowed one.
        folded: Number of BatchNorm layers that can be folded, and their total number. None: all can be folded.
    """

    name: str
    image_size_px: int = 32
    folded: tuple[int, int] | None = None


SMALLEST = {
    "small_cnn": Member("small_cnn", folded=(0, 3)),
    "mobilenet": Member("mobilenet"),
    "mobilenet_v2": Member("mobilenet_v2"),
    "mobilenet_v3": Member("mobilenet_v3_small"),
    "vgg": Member("vgg16", folded=(0, 0)),
    "resnet": Member("resnet50"),
    "resnet_v2": Member("resnet50_v2", folded=(32, 49)),
    "xception": Member("xception", 71),
    "inception_v3": Member("inception_v3", 75),
    "inception_resnet_v2": Member("inception_resnet_v2", 75),
    "densenet": Member("densenet121", folded=(59, 121)),
    "nasnet": Member("nasnet_mobile", folded=(188, 192)),
    "efficientnet": Member("efficientnet_b0"),
    "efficientnet_v2": Member("efficientnet_v2_b0"),
    "convnext": Member("convnext_tiny", folded=(0, 0)),
}


def by_family(*quick):
    """Return the members as parameters of a test, each in the xdist group of its family; all except `quick` are slow."""
    return [
        pytest.param(
            member, id=family,
            marks=[pytest.mark.xdist_group(family), *([] if family in quick else [pytest.mark.slow])],
        )
        for family, member in SMALLEST.items()
    ]  # fmt: skip


def crops(size, count=24):
    """Return random square crops of scikit-learn's two sample photographs."""
    generator, cuts = np.random.default_rng(0), []
    for number in range(count):
        photo = load_sample_images().images[number % 2]
        side = int(generator.integers(size, 400))
        top, left = (int(generator.integers(0, whole - side + 1)) for whole in photo.shape[:2])
        cut = Image.fromarray(photo[top : top + side, left : left + side])
        cuts.append(np.asarray(cut.resize((size, size))))
    return np.stack(cuts).astype("float32")


def calibrated(name, size=64):
    """Return a backbone with random weights and BatchNorm statistics of photographs, the photographs, and the BatchNorm layers.

    With initial statistics, rounding errors would hide all differences. In smaller images, a deep network with random
    weights sees so little that its BatchNorms enlarge rounding. The last backbone is built once; each call resets it.

    Args:
        name: Name of the backbone.
        size: Image size in pixels; at least the smallest allowed one is used.
    """
    smallest = {member.name: member.image_size_px for member in SMALLEST.values()}
    model, images, norms, weights = _build_calibrated(name, max(size, smallest[name]))
    model.set_weights(weights)
    model.trainable = True
    return model, images, norms


@lru_cache(maxsize=1)
def _build_calibrated(name, size):
    keras.utils.clear_session()
    model = build_backbone(name, weights="none", image_size_px=size, seed=3)
    images, generator = crops(size), np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        for variable, low, high in ((norm.gamma, 0.5, 1.5), (norm.beta, -0.5, 0.5)):
            if variable is not None:
                variable.assign(generator.uniform(low, high, variable.shape))
        norm.momentum = 0.0
    model(images, training=True)
    return model, images, norms, model.get_weights()


def standardize_logits(model, images):
    """Set the head so that the logits of these images have mean 0 and standard deviation 1, because constant predictions would hide errors."""
    features = keras.Model(model.input, model.get_layer("head").input)(images, training=False)
    head = model.get_layer("head")
    kernel = np.random.default_rng(4).normal(size=(features.shape[-1], head.units))
    logits = keras.ops.convert_to_numpy(features) @ kernel
    spread = logits.std(axis=0)
    head.set_weights([kernel / spread, -logits.mean(axis=0) / spread])


def folding_error(plain, folded, images, *, training=False):
    """Return the length of the difference between the output of a folded network and the plain output, relative to the latter.

    Args:
        plain: `[n, height, width, channels]`, the output of the network that was folded for the same images.
        folded: The folded network.
        images: `[n, size, size, 3]`.
        training: Whether the folded network is called in training mode.
    """
    plain, output = (
        keras.ops.convert_to_numpy(values) for values in (plain, folded(images, training=training))
    )
    assert np.abs(plain).max() > 1e-3
    return np.linalg.norm(output - plain) / np.linalg.norm(plain)
