"""Weights: selection of files, refusals, and equality with the published network."""

import shutil

import keras
import numpy as np
import pytest
from model_files import save_without_config, small_cnn_from

from kerastl.errors import RequestError
from kerastl.models import (
    build_backbone,
    load_backbone,
    locate_weights,
    published_weights,
    read_imagenet_head,
)

V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_{}_no_top.h5"


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def sample_image(size):
    return np.random.default_rng(3).uniform(0, 255, (2, size, size, 3)).astype("float32")


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.slow
def test_imagenet_weights_give_the_outputs_of_keras(keras_home):
    loaded = load_backbone("mobilenet_v2", alpha=0.35)
    path = keras_home / "models" / V2.format(0.35, 224)
    assert loaded.weights_path == path
    assert loaded.notes == ()
    network = keras.applications.MobileNetV2(
        include_top=False, alpha=0.35, weights=str(path), input_shape=(224, 224, 3)
    )
    images = sample_image(224)
    expected = predict(network, keras.applications.mobilenet_v2.preprocess_input(images.copy()))
    assert np.abs(predict(loaded.model, images) - expected).max() < 1e-5 * np.abs(expected).max()


def test_weights_of_another_size_are_used_with_a_note(keras_home):
    located = locate_weights("mobilenet_v2", alpha=0.35, image_size_px=96)
    assert located.path.name == V2.format(0.35, 224)
    assert "224 px" in located.notes[0]
    assert "the images have 96 x 96 px" in located.notes[0]


def test_the_exact_size_is_preferred_and_then_the_nearest_cached_one(empty_home):
    for size in (96, 160, 224):
        (empty_home / V2.format(1.0, size)).touch()
    for requested, expected in ((96, 96), (100, 96), (128, 160), (150, 160), (500, 224), (224, 224)):
        assert locate_weights("mobilenet_v2", image_size_px=requested).path.name == V2.format(1.0, expected)


def test_missing_weights_are_reported_with_alternatives(empty_home):
    with pytest.raises(RequestError) as error:
        build_backbone("mobilenet_v2", alpha=0.5, image_size_px=128)
    text = str(error.value)
    assert str(empty_home / V2.format(0.5, 128)) in text
    assert "kerastl weights fetch mobilenet_v2 --image-size-px 128 --option alpha=0.5" in text
    assert "weights=None" in text
    assert locate_weights("mobilenet_v2", alpha=0.5) is None


def test_options_without_published_weights_are_refused_with_the_published_ones(empty_home):
    with pytest.raises(RequestError, match=r"alpha=0\.35; alpha=0\.5"):
        published_weights("mobilenet_v2", alpha=0.4)
    with pytest.raises(RequestError, match="No weights are published for small_cnn"):
        published_weights("small_cnn")


def test_weights_of_another_architecture_are_refused_with_layer_and_shape(keras_home):
    other = keras_home / "models" / "mobilenet_2_5_128_tf_no_top.h5"
    with pytest.raises(RequestError) as error:
        build_backbone("small_cnn", image_size_px=32, weights=other)
    assert "layer block_1_conv: expected shape (3, 3, 3, 32), found (3, 3, 3, 8) (conv1)" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".keras", ".weights.h5", ".h5"])
def test_saved_weights_round_trip_and_do_not_fit_another_width(tmp_path, kind):
    model = build_backbone("mobilenet", alpha=0.25, image_size_px=32, weights="none", seed=1)
    path = tmp_path / f"saved{kind}"
    model.save_weights(path) if kind == ".weights.h5" else model.save(path)
    again = build_backbone("mobilenet", alpha=0.25, image_size_px=32, weights=path, seed=2)
    assert np.array_equal(predict(again, sample_image(32)), predict(model, sample_image(32)))
    with pytest.raises(RequestError, match=r"layer conv1: expected shape \(3, 3, 3, 16\)"):
        build_backbone("mobilenet", alpha=0.5, image_size_px=32, weights=path)


def test_backbone_loads_from_a_run_folder(tmp_path):
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    classifier = keras.Model(backbone.input, keras.layers.Dense(3, name="head")(pooled))
    classifier.save(tmp_path / "model.keras")
    again = build_backbone("small_cnn", weights=tmp_path, image_size_px=48)
    assert np.array_equal(predict(again, sample_image(48)), predict_at(backbone, 48))


