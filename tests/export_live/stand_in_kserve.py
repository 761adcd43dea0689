"""A simulated KServe server for the model of `formula`, without a network or a runtime: KServe v1 and v2.

It follows the specifications of KServe v1 and of the Open Inference Protocol, with Triton's classification extension and
binary tensor data. `Plan` describes the served model and what is wrong with the server.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export_live.conftest import canned, formula, sending

NOT_AN_IMAGE = b"these bytes are not an image"
V2_ABOUT = {"name": "triton", "version": "2.51.0", "extensions": ["classification", "binary_tensor_data"]}


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason


@dataclass
class Plan:
    """What a server serves, and how its responses are changed.

    Args:
        is_converted: Whether the input is a decoded image, as in an ONNX export; else it is a file.
        protocols: `v1`, `v2`.
        model_name: Name of the model.
        labels: Class names of the server.
        row: The probabilities of the model for one image.
        change: Changes the response to `METHOD PATH`, given without `/v1/models/NAME` or `/v2/models/NAME`.
        rejects: Whether invalid images are rejected.
        status: The status with which they are rejected.
    """

    is_converted: bool = True
    protocols: tuple[str, ...] = ("v1", "v2")
    model_name: str = "kerastl"
    labels: tuple[str, ...] = CLASS_NAMES
    row: Callable[[bytes], list[float]] = formula
    change: Callable[[str, Any], Any] = lambda _, response: response
    rejects: bool = True
    status: int = 400

    def predict(self, images: list[Any]) -> dict[str, Any]:
        for image in images:
            is_wrong = image.shape != (SIZE, SIZE, 3) if self.is_converted else image == NOT_AN_IMAGE
            if is_wrong and self.rejects:
                raise Refused(self.status, "unexpected shape" if self.is_converted else "not an image")
        rows = [self.row(image.tobytes() if self.is_converted else image) for image in images]
        predicted = [self.labels[int(np.argmax(row))] for row in rows]
        names = [list(self.labels)] * len(rows)
        return {"probabilities": np.float32(rows).tolist(), "predicted": predicted, "class_names": names}


def respond(plan: Plan, method: str, path: str, body: bytes, json_length: int) -> Any:
    protocol = path.split("/")[1]
    if protocol not in plan.protocols:
        raise Refused(404, "Not Found")
    if path == "/v2":
        return V2_ABOUT
    if path == "/v1/models":
        return {"models": [plan.model_name]}
    if path == "/v2/repository/index" and method == "POST":
        return [{"name": plan.model_name, "version": "1", "state": "READY"}]
    root, verb = path[: len("/v1/models/")], unquote(path[len("/v1/models/") :])
    if root not in ("/v1/models/", "/v2/models/") or not verb.startswith(plan.model_name):
        raise Refused(404, f"Request for unknown model: {verb!r} is not found")
    verb = verb.removeprefix(plan.model_name)
    if protocol == "v1":
        return _v1(plan, verb, body)
    return _v2(plan, verb, body, json_length)


def _v1(plan: Plan, verb: str, body: bytes) -> Any:
    if verb == "":
        return {"name": plan.model_name, "ready": True}
    assert verb == ":predict"
    instances = json.loads(body)["instances"]
    if plan.is_converted:
        outputs = plan.predict([np.float32(instance) for instance in instances])
        return {"predictions": outputs["probabilities"]}
    outputs = plan.predict([base64.b64decode(instance["b64"], validate=True) for instance in instances])
    return {
        "predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    }


def _v2(plan: Plan, verb: str, body: bytes, json_length: int) -> Any:
    image = ("images", "FP32", [-1, SIZE, SIZE, 3]) if plan.is_converted else ("image_bytes", "BYTES", [-1])
    outputs: list[Any] = [("probabilities", "FP32", [-1, 3])]
    if not plan.is_converted:
        outputs += [("predicted", "BYTES", [-1]), ("class_names", "BYTES", [-1, 3])]
    if verb == "":
        inputs, described = ([dict(zip(("name", "datatype", "shape"), tensor, strict=True)) for tensor in tensors] for tensors in ([image], outputs))  # fmt: skip
        return {"name": plan.model_name, "versions": ["1"], "inputs": inputs, "outputs": described}
    if verb == "/ready":
        return {"name": plan.model_name, "ready": True}
    assert verb == "/infer"
    request = json.loads(body[:json_length])
    (tensor,) = request["inputs"]
    assert (tensor["name"], tensor["datatype"]) == image[:2]
    if plan.is_converted:
        images = list(np.float32(tensor["data"]).reshape(tensor["shape"]))
    else:
        raw, images = body[json_length:], []
        assert tensor["parameters"] == {"binary_data_size": len(raw)}
        while raw:
            (length,) = struct.unpack("<I", raw[:4])
            images.append(raw[4 : 4 + length])
            raw = raw[4 + length :]
        assert tensor["shape"] == [len(images)]
    values = plan.predict(images)
    return {
        "outputs": [
            _output(plan, wanted["name"], values, wanted.get("parameters")) for wanted in request["outputs"]
        ]
    }


def _output(plan: Plan, name: str, values: dict[str, Any], parameters: Any) -> dict[str, Any]:
    array, datatype = np.array(values[name]), "FP32" if name == "probabilities" else "BYTES"
    if parameters:
        order = np.argsort(-array)[:, : parameters["classification"]]
        array = np.array([[f"{row[k]:f}:{k}:{plan.labels[k]}" for k in ks] for row, ks in zip(array, order, strict=True)])  # fmt: skip
        datatype = "BYTES"
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


@contextmanager
def kserve(plan: Plan) -> Iterator[int]:
    """Run a simulated KServe server. Yield its port."""

    def send(request: Any) -> None:
        method, path, body = request.command, request.path, request.body
        length = int(request.headers.get("Inference-Header-Content-Length", len(body)))
        status = 200
        try:
            response = respond(plan, method, path, body, length)
            verb = unquote(path).partition(plan.model_name)[2] if plan.model_name in unquote(path) else path
            response = plan.change(f"{path[1:3]} {verb}", response)
        except Refused as refusal:
            status, response = refusal.status, {"error": refusal.reason}
        if callable(response):
            response(request)
        else:
            sending(response, status)(request)

    with canned(send) as port:
        yield port
