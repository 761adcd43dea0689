"""The network as one graph of TensorFlow operations with its weights in it: what every other format is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerastl.backbones import for_inference

INPUT = "images"
OUTPUT = "probabilities"


@dataclass(frozen=True)
class Network:
    """A graph from `images` `[n, size, size, 3]` float32 in [0, 255] to `probabilities` `[n, classes]` float32.

    Args:
        graph_def: holds no variable, only constants.
        image_size_px: side of the pictures, in pixels.
        class_names: in the order of the probabilities.
    """

    graph_def: Any
    image_size_px: int
    class_names: tuple[str, ...]

    def function(self) -> Any:
        """Return the graph as a concrete function with named input and output."""
        shape = [None, self.image_size_px, self.image_size_px, 3]

        def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            (found,) = tf.graph_util.import_graph_def(
                self.graph_def, {INPUT: images}, [f"{OUTPUT}:0"], name=""
            )
            return {OUTPUT: tf.ensure_shape(found, [None, len(self.class_names)])}

        spec = tf.TensorSpec(shape, tf.float32, name=INPUT)
        return tf.function(answer, input_signature=[spec], autograph=False).get_concrete_function()


def network_of(
    model: keras.Model,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    temperature: float | None = None,
    ratios: Sequence[float] | None = None,
) -> Network:
    """Return a model in inference as one graph, its BatchNorms folded where that is the same computation.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        temperature: what logits are divided by before the softmax; None: 1.
        ratios: for each class its prevalence where the model is asked over that where it learnt; None: 1.
    """
    folded = for_inference(model)

    def answer(images: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(folded(images, training=False), tf.float32)
        if temperature is not None:
            logits = logits * (1.0 / temperature)
        found = tf.nn.softmax(logits)
        if ratios is not None:
            found = found * tf.constant(list(ratios), tf.float32)
            found = found / tf.reduce_sum(found, axis=-1, keepdims=True)
        return tf.identity(found, name=OUTPUT)

    spec = tf.TensorSpec([None, image_size_px, image_size_px, 3], tf.float32, name=INPUT)
    traced = tf.function(answer, input_signature=[spec], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    graph_def = frozen.graph.as_graph_def()
    # Arrays that a layer holds beside its weights, as Normalization its mean, come as inputs: tf2onnx leaves them so.
    places = (tensor.name.split(":")[0] for tensor in frozen.inputs[1:])
    captured = dict(zip(places, frozen.captured_inputs, strict=True))
    for node in graph_def.node:
        if node.name in captured:
            _make_constant(node, captured[node.name].numpy())
    return Network(graph_def, image_size_px, tuple(class_names))


def _make_constant(node: Any, value: Any) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
