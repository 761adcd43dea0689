"""The endpoints of a served model.

`serving_default` takes complete image files, and `pixels` takes decoded images. Both return the outputs of
`outputs_from_logits`. `classify` implements TF Serving's Classify interface; `features` and `explain` return
pooled features and heatmaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.data.decode import decode_image, placement, resize_image
from kerastl.evaluation.heatmaps import ModelParts, explain, scale_heatmaps, split_at_pooling
from kerastl.evaluation.trained_model import Trained
from kerastl.export.graph_check import ENCODED
from kerastl.export.postprocess import NO_POSTPROCESSING, SLACK, Postprocessing
from kerastl.image_size import format_size
from kerastl.tasks import SINGLE_LABEL

Outputs = dict[str, tf.Tensor]
Endpoint = Callable[[tf.Tensor], Outputs]

MAX_TOP_CLASSES = 5
DECODED = "decoded_pixels"
"""Name of the node in the served graph that holds the images as the network receives them."""
EXAMPLES = "inputs"
"""The name that TF Serving's Classify requires for its one input."""


def outputs_from_logits(
    logits: tf.Tensor, class_names: Sequence[str], postprocessing: Postprocessing = NO_POSTPROCESSING
) -> Outputs:
    """Return the outputs for `[n, classes]` logits of any float type.

    - `probabilities`: `[n, classes]` float32, rows that sum to 1;
    - `predicted`: `[n]` string, the predicted class;
    - `class_names`: `[n, classes]` string, the same row n times: the row format of TF Serving's REST
      interface requires the same batch dimension of all outputs. No output name ends in `_bytes`, which TF
      Serving would send as base64;
    - `top_classes`, `top_scores`: `[n, up to 5]`, the most probable classes in descending order, and their
      probabilities.
    """
    # In float64 for precision; served as float32, because TF Serving's REST interface cannot send half floats.
    wide = tf.ensure_shape(tf.cast(logits, tf.float64), [None, len(class_names)])
    probabilities = tf.cast(probabilities_of(wide, postprocessing), tf.float32)
    names = tf.constant(list(class_names), tf.string)
    top = tf.math.top_k(probabilities, k=min(MAX_TOP_CLASSES, len(class_names)))
    return {
        "probabilities": probabilities,
        "predicted": tf.gather(names, _predicted(wide, probabilities, class_names, postprocessing)),
        "class_names": tf.tile(names[None], [tf.shape(probabilities)[0], 1]),
        "top_classes": tf.gather(names, top.indices),
        "top_scores": top.values,
    }


def probabilities_of(logits: tf.Tensor, postprocessing: Postprocessing) -> tf.Tensor:
    """Return `[n, classes]` probabilities after temperature and prevalence, in the float type of the logits."""
    probabilities = SINGLE_LABEL.activation(logits, postprocessing.temperature)
    prevalence = postprocessing.prevalence
    if prevalence is not None:
        ratios = np.divide(prevalence.served, prevalence.training)
        weighted = probabilities * tf.constant(ratios, probabilities.dtype)
        probabilities = weighted / tf.reduce_sum(weighted, axis=-1, keepdims=True)
    return probabilities


def _predicted(
    logits: tf.Tensor, probabilities: tf.Tensor, class_names: Sequence[str], postprocessing: Postprocessing
) -> tf.Tensor:
    """Return `[n]` int64, the index of the predicted class."""
    threshold = postprocessing.threshold
    if threshold is None:
        return tf.argmax(probabilities, axis=-1)
    positive = list(class_names).index(threshold.positive)
    scores = SINGLE_LABEL.activation(logits, threshold.temperature)[:, positive]
    is_positive = scores >= threshold.probability - SLACK
    is_positive_class = tf.constant([index == positive for index in range(len(class_names))])
    others = tf.argmax(tf.where(is_positive_class, -1.0, probabilities), axis=-1)
    return tf.where(is_positive, tf.constant(positive, tf.int64), others)


