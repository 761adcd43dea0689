"""What a served model answers: two endpoints, written by hand on the model without augmentation.

`serving_default` takes whole picture files, `pixels` takes decoded pictures. Both return

- `probabilities`: `[n, classes]` float32, rows that sum to 1;
- `predicted`: `[n]` string, the name of the class with the largest probability;
- `class_names`: `[n, classes]` string, the same row n times. One row would do, but the row format of TF
  Serving's REST interface asks every output for the batch dimension of the others and refuses the
  whole answer otherwise. No output's name ends in `_bytes`: TF Serving would send it as base64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from kerastl.data.decode import load_image

DECODED = "decoded_pixels"
"""Name of the node in the served graph that holds the pictures as the network gets them."""

Answers = dict[str, tf.Tensor]
Endpoint = Callable[[tf.Tensor], Answers]


def answers_from_logits(logits: tf.Tensor, class_names: Sequence[str]) -> Answers:
    """Return the three outputs for `[n, classes]` logits of any float type."""
    # Half floats would lose digits here, and TF Serving's REST interface cannot send them.
    probabilities = tf.cast(tf.nn.softmax(tf.cast(logits, tf.float64)), tf.float32)
    probabilities = tf.ensure_shape(probabilities, [None, len(class_names)])
    names = tf.constant(list(class_names), tf.string)
    return {
        "probabilities": probabilities,
        "predicted": tf.gather(names, tf.argmax(probabilities, axis=-1)),
        "class_names": tf.tile(names[None], [tf.shape(probabilities)[0], 1]),
    }


def pixels_endpoint(
    model: keras.Model, *, class_names: Sequence[str], image_size_px: int
) -> Endpoint:
    """Return the endpoint for pictures: `[n, size, size, 3]` float32, RGB, in [0, 255].

    Another size is refused with a message that names the right one. TF Serving does not compare what
    it is sent with the signature, so the check stands in the graph.
    """
    size = image_size_px
    message = f"this model takes RGB pictures of {size} x {size} pixels, [n, {size}, {size}, 3]"

    def answer(images: tf.Tensor) -> Answers:
        check = tf.debugging.assert_equal(tf.shape(images)[1:], [size, size, 3], message=message)
        with tf.control_dependencies([check] if check is not None else []):
            images = tf.ensure_shape(tf.identity(images), [None, size, size, 3])
        return answers_from_logits(model(images, training=False), class_names)

    return answer


def bytes_endpoint(
    model: keras.Model,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    window: tuple[float, float] | None,
    max_pixels: int,
) -> Endpoint:
    """Return the endpoint for files: `[n]` string, each a whole PNG, JPEG, GIF, BMP or WebP.

    Kinds may be mixed in a batch. One picture that cannot be decoded fails its whole batch, with the
    reason.
    """

    def load(encoded: tf.Tensor) -> tf.Tensor:
        return load_image(
            encoded, image_size_px=image_size_px, window=window, max_pixels=max_pixels
        )

    def answer(image_bytes: tf.Tensor) -> Answers:
        spec = tf.TensorSpec([image_size_px, image_size_px, 3], tf.float32)
        # Named, so that what is served can be compared with what was trained on, pixel by pixel.
        images = tf.identity(tf.map_fn(load, image_bytes, fn_output_signature=spec), name=DECODED)
        return answers_from_logits(model(images, training=False), class_names)

    return answer
