"""Clients of servers with KServe v1 or KServe v2 (the Open Inference Protocol) over HTTP, such as Triton and `kserve`.

As in `live_clients`, responses are not trusted. A SavedModel receives whole image files, a converted model decoded images.

References:
    https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
    https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/README.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from kerastl.export import live_clients
from kerastl.export.live_clients import PROBABILITIES, Predictions, Server, ServerFault, clean, value_of
from kerastl.export.manifest import Manifest
from kerastl.tasks import SINGLE_LABEL

DETECTION_LIMIT_S = 10.0
"""Time limit for a request that detects the protocol, in seconds."""
DATATYPES = {name: "FP32" if name == PROBABILITIES else "BYTES" for name in SINGLE_LABEL.outputs}
TENSORFLOW_NAMES = {"FP32": "DT_FLOAT", "BYTES": "DT_STRING"}


class KServeClient(live_clients.HttpClient):
    """What KServe v1 and v2 have in common.

    A check that the protocol does not allow raises `NotChecked`.

    Args:
        address: `HOST:PORT`.
        server: Name of the model, and time limit.
        converted: The manifest of a converted model; None for a SavedModel.
    """

    # A server reports an error of the runtime as one of these.
    refusal_codes = ("400", "422", "500")
    option = "--url HOST:PORT"
    protocol = name = ""
    probe, probe_key = "", ""
    """The path of a request that only a server with this protocol answers, and a key of its response."""
    listing = ("GET", "/v1/models")
    """The request for the models of the server."""

    def __init__(self, address: str, server: Server, converted: Manifest | None) -> None:
        super().__init__(address, server)
        self.converted, self.api = converted, self.name
        self.class_names = [] if converted is None else list(converted.class_names)

    def describe(self) -> dict[str, Any]:
        """Return the response to `probe`."""
        try:
            content = self.parse(self.request("GET", self.probe))
            value_of(content, self.probe_key)
        except ServerFault as fault:
            if fault.is_unreachable:
                raise
            text = f"{self.address} does not speak {self.name}: {fault}. Specify the HTTP port of a KServe server: {self.option}"
            raise ServerFault(text) from fault
        return content

    def ready(self) -> str:
        """Return that the model is ready."""
        try:
            return self._check_ready()
        except ServerFault as fault:
            models = ""
            if not fault.is_unreachable:
                with suppress(ServerFault):
                    models = f". Models on the server: {clean(self.request(*self.listing).decode(errors='replace'))}"
            raise ServerFault(f"{fault}{models}", is_unreachable=fault.is_unreachable) from fault

    def _check_ready(self) -> str:
        if str(value_of(self.send("GET", ""), "ready")).lower() != "true":
            raise ServerFault("the model is not ready")
        return "the model is ready"

    def latest_version(self) -> int:
        """Return the version that is served by default."""
        raise live_clients.NotChecked(f"{self.name} reports no version")

    def interface(self) -> dict[str, str]:
        """Return data type and shape of the inputs and of those outputs that are used, as `live.interface_of` does."""
        raise live_clients.NotChecked(f"{self.name} does not describe inputs and outputs")

    def classify(self, _images: Sequence[Any]) -> Predictions:
        """Return the probabilities with the labels of the server."""
        raise live_clients.NotChecked(f"{self.name} has no Classify API")

    def _predictions(self, probabilities: Any, count: int) -> Predictions:
        """Return the probabilities of a converted model, whose responses have no class names, as predictions."""
        outputs = {PROBABILITIES: probabilities, live_clients.CLASS_NAMES: [self.class_names] * count}
        return Predictions.of(outputs, count, has_labels=False)


class KServeV1(KServeClient):
    """KServe v1, whose predict API is the row format of TF Serving."""

    name, protocol = "KServe v1", live_clients.KSERVE_V1
    probe, probe_key = "/v1/models", "models"

    def predict(self, images: Sequence[Any]) -> Predictions:
        """Return the predictions for images."""
        if self.converted is None:
            return super().predict(images)
        rows = self.predict_rows(np.stack(images).tolist())
        rows = [row.get(PROBABILITIES) if isinstance(row, dict) else row for row in rows]
        return self._predictions(rows, len(images))


class KServeV2(KServeClient):
    """KServe v2. Image files are sent by its binary tensor data extension, because JSON cannot represent them."""

    name, protocol = "KServe v2", live_clients.KSERVE_V2
    root = "/v2/models"
    probe, probe_key = "/v2", "name"
    listing = ("POST", "/v2/repository/index")

    def _check_ready(self) -> str:
        about = self.describe()
        # Triton rejects an unknown name only here.
        self.send("GET", "")
        content = self.request("GET", f"{self.path}/ready")
        if content and self.parse(content).get("ready") is False:
            raise ServerFault("the model is not ready")
        return clean(f"the model is ready on {about['name']} {about.get('version', '')}")

    def latest_version(self) -> int:
        """Return the version that is served by default: the highest."""
        versions = map(str, _list_of(self.send("GET", ""), "versions"))
        numbers = [int(version) for version in versions if version.isdecimal() and len(version) < 20]
        if not numbers:
            raise live_clients.NotChecked("the server reports no version")
        return max(numbers)

    def interface(self) -> dict[str, str]:
        """Return data type and shape of the inputs and of those outputs that are used, as `live.interface_of` does."""
        content, tensors = self.send("GET", ""), {}
        for kind in ("input", "output"):
            for tensor in _list_of(content, f"{kind}s"):
                name, shape, datatype = (str(value_of(tensor, key)) for key in ("name", "shape", "datatype"))
                if kind == "input" or name in DATATYPES:
                    text = f"{TENSORFLOW_NAMES.get(datatype, datatype)} {shape.replace('-1', 'n')}"
                    tensors[clean(f"{kind} {name}")] = clean(text)
        if not tensors:
            raise live_clients.NotChecked("the server does not describe inputs and outputs")
        return tensors

    def predict(self, images: Sequence[Any]) -> Predictions:
        """Return the predictions for images."""
        if self.converted is None:
            return Predictions.of(self._infer(images, DATATYPES), len(images))
        return self._predictions(self._infer(images, {PROBABILITIES: "FP32"})[PROBABILITIES], len(images))

    def classify(self, images: Sequence[Any]) -> Predictions:
        """Return the probabilities with the labels of the server, by Triton's classification extension."""
        if self.converted is None:
            return super().classify(images)
        if "classification" not in str(self.describe().get("extensions")):
            raise live_clients.NotChecked("the server does not support the extension that returns labels")
        parameters = {"classification": len(self.class_names)}
        rows = self._infer(images, {PROBABILITIES: "BYTES"}, parameters=parameters)[PROBABILITIES]
        try:
            entries = [[entry.split(":", 2) for entry in row] for row in rows]
            pairs = [[(label, float(score)) for score, _, label in row] for row in entries]
        except (TypeError, ValueError, AttributeError):
            raise ServerFault("the response has no labels. Copy labels.txt next to config.pbtxt") from None
        return Predictions.of_pairs(pairs, len(images))

    def _infer(self, images: Sequence[Any], datatypes: Mapping[str, str], **options: Any) -> dict[str, Any]:
        """Return the outputs with these names and data types as nested lists. `options` are sent with each."""
        tensor: dict[str, Any] = {"name": "image_bytes", "shape": [len(images)], "datatype": "BYTES"}
        raw = b""
        if self.converted is None:
            raw = b"".join(struct.pack("<I", len(image)) + image for image in images)
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            array = np.stack(images)
            tensor = {
                "name": "images",
                "shape": array.shape,
                "datatype": "FP32",
                "data": array.ravel().tolist(),
            }
        wanted = [{"name": name, **options} for name in datatypes]
        response = self.send("POST", "/infer", {"id": "kerastl", "inputs": [tensor], "outputs": wanted}, raw)
        outputs = {str(value_of(output, "name")): output for output in _list_of(response, "outputs")}
        return {name: _nested(name, value_of(outputs, name), kind) for name, kind in datatypes.items()}


