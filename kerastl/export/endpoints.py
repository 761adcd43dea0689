"""The endpoints of a served model.

`serving_default` takes complete image files, and `pixels` takes decoded images. Both return the outputs of
`outputs_from_logits`. `classify` implements TF Serving's Classify interface; `features` and `explain` return
pooled features and Grad-CAM heatmaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data.decode import load_image
from kerastl.evaluation.trained_model import Trained
from kerastl.export.graph_check import ENCODED
from kerastl.export.postprocess import NO_POSTPROCESSING, SLACK, Postprocessing
from kerastl.image_size import format_size
from kerastl.models import has_single_logit
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
class ModelParts:
    """A model that pools one feature map, in three parts that share its layers and weights.

    Args:
        trunk: Images to the last feature map `[n, h, w, channels]`.
        pooling: The feature map to features `[n, channels]`.
        head: Features to logits.
    """

    trunk: keras.Model
    pooling: Any
    head: keras.Model


def split_at_pooling(model: keras.Model) -> ModelParts | None:
    """Return the parts of a model; None if it does not pool one feature map to one vector, as those of `build_model` do.

    Args:
        model: A functional model.
    """
    pooled = [layer for layer in getattr(model, "layers", ()) if _pools(layer)]
    if not pooled:
        return None
    pooling = pooled[-1]
    try:
        trunk = keras.Model(model.inputs, pooling.input)
        head = keras.Model(pooling.output, model.outputs[0])
    except (ValueError, KeyError, AttributeError):
        return None  # a connection bypasses the pooling, or the pooling is called twice
    return ModelParts(trunk, pooling, head)


def _pools(layer: Any) -> bool:
    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    return isinstance(layer, kinds) and not layer.keepdims


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
            endpoints |= {"features": (self.features, files), "explain": (self.explain, files)}
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
        return {"features": self.parts.pooling(self._feature_maps(image_bytes))}

    def explain(self, image_bytes: tf.Tensor) -> Outputs:
        """Return Grad-CAM of the predicted class, `heatmap` and `predicted`, for files; `parts` must not be None.

        `heatmap` is `[n, h, w]` float32 in [0, 1] on the grid of the last feature map: 1 for the strongest
        evidence for the class, and 0 everywhere if there is none. `predicted` is that of `serving_default`.

        Reference:
            Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
        """
        assert self.parts is not None
        maps = self._feature_maps(image_bytes)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            logits = self.parts.head(self.parts.pooling(maps), training=False)
            predicted = self._outputs(logits)["predicted"]
            names = tf.constant(list(self.trained.class_names), tf.string)
            if has_single_logit(self.parts.head):  # the constant logit has no gradient
                logits -= tf.reduce_mean(logits, axis=-1, keepdims=True)
            score = tf.reduce_sum(logits * tf.cast(predicted[:, None] == names[None], logits.dtype))
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=[1, 2], keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
        return {
            "heatmap": tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2], keepdims=True)),
            "predicted": predicted,
        }

    def predict(self, images: tf.Tensor) -> Outputs:
        """Return the outputs for decoded images."""
        logits = self._network(images)
        if self.parts is not None:
            logits = self.parts.head(self.parts.pooling(logits), training=False)
        return self._outputs(logits)

    def _outputs(self, logits: tf.Tensor) -> Outputs:
        return outputs_from_logits(logits, self.trained.class_names, self.postprocessing)

    def _feature_maps(self, image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._network(self.decode(image_bytes)), tf.float32)

    @cached_property
    def parts(self) -> ModelParts | None:
        """The parts of the model; None if it does not pool one feature map."""
        return split_at_pooling(self.trained.model)

    @cached_property
    def _network(self) -> Any:
        part = self.trained.model if self.parts is None else self.parts.trunk
        images = tf.TensorSpec([None, *self.trained.image_size_px, 3], tf.float32)

        @tf.function(input_signature=[images], autograph=False)
        def network(images: tf.Tensor) -> tf.Tensor:
            return part(images, training=False)

        return network

    @cached_property
    def decode(self) -> Any:
        """From `[n]` whole files of any mixed types to `[n, height, width, 3]` float32 in [0, 255].

        If an image cannot be decoded, the whole batch fails, with the reason.
        """
        trained = self.trained
        spec = tf.TensorSpec([*trained.image_size_px, 3], tf.float32)

        def load(encoded: tf.Tensor) -> tf.Tensor:
            return load_image(
                encoded, image_size_px=trained.image_size_px, resize=trained.resize, window=trained.window,
                max_pixels=trained.max_pixels,
            )  # fmt: skip

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode_all(image_bytes: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(load, image_bytes, fn_output_signature=spec)

        return decode_all
