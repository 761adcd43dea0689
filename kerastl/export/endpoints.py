"""What a served model answers: endpoints written by hand on the model without augmentation.

`serving_default` takes whole image files, `pixels` decoded images, and both answer as `kerastl.export.endpoints` tells.
`classify` is for TF Serving's Classify interface, `features` and `explain` hand out what the network saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from kerastl.data.decode import MAX_PIXELS, load_image
from kerastl.evaluation.trained_model import NO_POSTPROCESSING, SLACK, Postprocessing
from kerastl.export.graph_check import ENCODED

Answers = dict[str, tf.Tensor]

MOST_TOP = 5
"""Classes in `top_classes`, at most."""


def answers_from_logits(
    logits: tf.Tensor, class_names: Sequence[str], answering: Postprocessing = NO_POSTPROCESSING
) -> Answers:
    """Return the outputs for `[n, classes]` logits of any float type.

    - `probabilities`: `[n, classes]` float32, rows that sum to 1;
    - `predicted`: `[n]` string, the class that is answered;
    - `class_names`: `[n, classes]` string, the same row n times. One row would do, but the row format of TF
      Serving's REST interface asks every output for the batch dimension of the others and refuses the
      whole answer otherwise. No output's name ends in `_bytes`: TF Serving would send it as base64;
    - `top_classes`, `top_scores`: `[n, up to 5]`, the most probable classes, best first, and their probabilities.
    """
    # Half floats would lose digits here, and TF Serving's REST interface cannot send them.
    wide = tf.ensure_shape(tf.cast(logits, tf.float64), [None, len(class_names)])
    answered = answered_probabilities(wide, answering)
    probabilities = tf.cast(answered, tf.float32)
    names = tf.constant(list(class_names), tf.string)
    top = tf.math.top_k(probabilities, k=min(MOST_TOP, len(class_names)))
    return {
        "probabilities": probabilities,
        "predicted": tf.gather(names, _predicted(wide, probabilities, class_names, answering)),
        "class_names": tf.tile(names[None], [tf.shape(probabilities)[0], 1]),
        "top_classes": tf.gather(names, top.indices),
        "top_scores": top.values,
    }


def answered_probabilities(logits: tf.Tensor, answering: Postprocessing) -> tf.Tensor:
    """Return `[n, classes]` probabilities at the temperature and for the prevalence, in the float type of the logits."""
    if answering.temperature is not None:
        logits = logits * (1.0 / answering.temperature)
    found = tf.nn.softmax(logits)
    if answering.prevalence is not None:
        learnt, served = answering.prevalence.learnt, answering.prevalence.served
        ratios = [after / before for before, after in zip(learnt, served, strict=True)]
        weighed = found * tf.constant(ratios, found.dtype)
        found = weighed / tf.reduce_sum(weighed, axis=-1, keepdims=True)
    return found


def _predicted(
    logits: tf.Tensor, probabilities: tf.Tensor, class_names: Sequence[str], answering: Postprocessing
) -> tf.Tensor:
    """Return `[n]` int64, the place of the class that is answered."""
    threshold = answering.threshold
    if threshold is None:
        return tf.argmax(probabilities, axis=-1)
    positive = list(class_names).index(threshold.positive)
    called = tf.nn.softmax(logits)[:, positive] >= threshold.at - SLACK
    is_positive = tf.constant([place == positive for place in range(len(class_names))])
    others = tf.argmax(tf.where(is_positive, -1.0, probabilities), axis=-1)
    return tf.where(called, tf.constant(positive, tf.int64), others)


@dataclass(frozen=True)
class Cut:
    """A network that pools a feature map once.

    Args:
        trunk: images to the last feature map `[n, h, w, channels]`.
        pooling: the feature map to features `[n, channels]`.
        head: features to logits.
    """

    trunk: keras.Model
    pooling: Any
    head: keras.Model


def cut_at_pooling(model: keras.Model) -> Cut | None:
    """Return a network in parts; None where it does not pool one feature map to one vector, as all of `build_model` do.

    Args:
        model: functional; the parts share its layers and weights.
    """
    pooled = [layer for layer in getattr(model, "layers", ()) if _pools(layer)]
    if not pooled:
        return None
    pooling = pooled[-1]
    try:
        trunk = keras.Model(model.inputs, pooling.input)
        head = keras.Model(pooling.output, model.outputs[0])
    except (ValueError, KeyError, AttributeError):
        return None  # something goes round the pooling, or it is called twice
    return Cut(trunk, pooling, head)


def _pools(layer: Any) -> bool:
    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    return isinstance(layer, kinds) and not layer.keepdims


DECODED = "decoded_pixels"
"""Name of the node in the served graph that holds the images as the network gets them."""
EXAMPLES = "inputs"
"""TF Serving's Classify asks for one input of this name."""

Endpoint = Callable[[tf.Tensor], Answers]


@dataclass(frozen=True)
class Served:
    """What the endpoints of one export share: decoding and network are one function each in the graph, however many ask.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits, without augmentation.
        class_names: in the order of the logits.
        image_size_px: side of the square image that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey PNG; None: the full range.
        max_pixels: height times width above which an image is refused unread.
        answering: what is done to the softmax of the logits.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    image_size_px: int
    window: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    answering: Postprocessing = NO_POSTPROCESSING

    def decoded(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Return `[n, size, size, 3]` float32 in [0, 255] for `[n]` whole files.

        Kinds may be mixed in a batch. One image that cannot be decoded fails its whole batch, with the reason.
        """
        return self._decode(image_bytes)

    def answer(self, images: tf.Tensor) -> Answers:
        """Return the answers for decoded images."""
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
            return load_image(encoded, image_size_px=size, window=self.window, max_pixels=self.max_pixels)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode_all(image_bytes: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(load, image_bytes, fn_output_signature=spec)

        return decode_all


def pixels_endpoint(served: Served) -> Endpoint:
    """Return the endpoint for images: `[n, size, size, 3]` float32, RGB, in [0, 255].

    Another size is refused with a message that names the right one. TF Serving does not compare what
    it is sent with the signature, so the check stands in the graph.
    """
    size = served.image_size_px
    message = f"this model takes RGB images of {size} x {size} pixels, [n, {size}, {size}, 3]"

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
    """Return the endpoint that tells where in an image the answer comes from: Grad-CAM of the class that is answered.

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
            predicted = answers_from_logits(logits, served.class_names, served.answering)["predicted"]
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
