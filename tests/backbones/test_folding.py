"""A folded network gives what the plain one gives, on statistics that its own activations have."""

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from kerastl.models import build_backbone, fold, foldable, for_inference

QUICK = [("mobilenet_v2", 32), ("small_cnn", 32)]
SLOW = [
    ("mobilenet", 32), ("mobilenet_v3_small", 32), ("efficientnet_b0", 32), ("efficientnet_v2_b0", 32),
    ("resnet50", 32), ("resnet50_v2", 32), ("densenet121", 32), ("inception_v3", 75),
    ("inception_resnet_v2", 75), ("xception", 71), ("nasnet_mobile", 32), ("vgg16", 32), ("convnext_tiny", 32),
]  # fmt: skip
FOLDED = {
    "small_cnn": (0, 3),
    "resnet50_v2": (32, 49),
    "densenet121": (59, 121),
    "nasnet_mobile": (188, 192),
    "vgg16": (0, 0),
    "convnext_tiny": (0, 0),
}


def crops(size, count=24):
    """Cut squares out of scikit-learn's two sample photographs."""
    generator, found = np.random.default_rng(0), []
    for number in range(count):
        photo = load_sample_images().images[number % 2]
        side = int(generator.integers(size, 400))
        top, left = (int(generator.integers(0, whole - side + 1)) for whole in photo.shape[:2])
        cut = Image.fromarray(photo[top : top + side, left : left + side])
        found.append(np.asarray(cut.resize((size, size))))
    return np.stack(found).astype("float32")


def calibrated(name, size):
    """Random weights, whose BatchNorms then get the statistics of photographs: wild ones would drown every digit."""
    model = build_backbone(name, weights="none", image_size_px=size, seed=3)
    images, generator = crops(size), np.random.default_rng(0)
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    for norm in norms:
        for variable, low, high in ((norm.gamma, 0.5, 1.5), (norm.beta, -0.5, 0.5)):
            if variable is not None:
                variable.assign(generator.uniform(low, high, variable.shape))
        norm.momentum = 0.0
    model(images, training=True)
    return model, images, norms


def difference(model, images, *, training=False):
    """Return the length of the difference over the length of the plain answer."""
    plain, folded = (
        keras.ops.convert_to_numpy(one)
        for one in (model(images, training=False), fold(model)(images, training=training))
    )
    assert np.abs(plain).max() > 1e-3
    return np.linalg.norm(folded - plain) / np.linalg.norm(plain)


@pytest.mark.parametrize(
    ("name", "size"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_a_folded_network_gives_what_the_plain_one_gives(name, size):
    model, images, norms = calibrated(name, size)
    folded = fold(model)
    found, of = FOLDED.get(name, (len(norms), len(norms)))
    assert (len(foldable(model)), len(norms)) == (found, of)
    left = [one for one in folded.layers if isinstance(one, keras.layers.BatchNormalization)]
    assert len(left) == of - found
    # Random weights make images nearly alike, and each BatchNorm then enlarges the last digits: how many, hangs on
    # the CPU. A BatchNorm without its epsilon would be off by more than a hundredth.
    for training in (False, True):
        assert difference(model, images, training=training) < 5e-4
    assert not folded.trainable_variables


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("mobilenet", {"alpha": 0.25}, 128),
        ("mobilenet_v2", {"alpha": 0.35}, 224),
        ("mobilenet_v2", {"alpha": 1.0}, 224),
    ],
)
def test_imagenet_weights_lose_less_than_a_hundred_thousandth(keras_home, name, options, size):
    model = build_backbone(name, weights="imagenet", image_size_px=size, **options)
    assert difference(model, crops(size, 8)) < 1e-5


def test_what_somebody_else_reads_or_an_activation_follows_stays():
    image = keras.Input((8, 8, 3))
    read_twice = keras.layers.Conv2D(4, 3, padding="same", name="read_twice")(image)
    first = keras.layers.BatchNormalization(name="first")(read_twice)
    active = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="active")(first)
    second = keras.layers.BatchNormalization(name="second")(active)
    depthwise = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=True, name="depthwise")(second)
    third = keras.layers.BatchNormalization(name="third", scale=False)(depthwise)
    dense = keras.layers.Dense(5, name="dense")(third)
    fourth = keras.layers.BatchNormalization(name="fourth", center=False)(dense)
    branch = keras.layers.GlobalAveragePooling2D()(read_twice)
    model = keras.Model(image, [fourth, branch])
    assert foldable(model) == {"third": "depthwise", "fourth": "dense"}
    generator = np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path else -1.0
        weight.assign(generator.uniform(low, 1.5, weight.shape))
    images = generator.normal(size=(3, 8, 8, 3)).astype("float32")
    for one, other in zip(model(images, training=False), fold(model)(images), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_changing_the_plain_network_later_leaves_the_folded_one_alone():
    model, images, _ = calibrated("small_cnn", 32)
    folded = fold(model)
    before = keras.ops.convert_to_numpy(folded(images))
    for weight in model.weights:
        weight.assign(weight * 0.5)
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(folded(images)))


class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


class OwnOptimizer(keras.optimizers.SGD):
    """One that Keras could not copy: it knows no such name."""


def read_by_two_norms():
    """One convolution that is called twice, with a BatchNorm behind its first answer."""
    image = keras.Input((8, 8, 3))
    convolution = keras.layers.Conv2D(3, 3, padding="same")
    first = keras.layers.BatchNormalization()(convolution(image))
    return keras.Model(image, convolution(first))


def nested():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, build_backbone("small_cnn", weights="none", image_size_px=16)(image))


def with_own_layer():
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3)(image))
    return keras.Model(image, Own()(norm))


@pytest.mark.parametrize(
    "build", [read_by_two_norms, nested, with_own_layer, lambda: keras.Sequential([keras.Input((4,))])]
)
def test_what_could_change_by_folding_runs_as_it_stands(build):
    model = build()
    assert for_inference(model) is model


def test_what_can_be_folded_is_for_inference():
    model, images, norms = calibrated("mobilenet_v2", 32)
    model.compile(OwnOptimizer(), loss=None)
    folded = for_inference(model)
    assert len(folded.layers) == len(model.layers) - len(norms)
    np.testing.assert_array_equal(folded(images), fold(model)(images))
