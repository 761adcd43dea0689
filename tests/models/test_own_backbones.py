"""Models of the user as backbones: functional, nested and subclassed models, `.keras` files, backbones of KerasHub."""

import keras
import numpy as np
import pytest
from hub_backbones import OFFSET, SCALE, build

import kerastl
from kerastl.errors import RequestError
from kerastl.models import get_blocks, preset_findings, split_at_block
from kerastl.recipe import Backbone
from kerastl.training import unfreeze

NAMES = ["a", "b"]


def network(*, rescales=True, has_head=False):
    """Return a network with three stages, whose weights look trained."""
    keras.utils.set_random_seed(2)
    inputs = x = keras.Input((48, 48, 3))
    if rescales:
        x = keras.layers.Rescaling(1 / 255)(x)
    for filters in (8, 16, 32):
        x = keras.layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            activation="relu",
            bias_initializer="normal",
            name=f"conv_{filters}",
        )(x)
    if has_head:
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        x = keras.layers.Dense(5, activation="softmax", name="head")(keras.layers.Dropout(0.2)(x))
    return keras.Model(inputs, x, name="mine")


def pixels(height=48, width=48):
    return np.random.default_rng(1).uniform(0, 255, (2, height, width, 3)).astype(np.float32)


def features(classifier, images):
    return keras.Model(classifier.inputs[0], classifier.get_layer("pooled").output)(images)


