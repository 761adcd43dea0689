"""The network as one graph of TensorFlow operations with its weights in it: what every other format is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerastl.evaluation.trained_model import AS_LEARNT, Answering
from kerastl.export.answers import answered_probabilities
from kerastl.models import for_inference

INPUT = "images"
OUTPUT = "probabilities"
WHOLE = ("_XlaMustCompile", "_noinline")


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
    answering: Answering = AS_LEARNT,
) -> Network:
    """Return a model in inference as one graph, its BatchNorms folded where that is the same computation.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        answering: temperature and prevalence that probabilities are told at. A threshold has no place in the graph, which
            answers no label.
    """
    folded = for_inference(model)

    def answer(images: tf.Tensor) -> tf.Tensor:
        # In float32: the runtimes of phones know no float64.
        logits = tf.cast(folded(images, training=False), tf.float32)
        return tf.identity(answered_probabilities(logits, answering), name=OUTPUT)

    spec = tf.TensorSpec([None, image_size_px, image_size_px, 3], tf.float32, name=INPUT)
    traced = tf.function(answer, input_signature=[spec], autograph=False).get_concrete_function()
    network = Network(_frozen(traced), image_size_px, tuple(class_names))
    if not _free_functions(network.graph_def):
        return network
    return replace(network, graph_def=_frozen(network.function()))


def _frozen(function: Any) -> Any:
    """Return a concrete function as a graph of constants, with the functions that it calls put in their places."""
    frozen = convert_variables_to_constants_v2(function)
    graph_def = frozen.graph.as_graph_def()
    # Arrays that a layer holds beside its weights, as Normalization its mean, come as inputs: tf2onnx leaves them so.
    places = (tensor.name.split(":")[0] for tensor in frozen.inputs[1:])
    captured = dict(zip(places, frozen.captured_inputs, strict=True))
    for node in graph_def.node:
        if node.name in captured:
            _make_constant(node, captured[node.name].numpy())
    return graph_def


def _free_functions(graph_def: Any) -> bool:
    """Let functions be put in place that were to stay whole, and tell whether there are any.

    Keras computes a convolution in groups, as in ConvNeXt, in a function for XLA alone; no other runtime knows such.
    """
    for function in graph_def.library.function:
        for name in WHOLE:
            function.attr.pop(name, None)
    for node in graph_def.node:
        for name in WHOLE:
            node.attr.pop(name, None)
    return bool(graph_def.library.function)


def _make_constant(node: Any, value: Any) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