def find_kserve(server: Server, converted: Manifest | None) -> KServeClient | None:
    """Return a client of a KServe server, whose protocol is detected if it is not given; None for TF Serving.

    Many servers support both versions of KServe. A SavedModel then uses v1, in which an image file is base64-encoded; a
    converted model uses v2. A converted model always has a client, because TF Serving does not support it.
    """
    address = server.grpc or server.rest or ""
    hurried = replace(server, time_limit_s=min(server.time_limit_s, DETECTION_LIMIT_S))
    kinds: Sequence[type[KServeClient]] = (KServeV1, KServeV2) if converted is None else (KServeV2, KServeV1)
    for kind in kinds:
        try:
            if server.protocol is None:
                kind(address, hurried, converted).describe()
            if server.protocol in (None, kind.protocol):
                return kind(address, server, converted)
        except ServerFault as fault:
            if fault.is_unreachable:
                break
    return None if converted is None else KServeV2(address, server, converted)


def _list_of(content: Any, key: str) -> list[Any]:
    """Return a list in a response; empty if it is null."""
    entries = value_of(content, key)
    if entries is not None and not isinstance(entries, list):
        raise ServerFault(f"{key!r} is not a list")
    return entries or []


def _nested(name: str, tensor: Any, datatype: str) -> Any:
    """Return a tensor of KServe v2 as nested lists.

    Raises:
        ServerFault: It has a different data type, or its shape does not agree with its data.
    """
    served, shape, data = (value_of(tensor, key) for key in ("datatype", "shape", "data"))
    if served != datatype:
        raise ServerFault(clean(f"{name!r} has the data type {served} instead of {datatype}"))
    with suppress(ValueError, OverflowError, TypeError):
        if isinstance(data, list) and min(shape, default=0) >= 0:
            return np.asarray(data, dtype=object).reshape(shape).tolist()
    count = len(data) if isinstance(data, list) else "no list of"
    raise ServerFault(clean(f"{name!r} has shape {shape} but {count} values"))
