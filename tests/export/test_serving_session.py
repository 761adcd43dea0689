"""The session of `verify` computes what the model and TensorFlow's own loader compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerastl.export._probe import ServingSession
from tests.export.conftest import CLASS_NAMES, SIZE


@pytest.fixture(scope="module")
def session(export: Path) -> Any:
    with ServingSession(export, threads=1) as opened:
        yield opened


def softmax(logits: Any) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_images_get_the_predictions_of_the_keras_model(session: ServingSession, model: Any) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    outputs = session.run("pixels", {"images": images}, ("probabilities", "predicted"))
    wanted = softmax(model(images, training=False))
    assert set(outputs) == {"probabilities", "predicted"}
    np.testing.assert_allclose(outputs["probabilities"], wanted, atol=1e-5)
    assert [name.decode() for name in outputs["predicted"]] == [
        CLASS_NAMES[index] for index in wanted.argmax(axis=1)
    ]
    with pytest.raises(tf.errors.InvalidArgumentError, match="24 x 24 pixels"):
        session.run("pixels", {"images": images[:, 1:]})


def test_files_get_the_predictions_of_tensorflows_own_loader(
    session: ServingSession, loaded: Any, encoded: list[bytes]
) -> None:
    outputs = session.run("serving_default", {"image_bytes": encoded})
    by_loader = loaded.signatures["serving_default"](tf.constant(encoded))
    assert set(outputs) == set(by_loader)
    np.testing.assert_allclose(outputs["probabilities"], by_loader["probabilities"], atol=1e-6)
    assert [name.decode() for name in outputs["class_names"][7]] == list(CLASS_NAMES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="this is not an image"):
        session.run("serving_default", {"image_bytes": [encoded[0], b"no image"]})


def test_trailing_zero_bytes_of_a_file_reach_the_graph(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    module.call = tf.function(lambda strings: {"n": tf.strings.length(strings)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.call})
    with ServingSession(tmp_path) as opened:
        outputs = opened.run("serving_default", {"image_bytes": [b"ab\0\0", b"abc\0\0\0"]})
    assert outputs["n"].tolist() == [4, 6]
