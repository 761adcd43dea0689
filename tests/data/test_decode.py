"""Resizing, and equal results in eager mode, in tf.data and in a SavedModel."""

import io

import numpy as np
import pytest
import tensorflow as tf
from make_images import KINDS, encoded, noise, png_of_any_size, smooth, with_orientation
from PIL import Image

from kerastl.data import load_image


def test_resizing_matches_pillow_bilinear_with_antialiasing():
    content = encoded(smooth(120, 200))
    expected = Image.open(io.BytesIO(content)).resize((48, 48), Image.Resampling.BILINEAR)
    image = load_image(tf.constant(content), image_size_px=48).numpy()
    assert image.dtype == np.float32
    assert np.abs(image - np.asarray(expected, np.float32)).max() <= 1.5


def test_shrinking_a_fine_checkerboard_gives_uniform_gray():
    board = np.indices((128, 128)).sum(0) % 2 * np.uint8(255)
    image = load_image(tf.constant(encoded(board.astype(np.uint8))), image_size_px=16).numpy()
    assert np.abs(image[2:-2, 2:-2] - 127.5).max() < 8


def test_white_stays_within_0_to_255():
    content = encoded(np.full((333, 517, 3), 255, np.uint8))
    image = load_image(tf.constant(content), image_size_px=96).numpy()
    assert image.max() <= 255
    assert image.min() > 254.99


OPTIONS = {"image_size_px": 24, "window": (100, 3000), "max_pixels": 1_000_000}


class Decoder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def __call__(self, content):
        return load_image(content, **OPTIONS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    tf.saved_model.save(Decoder(), str(folder))
    return tf.saved_model.load(str(folder))


def samples() -> list[bytes]:
    levels = np.arange(2048, dtype=np.uint16).reshape(32, 64)
    rotated = with_orientation(encoded(smooth(), "JPEG"), 6)
    alpha = encoded(noise(channels=4), "PNG")
    return [encoded(noise(), kind) for kind in KINDS] + [encoded(levels), rotated, alpha]


def test_eager_tf_data_and_saved_model_decode_equally(saved):
    contents = samples()
    eager = [load_image(tf.constant(content), **OPTIONS).numpy() for content in contents]
    dataset = tf.data.Dataset.from_tensor_slices(contents)
    mapped = list(dataset.map(lambda content: load_image(content, **OPTIONS), 2))
    for content, here, there in zip(contents, eager, mapped, strict=True):
        np.testing.assert_array_equal(here, there.numpy())
        np.testing.assert_array_equal(here, saved(tf.constant(content)).numpy())


def test_tf_data_and_saved_model_reject_huge_images(saved):
    content = png_of_any_size(12_000, 12_000, whole=False)
    dataset = tf.data.Dataset.from_tensors(content).map(lambda content: load_image(content, **OPTIONS))
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000"):
        list(dataset)
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000"):
        saved(tf.constant(content))


def test_decoder_has_one_assertion_and_no_other_stateful_op():
    """With op determinism, tf.data calls functions with other stateful operations sequentially."""
    from kerastl.data.decode import FULL_WINDOW, _decoder

    graph = _decoder(FULL_WINDOW, 1000).get_concrete_function().graph.as_graph_def()
    inner = [node.op for function in graph.library.function for node in function.node_def]
    assert {"StatelessWhile", "StatelessIf", "StatelessCase", "DecodePng"} <= set(inner)
    assert not {"Assert", "If", "Case", "While", "StatefulPartitionedCall"} & set(inner)
    assert [node.op for node in graph.node].count("Assert") == 1
