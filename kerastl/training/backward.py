"""A cheaper backward pass for what learns: the same layers, the same answers, gradients by faster operations.

TensorFlow computes a convolution's gradients on a CPU several times slower than the convolution itself. Where they are
matrix products, or convolutions in their turn, they are written as such. A frozen BatchNorm is a constant scale and
offset: it is computed into the kernel at each step, `w * scale`, so its gradient reaches `w` exactly (Jacob et al.
2018, arXiv:1712.05877, section 3.1, with statistics that stay).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.models import foldable, rebuilt, scale_and_offset

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def with_cheap_backward(model: keras.Model) -> keras.Model:
    """Return a network that learns what `model` does, from layers that they share.

    Measured on CPUs; where there is a GPU, its own kernels have their own ways, and `model` is returned as it is.

    Args:
        model: functional and flat, its flags set; a BatchNorm with `trainable = False` must keep its weights as long as
            the result is used.
    """
    if tf.config.list_logical_devices("GPU"):
        return model
    norms = {
        convolution: norm
        for norm, convolution in foldable(model).items()
        if not model.get_layer(norm).trainable
        and isinstance(model.get_layer(convolution), CONVOLUTIONS)
    }
    replaced = {layer.name for layer in model.layers if layer.name in norms or _is_faster(layer)}
    if not replaced:
        return model
    folded = set(norms.values())

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in folded:
            return args[0]
        if operation.name in replaced:
            norm = norms.get(operation.name)
            operation = _Convolution(operation, norm and model.get_layer(norm))
        return operation(*args, **kwargs)

    return rebuilt(model, call)


def _is_faster(layer: Any) -> bool:
    """Tell whether `_Convolution` has a faster way for a layer."""
    if type(layer) is keras.layers.SeparableConv2D:
        return True
    plain = type(layer) is keras.layers.Conv2D and layer.groups == 1
    return plain and (_is_pointwise(layer) or _is_same(layer))


def _is_pointwise(layer: Any) -> bool:
    return layer.kernel_size == (1, 1)


def _is_same(layer: Any) -> bool:
    """Tell whether a convolution's gradient for what it reads is a convolution of the same kind."""
    return (
        layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and all(side % 2 for side in layer.kernel_size)
    )


class _Convolution(keras.layers.Layer):
    """A convolution, and the frozen BatchNorm behind it, where there is one.

    Args:
        layer: whose variables are used; channels last.
        norm: frozen; None: there is none.
    """

    def __init__(self, layer: Any, norm: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer, self._scale, self._offset = layer, None, None
        if norm is not None:
            scale, offset = scale_and_offset(norm)
            self._scale, self._offset = scale.astype(np.float32), offset.astype(np.float32)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return what the two layers give in inference."""
        layer = self.layer
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            outputs = self._depthwise(inputs, self._scaled(layer.kernel))
        elif isinstance(layer, keras.layers.SeparableConv2D):
            between = self._depthwise(inputs, tf.convert_to_tensor(layer.depthwise_kernel))
            outputs = _product(between, self._scaled(layer.pointwise_kernel))
        elif layer.groups == 1 and _is_pointwise(layer):
            down, across = layer.strides
            outputs = _product(inputs[:, ::down, ::across], self._scaled(layer.kernel))
        elif layer.groups == 1 and _is_same(layer):
            outputs = _same(inputs, self._scaled(layer.kernel))
        else:
            outputs = layer.convolution_op(inputs, self._scaled(layer.kernel))
        offset = self._bias()
        return layer.activation(outputs if offset is None else tf.nn.bias_add(outputs, offset))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape that the convolution gives."""
        return self.layer.compute_output_shape(input_shape)

    def _depthwise(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        layer = self.layer
        return keras.ops.depthwise_conv(
            inputs, kernel, strides=layer.strides, padding=layer.padding,
            data_format=layer.data_format, dilation_rate=layer.dilation_rate,
        )  # fmt: skip

    def _scaled(self, kernel: Any) -> tf.Tensor:
        kernel = tf.convert_to_tensor(kernel)
        if self._scale is None:
            return kernel
        depthwise = isinstance(self.layer, keras.layers.DepthwiseConv2D)
        scale = self._scale.reshape(kernel.shape[-2:]) if depthwise else self._scale
        return kernel * tf.cast(scale, kernel.dtype)

    def _bias(self) -> tf.Tensor | None:
        bias = tf.convert_to_tensor(self.layer.bias) if self.layer.use_bias else None
        if self._scale is None:
            return bias
        offset = tf.constant(self._offset, self.compute_dtype)
        return offset if bias is None else offset + bias * tf.cast(self._scale, bias.dtype)


def _product(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Return a convolution by a `[1, 1, in, out]` kernel: a matrix product, as are its gradients."""
    shape = tf.shape(inputs)
    rows = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[2]]), kernel[0, 0])
    outputs = tf.reshape(rows, [shape[0], shape[1], shape[2], kernel.shape[3]])
    return tf.ensure_shape(outputs, [*inputs.shape[:3], kernel.shape[3]])


@tf.custom_gradient
def _same(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Return a convolution by a kernel of odd sides; its gradient for `inputs` is one by the turned kernel."""

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, strides=[1, 1, 1, 1],
            padding="SAME",
        )  # fmt: skip
        return tf.nn.conv2d(upstream, turned, 1, "SAME"), of_kernel

    return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradients
