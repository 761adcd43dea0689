"""Different architectures give the same predictions in ONNX Runtime and LiteRT as in Keras."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import registry
from kerastl.evaluation import Trained
from kerastl.models import build_backbone, build_model
from tests.export.converted_formats import need, write_format

NAMES = ("a", "b", "c")
SIZE = 64


def lively(name: str, images: np.ndarray) -> keras.Model:
    """Random weights, BatchNorm fitted to the images, a head that tells them apart."""
    backbone = build_backbone(name, weights="none", image_size_px=SIZE, seed=1)
    model = build_model(backbone, class_names=NAMES)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    pooled = keras.Model(model.input, model.get_layer("pooled").output)(images).numpy()
    kernel = np.random.default_rng(0).normal(size=(pooled.shape[1], 3))
    kernel /= (pooled @ kernel).std(axis=0)
    model.get_layer("head").set_weights([kernel, -(pooled @ kernel).mean(axis=0)])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("efficientnet_b0", "onnx"),
        ("convnext_tiny", "onnx"),
        ("mobilenet_v3_small", "litert"),
        ("densenet121", "litert"),
    ],
)
def test_a_family_gives_the_same_predictions_in_another_runtime(
    name: str, format_name: str, photos: Path, tmp_path: Path
) -> None:
    """Constants in addition to weights; groups, GELU and layer scale; hard swish; BatchNorm layers that cannot be folded."""
    need(format_name)
    files = sorted(photos.rglob("*.jpg"))[:8]
    assert len(files) == 8
    decoded = [tf.image.decode_jpeg(file.read_bytes(), channels=3) for file in files]
    images = tf.stack([tf.image.resize(image, (SIZE, SIZE)) for image in decoded]).numpy()
    model = lively(name, images)
    expected = tf.nn.softmax(model(images, training=False)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1
    module = registry.module("format", format_name)
    trained = Trained(NAMES, SIZE, None, 10**8, model)
    names, predict = module.load(write_format(trained, tmp_path, format_name))
    assert names == list(NAMES)
    assert predict(images) == pytest.approx(expected, abs=1e-4)
