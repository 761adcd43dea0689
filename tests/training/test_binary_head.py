"""A head with a single unit: the same function, training and results as a head with one unit per class."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase

from kerastl import adaptation
from kerastl.errors import RequestError
from kerastl.export import export_saved_model
from kerastl.models import (
    InitialHead,
    build_backbone,
    build_model,
    check_classifier,
    copy_head_rows,
    head_rows,
    read_signature,
)
from kerastl.training import fit

NAMES = ("dark", "light")


def build(*, binary=True):
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
    model = build_model(backbone, class_names=NAMES, dropout=0.0, binary=binary, seed=3)
    if not binary:  # its difference of two rows is the single row
        kernel, bias = head_rows(build())
        model.get_layer("head").set_weights([kernel - kernel.mean(1, keepdims=True), bias])
    return model


def shares(model, images):
    return keras.ops.softmax(model(images, training=False)).numpy()


def test_training_with_half_of_the_learning_rate_equals_that_of_two_units(train):
    binary, two_units = build(), build(binary=False)
    np.testing.assert_allclose(shares(binary, train.images), shares(two_units, train.images), atol=1e-6)
    for model, rate in ((binary, 0.1), (two_units, 0.05)):  # each of two rows moves by half of the step
        phase = plain_phase("head", 2, optimizer="sgd", learning_rate=rate, class_weights={"dark": 2.0})
        fit(model, train, phases=[phase])
    np.testing.assert_allclose(shares(binary, train.images), shares(two_units, train.images), atol=1e-5)
    logits = binary(train.images).numpy()
    assert (logits[:, 0] == 0).all()
    assert binary.get_layer("head").units == 1


def test_a_plain_keras_file_keeps_the_logits_and_the_class_names(tmp_path, train):
    build().save(tmp_path / "binary.keras")
    restored = keras.saving.load_model(tmp_path / "binary.keras")
    np.testing.assert_array_equal(restored(train.images), build()(train.images))
    assert read_signature(restored)["class_names"] == NAMES
    assert check_classifier(restored, class_names=NAMES, is_probed=True) is restored


def test_rows_of_both_classes_are_carried_over_in_any_order_and_between_both_kinds_of_heads(tmp_path):
    generator = np.random.default_rng(0)
    model = build()
    kernel = generator.normal(size=(model.get_layer("head").kernel.shape[0], 3)).astype(np.float32)
    bias = np.arange(3, dtype=np.float32)
    report = copy_head_rows(model, NAMES, InitialHead(("light", "other", "dark"), kernel, bias, tmp_path))
    assert report.carried == NAMES
    head = model.get_layer("head")
    np.testing.assert_allclose(head.kernel[:, 0], kernel[:, 0] - kernel[:, 2], atol=1e-6)
    np.testing.assert_allclose(head.bias, [-2.0])
    other = build(binary=False)
    copy_head_rows(other, NAMES, InitialHead(NAMES, *head_rows(model), tmp_path))
    weights = other.get_layer("head").get_weights()
    np.testing.assert_allclose(weights[0][:, 1] - weights[0][:, 0], head.kernel[:, 0], atol=1e-6)
    before = model.get_layer("head").get_weights()
    report = copy_head_rows(model, NAMES, InitialHead(("light", "other"), kernel[:, :2], bias[:2], tmp_path))
    assert report.outcome == "replaced"
    np.testing.assert_array_equal(model.get_layer("head").get_weights()[0], before[0])


def test_other_numbers_of_classes_are_refused():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32)
    with pytest.raises(RequestError, match=r"for two classes, but there are 3: 'a', 'b', 'c'"):
        build_model(backbone, class_names="abc", binary=True)


@pytest.mark.parametrize("frozen", [False, True])
def test_features_and_logits_of_an_adaptation_method_are_those_of_the_model(train, frozen):
    model, images = build(), train.images[:4]
    features, logits = adaptation.features_and_logits(model, images, training=False)
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(features.numpy() @ kernel + bias, logits[:, 1:], atol=1e-5)
    if frozen:
        from kerastl.adaptation.features import logits_of_frozen_head

        np.testing.assert_allclose(logits_of_frozen_head(model, images, training=False), logits, atol=1e-5)


@pytest.mark.slow
def test_the_export_has_both_probabilities_and_a_heatmap_for_either_class(train, tmp_path):
    model = build()
    model.get_layer("head").kernel.assign(-10 * tf.abs(model.get_layer("head").kernel))
    version = export_saved_model(model, tmp_path / "served", class_names=NAMES, image_size_px=32)
    served = tf.saved_model.load(str(version))
    files = tf.stack([tf.io.encode_png(tf.cast(image, tf.uint8)) for image in train.images[:3]])
    outputs = served.signatures["serving_default"](files)
    images = np.floor(train.images[:3])
    expected = 1 / (1 + np.exp(-model(images).numpy()[:, 1]))
    np.testing.assert_allclose(outputs["probabilities"], np.stack([1 - expected, expected], 1), atol=1e-6)
    explained = served.signatures["explain"](files)
    assert set(explained["predicted"].numpy()) == {b"dark"}
    assert (explained["heatmap"].numpy().max(axis=(1, 2)) == 1).all()