def predict_at(model, size):
    other = build_backbone("small_cnn", weights="none", image_size_px=size)
    other.set_weights(model.get_weights())
    return predict(other, sample_image(size))


@pytest.mark.slow
def test_nested_backbone_is_loaded(tmp_path):
    nested = keras.applications.MobileNet(
        include_top=False, alpha=0.25, weights=None, input_shape=(32, 32, 3)
    )
    inputs = keras.Input((32, 32, 3))
    pixels = keras.layers.Rescaling(1 / 127.5, offset=-1)
    keras.Model(inputs, nested(pixels(inputs))).save(tmp_path / "own.keras")
    model = build_backbone("mobilenet", alpha=0.25, image_size_px=32, weights=tmp_path / "own.keras")
    expected = predict(nested, sample_image(32) / 127.5 - 1)
    assert np.allclose(predict(model, sample_image(32)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04broken"])
def test_broken_file_is_reported(tmp_path, kind, content):
    path = tmp_path / f"broken{kind}"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="broken"):
        small_cnn_from(path)


def test_missing_file_and_unknown_type_are_reported(tmp_path):
    with pytest.raises(RequestError, match="There are no weights at"):
        build_backbone("small_cnn", weights=tmp_path / "nothing.h5")
    (tmp_path / "x.pt").touch()
    with pytest.raises(RequestError, match="not a weights file"):
        build_backbone("small_cnn", weights=tmp_path / "x.pt")


@pytest.mark.slow
def test_published_head_gives_the_logits_of_the_whole_network(keras_home):
    head = read_imagenet_head("mobilenet", alpha=0.25, image_size_px=128)
    body = build_backbone("mobilenet", alpha=0.25, image_size_px=128)
    images = sample_image(128)
    logits = predict(body, images).mean(axis=(1, 2)) @ head.kernel + head.bias
    whole = keras.applications.MobileNet(
        alpha=0.25, input_shape=(128, 128, 3), classifier_activation=None,
        weights=str(keras_home / "models" / "mobilenet_2_5_128_tf.h5"),
    )  # fmt: skip
    expected = predict(whole, keras.applications.mobilenet.preprocess_input(images.copy()))
    assert np.allclose(logits, expected, atol=1e-4)
    assert head.class_names[0] == "tench"
    assert head.wordnet_ids[0] == "n01440764"


def test_head_is_read_only_with_its_backbone(assets, empty_home):
    files = assets / "keras" / "models"
    for file in ("imagenet_class_index.json", "mobilenet_2_5_128_tf.h5"):
        shutil.copy(files / file, empty_home)
    assert read_imagenet_head("mobilenet", alpha=0.25, image_size_px=128) is None
    shutil.copy(files / "mobilenet_2_5_128_tf_no_top.h5", empty_home)
    assert read_imagenet_head("mobilenet", alpha=0.25, image_size_px=128) is not None
    assert read_imagenet_head("vgg16") is None


def test_random_weights_depend_on_the_seed_only():
    first, same, other = (
        build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.get_weights()[0], same.get_weights()[0])
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])
    kernels = [weights for weights in first.get_weights() if weights.ndim == 4]
    assert len({float(kernel.flat[0]) for kernel in kernels}) == len(kernels)


@pytest.mark.slow
def test_efficientnet_with_imagenet_weights_equals_keras(tmp_path, monkeypatch):
    from keras.src.utils import file_utils

    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 64, 3))
    normalization = next(layer for layer in network.layers if type(layer).__name__ == "Normalization")
    # The published file: github.com/tensorflow/tensorflow/issues/49930.
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
    path = tmp_path / "efficientnetb0_notop.h5"
    save_without_config(network, path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(path))
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(64, 64, 3))
    ours = build_backbone("efficientnet_b0", image_size_px=64, weights=path)
    expected = predict(theirs, sample_image(64))
    assert np.abs(predict(ours, sample_image(64)) - expected).max() < 1e-5 * np.abs(expected).max()
    normalization.set_weights([np.zeros(3), np.ones(3), np.array(0)])
    save_without_config(network, path)
    with pytest.raises(RequestError, match="trained with different preprocessing"):
        build_backbone("efficientnet_b0", image_size_px=64, weights=path)
