"""What a served model answers: endpoints written by hand on the model without augmentation.

`serving_default` takes whole picture files, `pixels` decoded pictures, and both answer as `kerastl.export.answers` tells.
`classify` is for TF Serving's Classify interface, `features` and `explain` hand out what the network saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from kerastl.data.decode import MAX_PIXELS, load_image
from kerastl.evaluation.trained_model import AS_LEARNT, Answering
from kerastl.export.answers import Answers, answers_from_logits
from kerastl.export.layers import Cut, cut_at_pooling
from kerastl.export.tf_example import ENCODED

DECODED = "decoded_pixels"
"""Name of the node in the served graph that holds the pictures as the network gets them."""
EXAMPLES = "inputs"
"""TF Serving's Classify asks for one input of this name."""

Endpoint = Callable[[tf.Tensor], Answers]


@dataclass(frozen=True)
class Served:
    """What the endpoints of one export share: decoding and network are one function each in the graph, however many ask.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits, without augmentation.
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey PNG; None: the full range.
        max_pixels: height times width above which a picture is refused unread.
        answering: what is done to the softmax of the logits.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    image_size_px: int
    window: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    answering: Answering = AS_LEARNT

    def decoded(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Return `[n, size, size, 3]` float32 in [0, 255] for `[n]` whole files.

        Kinds may be mixed in a batch. One picture that cannot be decoded fails its whole batch, with the reason.
        """
        return self._decode(image_bytes)

    def answer(self, images: tf.Tensor) -> Answers:
        """Return the answers for decoded pictures."""
        if self.cut is None:
            logits = self._network(images)
        else:
            logits = self.cut.head(self.cut.pooling(self._network(images)), training=False)
        return answers_from_logits(logits, self.class_names, self.answering)

    def maps(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Return the last feature maps `[n, h, w, channels]` float32 of files; only where there is a `cut`."""
        return tf.cast(self._network(self.decoded(image_bytes)), tf.float32)

    @cached_property
    def cut(self) -> Cut | None:
        """The model in parts, where it pools one feature map."""
        return cut_at_pooling(self.model)

    @cached_property
    def _network(self) -> Any:
        part = self.model if self.cut is None else self.cut.trunk
        images = tf.TensorSpec([None, self.image_size_px, self.image_size_px, 3], tf.float32)

        @tf.function(input_signature=[images], autograph=False)
        def network(images: tf.Tensor) -> tf.Tensor:
            return part(images, training=False)

        return network

    @cached_property
    def _decode(self) -> Any:
        size = self.image_size_px
        spec = tf.TensorSpec([size, size, 3], tf.float32)

        def load(encoded: tf.Tensor) -> tf.Tensor:
            return load_image(
                encoded, image_size_px=size, window=self.window, max_pixels=self.max_pixels
            )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode_all(image_bytes: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(load, image_bytes, fn_output_signature=spec)

        return decode_all


def pixels_endpoint(served: Served) -> Endpoint:
    """Return the endpoint for pictures: `[n, size, size, 3]` float32, RGB, in [0, 255].

    Another size is refused with a message that names the right one. TF Serving does not compare what
    it is sent with the signature, so the check stands in the graph.
    """
    size = served.image_size_px
    message = f"this model takes RGB pictures of {size} x {size} pixels, [n, {size}, {size}, 3]"

    def answer(images: tf.Tensor) -> Answers:
        check = tf.debugging.assert_equal(tf.shape(images)[1:], [size, size, 3], message=message)
        with tf.control_dependencies([check] if check is not None else []):
            images = tf.ensure_shape(tf.identity(images), [None, size, size, 3])
        return served.answer(images)

    return answer


def bytes_endpoint(served: Served) -> Endpoint:
    """Return the endpoint for files: `[n]` string, each a whole PNG, JPEG, GIF, BMP or WebP."""

    def answer(image_bytes: tf.Tensor) -> Answers:
        # Named, so that what is served can be compared with what was trained on, pixel by pixel.
        return served.answer(tf.identity(served.decoded(image_bytes), name=DECODED))

    return answer


def classify_endpoint(served: Served) -> Endpoint:
    """Return the endpoint for TF Serving's Classify: `[n]` string, each a tf.Example with `image/encoded`.

    It answers `classes` `[n, classes]` string and `scores` `[n, classes]` float32, the most probable class first.
    """

    def answer(examples: tf.Tensor) -> Answers:
        spec = {ENCODED: tf.io.FixedLenFeature([], tf.string)}
        answers = served.answer(served.decoded(tf.io.parse_example(examples, spec)[ENCODED]))
        best = tf.math.top_k(answers["probabilities"], k=len(served.class_names))
        names = tf.constant(list(served.class_names), tf.string)
        return {"classes": tf.gather(names, best.indices), "scores": best.values}

    return answer


def features_endpoint(served: Served, cut: Cut) -> Endpoint:
    """Return the endpoint for pooled features: of files `[n]` string, `[n, features]` float32."""

    def answer(image_bytes: tf.Tensor) -> Answers:
        return {"features": cut.pooling(served.maps(image_bytes))}

    return answer


def explain_endpoint(served: Served, cut: Cut) -> Endpoint:
    """Return the endpoint that tells where in a picture the answer comes from: Grad-CAM of the class that is answered.

    It answers `heatmap` `[n, h, w]` float32 in [0, 1], on the grid of the last feature map, 1 where it speaks most for
    the class and 0 all over where nothing does; and `predicted`, as `serving_default`.

    Reference:
        Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    names = tf.constant(list(served.class_names), tf.string)

    def answer(image_bytes: tf.Tensor) -> Answers:
        maps = served.maps(image_bytes)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            logits = cut.head(cut.pooling(maps), training=False)
            predicted = answers_from_logits(logits, served.class_names, served.answering)[
                "predicted"
            ]
            asked = tf.cast(predicted[:, None] == names[None], logits.dtype)
            score = tf.reduce_sum(logits * asked)
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=[1, 2], keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
        return {
            "heatmap": tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2], keepdims=True)),
            "predicted": predicted,
        }

    return answer


def endpoints_of(served: Served) -> dict[str, tuple[Endpoint, tf.TensorSpec]]:
    """Return every endpoint by its signature's name, with what it takes."""
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    # The sides stay open in the signature: with fixed ones the size check would be folded away.
    images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
    found = {
        "serving_default": (bytes_endpoint(served), files),
        "pixels": (pixels_endpoint(served), images),
        "classify": (classify_endpoint(served), tf.TensorSpec([None], tf.string, name=EXAMPLES)),
    }
    if served.cut is not None:
        found["features"] = (features_endpoint(served, served.cut), files)
        found["explain"] = (explain_endpoint(served, served.cut), files)
    return found
