"""From the graph to the bytes of a LiteRT file, by TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl.export.converted.graph import INPUT, Network

Pictures = npt.NDArray[np.float32]


def converted(
    network: Network, quantize: str | None = None, pictures: Pictures | None = None
) -> bytes:
    """Return a LiteRT file of LiteRT's own operations, float32 in and out.

    Args:
        network: the graph.
        quantize: None, `float16` or `int8`.
        pictures: `[n, size, size, 3]` float32 in [0, 255], for `int8`: the ranges of activations are those they cause.

    Raises:
        Exception: of the converter's own kinds, where an operation has no counterpart.
    """
    # The second argument keeps variables alive; there are none.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.function()], tf.Module())
    if quantize is None:
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())
    assert pictures is not None
    return _int8(converter, pictures)


def _int8(converter: Any, pictures: Pictures) -> bytes:
    """Quantize all but the softmax, whose 8-bit kernel answers in steps of 1/256: too coarse to rank pictures by."""

    def examples() -> Iterator[dict[str, Pictures]]:
        for picture in pictures:
            yield {INPUT: picture[None]}

    converter.representative_dataset = examples
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=examples, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())
