"""What the layers of a network hold in memory at once, for one picture: in inference, and kept for the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import keras

FLOAT32 = 4
READS_INPUT = frozenset(
    {"Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "EinsumDense", "LayerScale", "Multiply", "MaxPooling2D"}
)  # fmt: skip
"""Layers whose gradient is made of what they read."""
NEEDS_NOTHING = frozenset(
    {
        "Add", "AveragePooling2D", "Concatenate", "Cropping2D", "Flatten", "Flip", "GlobalAveragePooling2D", "InputLayer",
        "Normalization", "Permute", "Rescaling", "Reshape", "Subtract", "UpSampling2D", "ZeroPadding2D",
    }
)  # fmt: skip
"""Layers whose gradient is a matter of shapes alone."""
IN_PLACE = frozenset(
    {"Activation", "BatchNormalization", "Dropout", "Flatten", "LayerScale", "Normalization", "ReLU", "Rescaling", "Reshape"}
)  # fmt: skip
"""Layers that in inference write where they read, or are computed in the layer before them."""
OF_OUTPUT = frozenset({"relu", "relu6", "sigmoid", "tanh", "softmax", "linear"})
"""Activation functions whose gradient is made of what they give; that of others, of what they read and one tensor more."""


def front_of(tensors: Iterable[Any]) -> set[str]:
    """Return the names of all operations that some tensors are made by."""
    found: set[str] = set()
    waiting = [tensor._keras_history.operation for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found.add(operation.name)
            waiting += [one._keras_history.operation for one in _inputs(operation)]
    return found


def inference_bytes(operations: Sequence[Any]) -> int:
    """Return the most bytes that are alive at once while operations run one after the other, for one picture.

    Args:
        operations: in an order that they can run in.
    """
    names = {operation.name for operation in operations}
    readers = Counter(id(one) for operation in operations for one in _inputs(operation))
    alive: dict[int, int] = {}
    place: dict[int, int] = {}
    most = 0
    for operation in operations:
        inputs = [one for one in _inputs(operation) if one._keras_history.operation.name in names]
        first = inputs[0] if inputs else None
        for output in _outputs(operation):
            shared = (
                type(operation).__name__ in IN_PLACE
                and first is not None
                and readers[id(first)] == 1
            )
            owner = place.get(id(first), id(output)) if shared else id(output)
            place[id(output)] = owner
            alive[owner] = alive.get(owner, 0) if shared else _bytes_of(output)
        most = max(most, sum(alive.values()))
        for one in inputs:
            readers[id(one)] -= 1
        held = {place[key] for key, left in readers.items() if left > 0 and key in place}
        last = {place[id(output)] for output in _outputs(operation)}
        alive = {owner: size for owner, size in alive.items() if owner in held | last}
    return most


def kept_bytes(operations: Iterable[Any], *, frozen_norms: bool) -> tuple[int, int]:
    """Return the bytes that the way back needs for one picture, and the largest of the tensors among them.

    Args:
        operations: through which gradients run.
        frozen_norms: BatchNorm normalises by its running statistics, so that it is a scale and an offset.
    """
    kept: dict[int, int] = {}
    more = 0
    for operation in operations:
        inputs, outputs = _inputs(operation), _outputs(operation)
        tensors, extra = _needed(operation, inputs, outputs, frozen_norms=frozen_norms)
        kept |= {id(one): _bytes_of(one) for one in tensors}
        more += extra
    return sum(kept.values()) + more, max(kept.values(), default=0)


def _needed(
    operation: Any, inputs: Sequence[Any], outputs: Sequence[Any], *, frozen_norms: bool
) -> tuple[Sequence[Any], int]:
    """Return the tensors that an operation's gradient is made of, and bytes of others inside it."""
    kind = type(operation).__name__
    inside = _bytes_of(outputs[0]) if outputs else 0
    if kind in NEEDS_NOTHING:
        return (), 0
    if kind == "BatchNormalization":
        return ((), 0) if frozen_norms else (inputs, 0)
    if kind == "SeparableConv2D":
        return inputs, _bytes_of(inputs[0])
    if kind == "Dropout":
        return (), inside if operation.rate else 0
    if kind == "ReLU":
        return outputs, 0
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    curved = inside * (name not in OF_OUTPUT)
    if kind in READS_INPUT:
        more = inside if name != "linear" else 0
        return [*inputs, *(outputs if kind == "MaxPooling2D" else ())], more + curved
    if kind == "Activation":
        return (outputs, 0) if not curved else (inputs, curved)
    return [*inputs, *outputs], 0


def weight_bytes(variables: Collection[keras.Variable]) -> int:
    """Return the bytes of some variables."""
    return sum(_product(one.shape) * FLOAT32 for one in variables)


def _bytes_of(tensor: Any) -> int:
    return _product(tensor.shape[1:]) * FLOAT32


def _product(shape: Iterable[int | None]) -> int:
    product = 1
    for side in shape:
        product *= side or 1
    return product


def _tensors(read: Callable[[], Any]) -> list[Any]:
    return [one for one in keras.tree.flatten(read()) if isinstance(one, keras.KerasTensor)]


def _inputs(operation: Any) -> list[Any]:
    return [] if type(operation).__name__ == "InputLayer" else _tensors(lambda: operation.input)


def _outputs(operation: Any) -> list[Any]:
    return _tensors(lambda: operation.output)
