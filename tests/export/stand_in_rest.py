"""The JSON of TF Serving's RESTful API, by its documentation and its `json_tensor.cc`; no server, no model.

Sources: https://www.tensorflow.org/tfx/serving/api_rest,
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/util/json_tensor.cc
"""

import base64
import binascii
import json
import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2

ROW, COLUMNS = "instances", "inputs"


class Refused(Exception):
    """A request that fails: a gRPC status by name, and its message."""

    def __init__(self, code: str, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code}: {text}")


def wrong(text: str) -> Refused:
    return Refused("INVALID_ARGUMENT", text)


def parsed(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise wrong("JSON Parse error: Invalid value.") from None
    if not isinstance(content, dict):
        raise wrong(f"JSON Value: {content} Is not object")
    if not isinstance(content.get("signature_name", ""), str):
        raise wrong("'signature_name' key must be a string value.")
    return content


def fill_predict(content: dict[str, Any], inputs: Any, request: predict_pb2.PredictRequest) -> str:
    """Copy the tensors of a body to a request. Return their key.

    Args:
        inputs: Input name to `TensorInfo` of the signature.
    """
    if ROW in content and COLUMNS in content:
        raise wrong("Not formatted correctly expecting only one of 'inputs' or 'instances' keys")
    if ROW in content:
        columns = _columns_of_rows(content[ROW], inputs)
        key = ROW
    elif COLUMNS in content:
        columns = _columns(content[COLUMNS], inputs)
        key = COLUMNS
    else:
        raise wrong("Missing 'inputs' or 'instances' key")
    for name, (shape, leaves) in columns.items():
        dtype = tf.dtypes.as_dtype(inputs[name].dtype)
        array = np.empty(len(leaves), object if dtype == tf.string else dtype.as_numpy_dtype)
        array[:] = leaves
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array.reshape(shape), dtype))
    return key


Column = tuple[list[int], list[Any]]