class Subclassed(keras.Model):
    """A model without a graph, which behaves differently in training."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.rescaling = keras.layers.Rescaling(1 / 255)
        self.first = keras.layers.Conv2D(filters, 3, name="first")
        self.norm = keras.layers.BatchNormalization(name="norm")
        self.second = keras.layers.Conv2D(2 * filters, 3, name="second")

    def call(self, images, training=None):
        x = self.norm(self.first(self.rescaling(images)), training=training)
        return self.second(x if training else 2 * x)


def test_functional_model_is_copied_with_its_weights():
    model = network()
    classifier = kerastl.build_classifier(model, class_names=NAMES)
    expected = np.asarray(model(pixels())).mean(axis=(1, 2))
    np.testing.assert_allclose(features(classifier, pixels()), expected, rtol=1e-5, atol=1e-6)
    assert [block.name for block in get_blocks(classifier)] == ["P1", "P2", "P3"]
    classifier.get_layer("conv_8").bias.assign_add(np.ones(8))
    assert not np.array_equal(classifier.get_layer("conv_8").bias, model.get_layer("conv_8").bias)
    assert [layer.name for layer in model.layers][-1] == "conv_32"


def test_head_with_a_single_unit_belongs_to_no_block():
    classifier = kerastl.build_classifier(network(), class_names=NAMES, binary=True)
    assert get_blocks(classifier) == get_blocks(kerastl.build_classifier(network(), class_names=NAMES))
    trunk, tail = split_at_block(classifier, "P3")
    assert np.array_equal(tail(trunk(pixels())), classifier(pixels()))


def test_head_of_a_classifier_is_left_out_although_its_layers_have_the_names_of_our_head():
    model = network(has_head=True)
    classifier = kerastl.build_classifier(model, class_names=NAMES)
    expected = keras.Model(model.inputs[0], model.get_layer("pooled").output)(pixels())
    np.testing.assert_allclose(features(classifier, pixels()), expected, rtol=1e-5, atol=1e-6)
    assert classifier.output_shape == (None, 2)


def test_nested_models_are_expanded():
    inner, small_head = network(rescales=False), keras.layers.Dense(10)
    head = keras.Sequential([keras.layers.GlobalAveragePooling2D(), small_head])
    outer = keras.Sequential([keras.Input((48, 48, 3)), keras.layers.Rescaling(1 / 255), inner, head])
    classifier = kerastl.build_classifier(outer, class_names=NAMES)
    expected = np.asarray(inner(pixels() / 255)).mean(axis=(1, 2))
    np.testing.assert_allclose(features(classifier, pixels()), expected, rtol=1e-4, atol=1e-5)
    assert {"conv_8", "conv_32", "head"} <= {layer.name for layer in classifier.layers}


def test_classifiers_that_share_the_weights_of_a_subclassed_model_are_reported(capsys):
    model = Subclassed(4)
    first, second = (kerastl.build_classifier(model, class_names=NAMES, image_size_px=16) for _ in range(2))
    note = (
        f"shares the weights of {model.name}, because its config does not rebuild it. Training changes both"
    )
    assert capsys.readouterr().err.count(note) == 2
    before = features(second, pixels(16, 16))
    model.second.bias.assign([1.0] * 8)  # as the training of the first classifier does
    for classifier in (first, second):
        assert np.asarray(features(classifier, pixels(16, 16)) - before).min() > 0.9
    kerastl.build_classifier(network(), class_names=NAMES)
    assert "shares the weights" not in capsys.readouterr().err


@pytest.mark.slow
def test_an_unsupported_backbone_of_keras_hub_is_refused_with_those_that_are_supported():
    import keras_hub

    swin = keras_hub.models.SwinTransformerBackbone(
        image_shape=(32, 32, 3), embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2
    )
    with pytest.raises(
        RequestError, match=r"is 'SwinTransformerBackbone', which is not .* Use one of CLIPBackbone,"
    ):
        kerastl.build_classifier(swin, class_names=NAMES, image_size_px=32, scale=1 / 255, offset=0.0)


def test_subclassed_model_is_not_expanded_and_is_frozen_layer_by_layer():
    model = Subclassed(4)
    classifier = kerastl.build_classifier(model, class_names=NAMES, image_size_px=16)
    images = pixels(16, 16)
    model.norm.moving_mean.assign([1.0, 2, 3, 4])
    expected = np.asarray(model(images)).mean(axis=(1, 2))
    np.testing.assert_allclose(features(classifier, images), expected, rtol=1e-4, atol=1e-5)
    assert unfreeze(classifier, "all", batch_norm="trainable") == ["first", "norm", "second", "head"]
    assert unfreeze(classifier, {"from_block": "second"}) == ["second", "head"]
    assert [weight.path.split("/")[-2] for weight in classifier.trainable_weights] == ["second"] * 2 + [
        "head"
    ] * 2


@pytest.mark.parametrize("is_file", [False, True])
def test_trained_model_without_preprocessing_needs_a_scale(is_file, tmp_path):
    model = network(rescales=False)
    source = model
    if is_file:
        source = str(tmp_path / "mine.keras")
        model.save(source)
    with pytest.raises(RequestError, match="its pixel range is unknown"):
        kerastl.build_classifier(source, class_names=NAMES)
    classifier = kerastl.build_classifier(
        source, class_names=NAMES, scale=(1 / 255, 1 / 128, 1), offset=(0, -1, 2)
    )
    inputs = pixels() * np.float32([1 / 255, 1 / 128, 1]) + np.float32([0, -1, 2])
    expected = np.asarray(model(inputs)).mean(axis=(1, 2))
    np.testing.assert_allclose(features(classifier, pixels()), expected, rtol=1e-4, atol=1e-5)


class InAScript(Subclassed):
    """A class of a script, which a file names without a module."""

    __module__ = "__main__"

    def get_config(self):
        return {"filters": 2}


def on_images(*layers):
    return keras.Sequential([keras.Input((48, 48, 3)), *layers])


def normalization():
    return keras.layers.Normalization(mean=[0.0, 1, 2], variance=[1.0, 2, 3])


UNKNOWN, NOT_RGB, CODE = "its pixel range is unknown", "takes RGB images", "a file must not run code"


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (lambda: network(rescales=False), {}, UNKNOWN),
        (lambda: network(rescales=False, has_head=True), {}, UNKNOWN),
        (lambda: on_images(network(rescales=False)), {}, UNKNOWN),
        (lambda: on_images(keras.layers.ZeroPadding2D(), *network(rescales=False).layers[1:]), {}, UNKNOWN),
        (lambda: network(rescales=False), {"scale": 1.0}, None),
        (lambda: network(rescales=False), {"offset": (0.0, 1.0, 2.0)}, None),
        (network, {}, None),
        (lambda: on_images(network()), {}, None),
        (lambda: on_images(keras.Sequential([keras.layers.Rescaling(2)]), network(rescales=False)), {}, None),
        (lambda: on_images(normalization(), network(rescales=False)), {}, None),
        (lambda: on_images(keras.layers.Conv2D(2, 3)), {}, None),
        (lambda: keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Conv2D(2, 3)]), {}, NOT_RGB),
        (lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]), {}, NOT_RGB),
        (lambda: InAScript(2), {}, CODE),
    ],
)
def test_check_finds_what_a_run_would_find_in_a_file(model, options, reason, tmp_path):
    path, built = str(tmp_path / "mine.keras"), model()
    built(pixels()) if isinstance(built, Subclassed) else None
    built.save(path)
    messages = [message for _, message in preset_findings(Backbone(name=path, **options), None, None)]
    if reason is None:
        assert messages == []
        kerastl.build_classifier(path, class_names=NAMES, **options)
    else:
        assert len(messages) == 1
        assert reason in messages[0]
        with pytest.raises(RequestError, match=reason):
            kerastl.build_classifier(path, class_names=NAMES, **options)


class Halved(keras.layers.Layer):
    """Rescales pixels in code."""

    def call(self, images):
        return images / 510


def with_front(front):
    inputs = keras.Input((48, 48, 3))
    return keras.Model(inputs, network(rescales=False)(front(inputs)), name="mine")


def test_scale_and_offset_in_addition_to_a_rescaling_layer_are_reported(capsys):
    double = kerastl.build_classifier(network(), class_names=NAMES, scale=1 / 255, offset=0)
    assert (
        "mine rescales pixels itself. scale and offset are applied before its own rescaling"
        in capsys.readouterr().err
    )
    expected = np.asarray(network()(pixels() / 255)).mean(axis=(1, 2))
    np.testing.assert_allclose(features(double, pixels()), expected, rtol=1e-4, atol=1e-5)
    for model, options in (
        (network(), {}),
        (network(), {"scale": 1}),
        (network(rescales=False), {"scale": 1 / 255}),
    ):
        kerastl.build_classifier(model, class_names=NAMES, **options)
    assert capsys.readouterr().err == ""


def test_model_that_rescales_in_code_is_used_unchanged_with_the_scale_of_the_message():
    model = with_front(Halved())
    with pytest.raises(RequestError, match="or scale=1, offset=0 if it rescales pixels"):
        kerastl.build_classifier(model, class_names=NAMES)
    classifier = kerastl.build_classifier(model, class_names=NAMES, scale=1, offset=0)
    expected = np.asarray(model(pixels())).mean(axis=(1, 2))
    np.testing.assert_allclose(features(classifier, pixels()), expected, rtol=1e-4, atol=1e-5)


def test_lambda_layer_is_refused_with_a_replacement():
    model = with_front(keras.layers.Lambda(lambda image: image / 255, name="scaled"))
    with pytest.raises(RequestError, match=r"the Lambda layer 'scaled', .* such as keras\.layers\.Rescaling"):
        kerastl.build_classifier(model, class_names=NAMES, scale=1, offset=0)


@pytest.mark.parametrize("scale", [0, 0.0, -0.0, (1, 0, 1)])
def test_scale_of_zero_is_refused(scale):
    with pytest.raises(RequestError, match="scale: must not be 0, because all pixels would be equal"):
        kerastl.build_classifier(network(), class_names=NAMES, scale=scale)


def test_blocks_of_a_subclassed_model_are_refused_with_the_reason():
    classifier = kerastl.build_classifier(Subclassed(4), class_names=NAMES, image_size_px=16)
    with pytest.raises(RequestError, match=r"contains a subclassed model, .* can be frozen by name"):
        get_blocks(classifier)


def test_file_is_a_backbone_for_another_image_size(tmp_path):
    path = tmp_path / "mine.keras"
    network(has_head=True).save(path)
    classifier = kerastl.build_classifier(str(path), class_names=NAMES, image_size_px=(64, 32))
    assert classifier.input_shape == (None, 64, 32, 3)
    conv = network().get_layer("conv_8").get_weights()
    assert np.array_equal(classifier.get_layer("conv_8").get_weights()[1], conv[1])
    random = kerastl.build_classifier(str(path), class_names=NAMES, weights=None)
    assert not np.array_equal(random.get_layer("conv_8").get_weights()[0], conv[0])


def test_models_that_cannot_be_backbones_are_refused_with_the_reason(tmp_path):
    vector = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    two = keras.Model([first := keras.Input((48, 48, 3)), second := keras.Input((48, 48, 3))], first + second)
    gray = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Conv2D(3, 3)])
    code = keras.Sequential([keras.Input((48, 48, 3)), keras.layers.Lambda(lambda image: image / 2)])
    code.save(tmp_path / "code.keras")
    with_front(Halved()).save(tmp_path / "own.keras")
    (tmp_path / "text.keras").write_text("text")
    reasons = {
        "takes [None, 8], but a backbone takes RGB images": vector,
        "has 2 inputs and 1 output,": two,
        "takes [None, 48, 48, 1]": gray,
        "'keras.layers.Lambda', which is not an allowed class of Keras or KerasHub": str(
            tmp_path / "code.keras"
        ),
        "Halved', which is not an allowed class": str(tmp_path / "own.keras"),
        "cannot be read as a weights file": str(tmp_path / "text.keras"),
        "There is no file": str(tmp_path / "nothing.keras"),
    }
    for reason, model in reasons.items():
        with pytest.raises(RequestError) as error:
            kerastl.build_classifier(model, class_names=NAMES)
        assert reason in str(error.value)


def test_file_of_a_backbone_of_keras_hub_has_its_own_size(tmp_path):
    backbone = build("vit")
    backbone.save(tmp_path / "vit.keras")
    classifier = kerastl.build_classifier(
        str(tmp_path / "vit.keras"), class_names=NAMES, scale=SCALE, offset=OFFSET
    )
    assert classifier.input_shape == (None, 32, 32, 3)
    expected = np.asarray(backbone(pixels(32, 32) * np.float32(SCALE) + np.float32(OFFSET)))[:, 0]
    np.testing.assert_allclose(features(classifier, pixels(32, 32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_backbone_of_keras_hub_is_accepted_in_memory():
    import keras_hub

    converter = keras_hub.layers.ImageConverter(scale=SCALE, offset=OFFSET)
    for name in ("dinov2", "efficientnet_v2"):
        backbone = build(name)
        classifier = kerastl.build_classifier(
            backbone, class_names=NAMES, image_size_px=32, scale=SCALE, offset=OFFSET
        )
        inputs = converter(pixels(32, 32))
        outputs = np.asarray(backbone({"images": inputs} if name == "dinov2" else inputs))
        expected = outputs[:, 0] if name == "dinov2" else outputs.mean(axis=(1, 2))
        np.testing.assert_allclose(features(classifier, pixels(32, 32)), expected, rtol=1e-4, atol=1e-5)
        assert get_blocks(classifier)[-1].name in ("layers_1", "P2")