@dataclass(frozen=True)
class ServedModel:
    """The parts that all endpoints share: decoding and the network, each one function in the graph.

    Args:
        trained: The model, without augmentation, and its description.
        postprocessing: The postprocessing that is applied to the logits.
    """

    trained: Trained
    postprocessing: Postprocessing = NO_POSTPROCESSING

    def endpoints(self) -> dict[str, tuple[Endpoint, tf.TensorSpec]]:
        """Return the endpoints and their inputs, by signature name."""
        files = tf.TensorSpec([None], tf.string, name="image_bytes")
        # Height and width are open in the signature: otherwise, the size check would be optimized away.
        images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
        endpoints: dict[str, tuple[Endpoint, tf.TensorSpec]] = {
            "serving_default": (self.from_files, files),
            "pixels": (self.from_pixels, images),
            "classify": (self.classify, tf.TensorSpec([None], tf.string, name=EXAMPLES)),
        }
        if self.parts is not None:
            endpoints["features"] = (self.features, files)
            if not self.parts.problem:
                endpoints["explain"] = (self.explain, files)
        return endpoints

    def from_files(self, image_bytes: tf.Tensor) -> Outputs:
        """Return the outputs for files: `[n]` string, each a whole PNG, JPEG, GIF, BMP or WebP."""
        # Named, so that `compare_with_run` can read the pixels from the graph.
        return self.predict(tf.identity(self.decode(image_bytes), name=DECODED))

    def from_pixels(self, images: tf.Tensor) -> Outputs:
        """Return the outputs for images: `[n, height, width, 3]` float32, RGB, in [0, 255].

        Images of a different size are rejected with a message that states the correct size. TF Serving does
        not compare its inputs with the signature, so the check is part of the graph.
        """
        shape = [*self.trained.image_size_px, 3]
        size = format_size(self.trained.image_size_px, "pixels")
        message = f"this model takes RGB images of {size}, [n, {', '.join(map(str, shape))}]"
        check = tf.debugging.assert_equal(tf.shape(images)[1:], shape, message=message)
        with tf.control_dependencies([check] if check is not None else []):
            images = tf.ensure_shape(tf.identity(images), [None, *shape])
        return self.predict(images)

    def classify(self, examples: tf.Tensor) -> Outputs:
        """Return the outputs for the Classify API: `[n]` string, each a tf.Example with `image/encoded`.

        They are `classes` `[n, classes]` string and `scores` `[n, classes]` float32, in descending order of
        the scores.
        """
        spec = {ENCODED: tf.io.FixedLenFeature([], tf.string)}
        outputs = self.predict(self.decode(tf.io.parse_example(examples, spec)[ENCODED]))
        ranked = tf.math.top_k(outputs["probabilities"], k=len(self.trained.class_names))
        names = tf.constant(list(self.trained.class_names), tf.string)
        return {"classes": tf.gather(names, ranked.indices), "scores": ranked.values}

    def features(self, image_bytes: tf.Tensor) -> Outputs:
        """Return the pooled `features` `[n, features]` float32 of files; `parts` must not be None."""
        assert self.parts is not None
        _, features = self.parts.head(self._network(self.decode(image_bytes)), training=False)
        return {"features": tf.cast(features, tf.float32)}

    def explain(self, image_bytes: tf.Tensor) -> Outputs:
        """Return `heatmap` and `predicted` for files; `parts` must not be None or have a `problem`.

        `heatmap` is `[n, h, w]` float32 in [0, 1] on the grid of the last feature map or of the patches, by the method in
        `kerastl.evaluation.heatmaps`: 1 for the strongest evidence, and 0 for cells that lie wholly in the padding, and
        everywhere if there is no evidence. `predicted` is that of `serving_default`.
        """
        assert self.parts is not None
        images, before, inner = self._decode(image_bytes)
        names = tf.constant(list(self.trained.class_names), tf.string)

        def predicted(logits: tf.Tensor) -> tf.Tensor:
            return tf.argmax(self._outputs(logits)["predicted"][:, None] == names[None], axis=-1)

        evidence, labels = explain(self.parts, images, predicted, trunk=self._network)
        return {
            "heatmap": scale_heatmaps(evidence, before, inner, self.trained.image_size_px),
            "predicted": tf.gather(names, labels),
        }

    def predict(self, images: tf.Tensor) -> Outputs:
        """Return the outputs for decoded images."""
        logits = self._network(images)
        if self.parts is not None:
            logits, _ = self.parts.head(logits, training=False)
        return self._outputs(logits)

    def _outputs(self, logits: tf.Tensor) -> Outputs:
        return outputs_from_logits(logits, self.trained.class_names, self.postprocessing)

    @cached_property
    def parts(self) -> ModelParts | None:
        """The parts of the model; None if it does not pool one feature map or sequence of tokens."""
        return split_at_pooling(self.trained.model)

    @cached_property
    def _network(self) -> Any:
        part = self.trained.model if self.parts is None else self.parts.trunk
        images = tf.TensorSpec([None, *self.trained.image_size_px, 3], tf.float32)

        @tf.function(input_signature=[images], autograph=False)
        def network(images: tf.Tensor) -> tf.Tensor:
            return part(images, training=False)

        return network

    def decode(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Decode `[n]` whole files of any mixed types to `[n, height, width, 3]` float32 in [0, 255].

        If an image cannot be decoded, the whole batch fails, with the reason.
        """
        return self._decode(image_bytes)[0]

    @cached_property
    def _decode(self) -> Any:
        """From files to images, and to the `before` and `inner` `[n, 2]` of the `Placement` of each."""
        trained = self.trained
        sides = tf.TensorSpec([2], tf.int32)
        specs = (tf.TensorSpec([*trained.image_size_px, 3], tf.float32), sides, sides)

        def load(encoded: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = decode_image(encoded, window=trained.window, max_pixels=trained.max_pixels)
            shown = placement(tf.shape(image)[:2], trained.image_size_px, trained.resize)
            return resize_image(image, trained.image_size_px, trained.resize), shown.before, shown.inner

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode_all(image_bytes: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tf.map_fn(load, image_bytes, fn_output_signature=specs)

        return decode_all