def _columns_of_rows(rows: Any, inputs: Any) -> dict[str, Column]:
    if not isinstance(rows, list):
        raise wrong("Excepting 'instances' to be an list/array")
    if not rows:
        raise wrong("No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise wrong("instances is a plain list, but expecting list of objects")
    named = isinstance(rows[0], dict) and not _is_base64(rows[0])
    columns: dict[str, Column] = {}
    for number, row in enumerate(rows):
        if named != (isinstance(row, dict) and not _is_base64(row)):
            raise wrong(f"Expecting {'object' if named else 'value/list'} at item {number}")
        values = row if named else {next(iter(inputs)): row}
        if values.keys() != set(inputs):
            raise wrong(f"Failed to process element: {number}. keys must be equal to: {[*inputs]}")
        for name, value in values.items():
            shape, leaves = _tensor(value, inputs[name].dtype)
            if name not in columns:
                columns[name] = shape, []
            if shape != columns[name][0]:
                raise wrong(f"Expecting shape {columns[name][0]} but got: {shape}")
            columns[name][1].extend(leaves)
    return {name: ([len(rows), *shape], leaves) for name, (shape, leaves) in columns.items()}


def _columns(value: Any, inputs: Any) -> dict[str, Column]:
    if not isinstance(value, dict) or _is_base64(value):
        if len(inputs) > 1:
            raise wrong("inputs is a plain value/list, but expecting an object")
        return {name: _tensor(value, info.dtype) for name, info in inputs.items()}
    missing = [name for name in inputs if name not in value]
    if missing:
        raise wrong(f"Missing named input: {missing[0]} in 'inputs' object.")
    return {name: _tensor(value[name], info.dtype) for name, info in inputs.items()}


def _tensor(value: Any, dtype: int) -> Column:
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    leaves: list[Any] = []
    _fill(value, 0, shape, tf.dtypes.as_dtype(dtype), leaves)
    return shape, leaves


def _fill(value: Any, level: int, shape: list[int], dtype: tf.DType, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise wrong(f"JSON Value: {value} found at incorrect level: {level + 1}")
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape) or len(value) != shape[level]:
        raise wrong(f"Encountered list at unexpected size: {len(value)} at level: {level}")
    for item in value:
        _fill(item, level + 1, shape, dtype, leaves)


def _leaf(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string and isinstance(value, dict):
        return _from_base64(value)
    fits = (
        isinstance(value, str) if dtype == tf.string
        else isinstance(value, bool) if dtype == tf.bool
        else isinstance(value, int | float) and not isinstance(value, bool) if dtype.is_floating
        else isinstance(value, int) and not isinstance(value, bool)
    )  # fmt: skip
    if not fits:
        raise wrong(f"JSON Value: {value!r:.40} is not of expected type: {dtype.name}")
    return value.encode() if dtype == tf.string else value


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _from_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise wrong(f"JSON Value: {value!r:.40} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except binascii.Error:
        raise wrong("Unable to base64 decode") from None


def fill_classify(content: dict[str, Any], request: classification_pb2.ClassificationRequest) -> None:
    examples = content.get("examples")
    if not isinstance(examples, list) or not examples:
        raise wrong("When method is classify, key 'examples' is expected and was not found")
    where = request.input.example_list
    if "context" in content:
        where = request.input.example_list_with_context
        where.context.CopyFrom(_example(content["context"]))
    where.examples.extend(_example(example) for example in examples)


def _example(content: Any) -> tf.train.Example:
    if not isinstance(content, dict):
        raise wrong("Example must be JSON object")
    example = tf.train.Example()
    for name, value in content.items():
        feature = example.features.feature[name]
        for item in value if isinstance(value, list) else [value]:
            _add(item, name, feature)
    return example


def _add(value: Any, name: str, feature: Any) -> None:
    if isinstance(value, str | dict):
        kind, plain = ("bytes_list", value.encode() if isinstance(value, str) else _from_base64(value))
    elif isinstance(value, int):
        kind, plain = "int64_list", int(value)
    elif isinstance(value, float):
        kind, plain = "float_list", value
    else:
        raise wrong(f"Feature: {name} has element with unexpected JSON type")
    if feature.WhichOneof("kind") not in (None, kind):
        raise wrong(f"Unexpected element type in feature: {name}")
    getattr(feature, kind).value.append(plain)


def predict_json(outputs: Any, key: str) -> dict[str, Any]:
    """Return the body of the response to a request with tensors under `key`."""
    plain = {}
    for name, tensor in outputs.items():
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        if dtype in (tf.bfloat16, tf.half):
            raise wrong(f"Failed to write JSON value for tensor type: {dtype.name}")
        plain[name] = _plain(tf.make_ndarray(tensor), name)
    if key == COLUMNS:
        return {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}
    sizes = {name: len(value) for name, value in plain.items() if isinstance(value, list)}
    if len(sizes) < len(plain):
        raise wrong("Tensor has no shape information")
    if len(set(sizes.values())) != 1:
        raise wrong(f"Tensor has inconsistent batch size: {sizes}")
    if len(plain) == 1:
        return {"predictions": next(iter(plain.values()))}
    return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}


def _plain(array: Any, name: str) -> Any:
    if isinstance(array, np.ndarray) and array.ndim:
        return [_plain(item, name) for item in array]
    value = array.item() if isinstance(array, np.ndarray) else array
    if isinstance(value, bytes):
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode(errors="replace")
    return number(value)


def number(value: Any) -> Any:
    """Return a number with no more digits than its own type needs, as TF Serving writes it."""
    if isinstance(value, np.floating | float):
        return float(str(value)) if math.isfinite(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value


def classify_json(result: Any) -> dict[str, Any]:
    return {
        "results": [
            [[entry.label, number(np.float32(entry.score))] for entry in row.classes]
            for row in result.classifications
        ]
    }
