"""Clients of a running TensorFlow Serving, by gRPC and by REST: the same requests, the same checked results.

Responses are not trusted: their size is limited, types and shapes are checked, and text is reduced to one
printable line. Images are sent only to the given server: no proxy is used, and redirects are not followed.
Importing this module does not import TensorFlow.

References:
    https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from kerastl.errors import Problem, raise_problems
from kerastl.export._probe import as_texts
from kerastl.export.graph_check import CLASSIFY, ENCODED, put_image
from kerastl.recipe import MODEL_NAME
from kerastl.tasks import SINGLE_LABEL

Floats = npt.NDArray[np.float32]

GRPC_PORT = 8500
REST_PORT = 8501
TF_SERVING, KSERVE_V1, KSERVE_V2 = "tf_serving", "kserve_v1", "kserve_v2"
DEFAULT_PORTS = {TF_SERVING: GRPC_PORT, KSERVE_V1: 8080, KSERVE_V2: 8000}
"""Default ports by protocol: TF Serving's gRPC, `kserve`, and Triton's HTTP."""
JSON_LENGTH = "Inference-Header-Content-Length"
"""The header of a request in KServe v2 whose JSON is followed by other bytes."""
TIME_LIMIT_S = 60.0
MODEL_NAMES = re.compile(r"[^/:]*[^/:\s][^/:]*")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+)(?::([0-9]{1,5}))?")
"""A host, with brackets around an IPv6 address, and perhaps a port."""
MAX_BYTES = 16 * 2**20
"""Largest response that is read: thirty times what four images and a thousand classes need."""
MAX_TEXT_LENGTH = 200
PROBABILITIES, PREDICTED, CLASS_NAMES = SINGLE_LABEL.outputs


@dataclass(frozen=True)
class Server:
    """A running server: TensorFlow Serving, or one that speaks KServe.

    Args:
        grpc: `HOST:PORT`, with brackets around an IPv6 address; None to skip gRPC. For KServe, the HTTP address.
        rest: The same for REST; None to skip it.
        model_name: The server's name for the model.
        time_limit_s: Time limit for one request, in seconds.
        protocol: A key of `DEFAULT_PORTS`; None to detect it.
    """

    grpc: str | None
    rest: str | None
    model_name: str = MODEL_NAME
    time_limit_s: float = TIME_LIMIT_S
    protocol: str | None = None


def read_server(
    url: str | None, rest_url: str | None, model_name: str | None = None, protocol: str | None = None
) -> Server | None:
    """Return the server that is given by command-line options.

    Args:
        url: `HOST` or `HOST:PORT` of gRPC; REST is on the same host unless `rest_url` names another. For KServe, the
            HTTP address.
        rest_url: `HOST` or `HOST:PORT` of REST; without `url` only REST is used.
        model_name: The server's name for the model; None for `kerastl`.
        protocol: A key of `DEFAULT_PORTS`; None to detect it.

    Returns:
        None if neither address is given.

    Raises:
        Problems: An address or the name is malformed, or `rest_url` is given for KServe.
    """
    if url is None and rest_url is None:
        return None
    problems: list[Problem] = []
    grpc = _address("--url", url, DEFAULT_PORTS[protocol or TF_SERVING], problems)
    rest = _address("--rest-url", rest_url, REST_PORT, problems)
    if rest_url is not None and protocol in (KSERVE_V1, KSERVE_V2):
        problems.append(Problem("--rest-url", f"{protocol} has one address. Use --url instead."))
    model_name = MODEL_NAME if model_name is None else model_name
    if not MODEL_NAMES.fullmatch(model_name):
        problems.append(Problem("--model-name", f"{model_name!r} must not be blank or contain '/' or ':'."))
    raise_problems("The address of the server", problems)
    if rest_url is None and grpc is not None:
        rest = f"{_host(grpc)}:{REST_PORT}"
    return Server(grpc, rest, model_name, protocol=protocol)


def _address(option: str, text: str | None, default_port: int, problems: list[Problem]) -> str | None:
    """Return `HOST:PORT`, or None if there is no text or it is malformed, which adds a problem."""
    match = ADDRESS.fullmatch(text or "")
    port = int(match[2] or default_port) if match else 0
    if match is not None and 0 < port < 2**16:
        return f"{match[1]}:{port}"
    if text is not None:
        problem = f"{text!r} must be HOST or HOST:PORT, e.g. localhost:{default_port}."
        problems.append(Problem(option, problem))
    return None


def _host(address: str) -> str:
    return address.rpartition(":")[0]


class NotChecked(Exception):
    """A check that does not apply or cannot be performed. The message states why."""


class ServerFault(Exception):
    """A server is unreachable or its response is wrong. The message states the fault and what to type next.

    Args:
        text: One line.
        is_unreachable: Whether the server is unreachable, so that further requests are useless.
        code: Status code of the response to a request that the server refused; empty for other faults.
        reason: The server's reason, one line.
    """

    def __init__(self, text: str, *, is_unreachable: bool = False, code: str = "", reason: str = "") -> None:
        self.is_unreachable, self.code, self.reason = is_unreachable, code, reason
        super().__init__(text)


@dataclass(frozen=True)
class Predictions:
    """The predictions for n images.

    Args:
        class_names: n rows, each in the order of that row's probabilities.
        probabilities: `[n, classes]` float32, of any value.
        predicted: n names; None for Classify, which returns none.
    """

    class_names: tuple[tuple[str, ...], ...]
    probabilities: Floats
    predicted: tuple[str, ...] | None

    @classmethod
    def of(cls, outputs: Any, count: int, *, has_labels: bool = True) -> Predictions:
        """Return outputs, nested lists by name, as predictions for `count` images.

        Raises:
            ServerFault: An output is missing or is not of that form.
        """
        probabilities = as_floats(value_of(outputs, PROBABILITIES), count)
        names = value_of(outputs, CLASS_NAMES)
        if not isinstance(names, list) or len(names) != count:
            raise ServerFault(f"'class_names' does not have {count} rows")
        rows_of_names = tuple(as_names(row, probabilities.shape[1]) for row in names)
        predicted = as_names(value_of(outputs, PREDICTED), count) if has_labels else None
        return cls(rows_of_names, probabilities, predicted)

    @classmethod
    def of_pairs(cls, rows: Any, count: int) -> Predictions:
        """Return predictions for `count` images, given the pairs of label and score of each image.

        Raises:
            ServerFault: They are not of that form.
        """
        try:
            outputs = {
                CLASS_NAMES: [[label for label, _ in row] for row in rows],
                PROBABILITIES: [[score for _, score in row] for row in rows],
            }
        except (TypeError, ValueError):
            raise ServerFault("'results' is not a list of pairs of label and score") from None
        return cls.of(outputs, count, has_labels=False)


class GrpcClient:
    """TensorFlow Serving by gRPC, with the stubs of `tensorflow-serving-api`. Each method raises `ServerFault`."""

    name = "gRPC"
    refusal_codes: tuple[str, ...] = ("INVALID_ARGUMENT",)
    """The codes of the response to an image that cannot be decoded."""

    def __init__(self, address: str, server: Server) -> None:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address, self.server = address, server
        options = [("grpc.max_receive_message_length", MAX_BYTES), ("grpc.enable_http_proxy", 0)]
        # With the scheme, because a host may be named `unix`.
        self._channel = grpc.insecure_channel(f"dns:///{address}", options=options)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> Any:
        """Return the `GetModelStatusResponse`: version, state and error of each version."""
        from tensorflow_serving.apis import get_model_status_pb2

        return self._send(self._models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest())

    def metadata(self) -> tuple[int, Any]:
        """Return the version that is served by default, and the `SignatureDefMap`."""
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        response = self._send(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with suppress(DecodeError):
            if response.metadata["signature_def"].Unpack(signatures):
                return response.model_spec.version.value, signatures
        raise ServerFault("the metadata contain no signature_def")

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Return the predictions for whole image files."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(images), tf.string))
        outputs = self._send(self._predictions.Predict, request).outputs
        values = {
            name: _tensor_values(name, outputs[name]) for name in SINGLE_LABEL.outputs if name in outputs
        }
        return Predictions.of(values, len(images))

    def classify(self, images: Sequence[bytes]) -> Predictions:
        """Return the results of the Classify API for whole image files."""
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        request.model_spec.signature_name = CLASSIFY
        for image in images:
            put_image(request.input.example_list.examples.add(), image)
        rows = self._send(self._predictions.Classify, request).result.classifications
        pairs = [[(pair.label, pair.score) for pair in row.classes] for row in rows]
        return Predictions.of_pairs(pairs, len(images))

    def _send(self, method: Any, request: Any) -> Any:
        import grpc

        request.model_spec.name = self.server.model_name
        try:
            return method(request, timeout=self.server.time_limit_s)
        except grpc.RpcError as error:
            details = error.details() or ""
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerFault(_late(self.address, self.server), is_unreachable=True) from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise ServerFault(
                    f"no gRPC server at {self.address}. Start the server (docker compose up -d in the export's folder), "
                    f"or specify its gRPC address, or the HTTP address of a KServe server: --url HOST:PORT ({clean(details)})",
                    is_unreachable=True,
                ) from error
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                text = f"the gRPC server at {self.address} is not TF Serving. For KServe, use its HTTP port: --url HOST:PORT"
                raise ServerFault(text, is_unreachable=True) from error
            is_unknown = error.code() == grpc.StatusCode.NOT_FOUND
            raise _refused(self.server, error.code().name, error.code().name, details, is_unknown) from error


def _refused(server: Server, title: str, code: str, reason: str, is_unknown: bool) -> ServerFault:
    """Return the fault for a request that a server rejected, possibly because it does not serve the model."""
    text = f"{title}: {clean(reason)}"
    if is_unknown:
        text = f"{text.rstrip('.')}. If the model is not named {server.model_name!r}, use --model-name NAME"
    return ServerFault(text, code=code, reason=reason_in(reason))


def _tensor_values(name: str, tensor: Any) -> Any:
    """Return a tensor as nested lists.

    Raises:
        ServerFault: Its shape does not agree with its values, or a text is not UTF-8.
    """
    import tensorflow as tf

    shape = [dim.size for dim in tensor.tensor_shape.dim]
    # A shape may claim more values than there are; they would be filled up with copies of the last one.
    held = len(tensor.float_val) or len(tensor.string_val) or len(tensor.tensor_content) // 4
    if min(shape, default=0) < 0 or math.prod(shape) != held:
        raise ServerFault(f"{name!r} has shape {shape} but {held} values")
    try:
        return as_texts(tf.make_ndarray(tensor).tolist())
    except UnicodeDecodeError:
        raise ServerFault(f"{name!r} is not UTF-8 text") from None
    except (TypeError, ValueError) as error:
        raise ServerFault(f"{name!r} cannot be read: {clean(str(error))}") from error


class HttpClient:
    """A model on a server, over HTTP and JSON, with the standard library. Each method raises `ServerFault`."""

    refusal_codes: tuple[str, ...] = ("400",)
    root = "/v1/models"
    api = "TF Serving's REST API"
    option = "--rest-url HOST:PORT"

    def __init__(self, address: str, server: Server) -> None:
        self.address, self.server = address, server
        self.path = f"{self.root}/{quote(server.model_name, safe='')}"

    def close(self) -> None:
        """Do nothing: each request has its own connection."""

    def send(self, method: str, verb: str, payload: Any = None, raw: bytes = b"") -> dict[str, Any]:
        """Return the JSON object of a response of the model. `verb` is what follows its name in the path."""
        return self.parse(self.request(method, f"{self.path}{verb}", payload, raw))

    def request(self, method: str, path: str, payload: Any = None, raw: bytes = b"") -> bytes:
        """Return the content of a successful response. `raw` is sent after `payload`, which is sent as JSON."""
        status, content = self._exchange(method, path, payload, raw)
        if status != http.client.OK:
            is_unknown = status == http.client.NOT_FOUND and path.startswith(self.path)
            raise _refused(self.server, f"HTTP {status}", str(status), _error_in(content), is_unknown)
        return content

    def parse(self, content: bytes) -> dict[str, Any]:
        """Return a response as a JSON object."""
        with suppress(ValueError, RecursionError):
            response = json.loads(content)
            if isinstance(response, dict):
                if isinstance(response.get("error"), str):
                    raise ServerFault(f"HTTP 200 with an error: {clean(response['error'])}")
                return response
        start = clean(content[:60].decode(errors="replace"))
        raise ServerFault(
            f"no JSON object from {self.address} but {start!r}: this is not {self.api}. "
            f"Specify its address: {self.option}"
        )

    def predict_rows(self, instances: list[Any]) -> list[Any]:
        """Return the predictions for instances, in the row format."""
        rows = value_of(self.send("POST", ":predict", {"instances": instances}), "predictions")
        if not isinstance(rows, list) or len(rows) != len(instances):
            raise ServerFault(f"'predictions' is not a list of {len(instances)} objects")
        return rows

    def predict(self, images: Sequence[Any]) -> Predictions:
        """Return the predictions for whole image files, in the row format."""
        rows = self.predict_rows(as_base64(images))
        columns = {name: [value_of(row, name) for row in rows] for name in SINGLE_LABEL.outputs}
        return Predictions.of(columns, len(images))

    def _exchange(self, method: str, path: str, payload: Any, raw: bytes) -> tuple[int, bytes]:
        limit_s = self.server.time_limit_s
        body = None if payload is None else json.dumps(payload).encode()
        headers = {"Content-Type": "application/octet-stream" if raw else "application/json"}
        if body is not None and raw:
            headers[JSON_LENGTH] = str(len(body))
            body += raw
        is_late = threading.Event()
        try:
            with closing(http.client.HTTPConnection(self.address, timeout=limit_s)) as connection:
                connection.connect()
                # A socket's timeout is for each read: a server that sends a byte now and then never exceeds it.
                watchdog = threading.Timer(limit_s, _hang_up, [connection.sock, is_late])
                watchdog.start()
                try:
                    connection.request(method, path, body, headers)
                    response = connection.getresponse()
                    content = response.read(MAX_BYTES + 1)
                    if response.length and len(content) <= MAX_BYTES:
                        raise http.client.IncompleteRead(content, response.length)
                finally:
                    watchdog.cancel()
        except (OSError, http.client.HTTPException) as error:
            text = self._why_unreachable(TimeoutError() if is_late.is_set() else error)
            raise ServerFault(text, is_unreachable=True) from error
        if len(content) > MAX_BYTES:
            raise ServerFault(f"a response of more than {MAX_BYTES // 2**20} MiB was not read")
        return response.status, content

    def _why_unreachable(self, error: Exception) -> str:
        address, text = self.address, clean(f"{type(error).__name__}: {error}")
        match error:
            case ConnectionRefusedError():
                return f"no server listens at {address}. Start it as in the export's README.md, or specify its HTTP address: {self.option}"
            case socket.gaierror():
                return f"unknown host {clean(_host(address).strip('[]'))}: {self.option}"
            case TimeoutError():
                return _late(address, self.server)
            case http.client.IncompleteRead() | ConnectionError():
                return f"{address} closed the connection within a response. See the server's log"
            case OSError():
                return f"{address} cannot be reached ({text}): {self.option}"
        return f"{address} does not speak HTTP ({text}). gRPC uses a different port: --url HOST:8500 --rest-url HOST:8501"


class RestClient(HttpClient):
    """TensorFlow Serving over REST: the methods of `GrpcClient`, and the columnar format."""

    name = "REST"

    def status(self) -> Any:
        """Return the `GetModelStatusResponse`."""
        from tensorflow_serving.apis import get_model_status_pb2

        return _message(self.send("GET", ""), get_model_status_pb2.GetModelStatusResponse())

    def metadata(self) -> tuple[int, Any]:
        """Return the version that is served by default, and the `SignatureDefMap`."""
        from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

        content = self.send("GET", "/metadata")
        spec = _message(value_of(content, "model_spec"), model_pb2.ModelSpec())
        signatures = value_of(value_of(content, "metadata"), "signature_def")
        return spec.version.value, _message(signatures, get_model_metadata_pb2.SignatureDefMap())

    def predict_columns(self, images: Sequence[bytes]) -> Predictions:
        """Return the predictions for whole image files, in the columnar format."""
        content = self.send("POST", ":predict", {"inputs": {"image_bytes": as_base64(images)}})
        return Predictions.of(value_of(content, "outputs"), len(images))

    def classify(self, images: Sequence[bytes]) -> Predictions:
        """Return the results of the Classify API for whole image files."""
        examples = [{ENCODED: image} for image in as_base64(images)]
        content = self.send("POST", ":classify", {"signature_name": CLASSIFY, "examples": examples})
        # The documentation calls the key `result`, the server's code `results`.
        pairs = value_of(content, "results" if "results" in content else "result")
        return Predictions.of_pairs(pairs, len(images))


def _hang_up(connected: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _late(address: str, server: Server) -> str:
    return f"no complete response from {address} within {server.time_limit_s:g} seconds. See the server's log"


def _error_in(content: bytes) -> str:
    """Return the server's reason: `{"error": ...}`, or else the raw response."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return content[:200].decode(errors="replace") or "without a reason"


def value_of(content: Any, key: str) -> Any:
    """Return a value of a JSON object.

    Raises:
        ServerFault: It is not an object, or has no such key.
    """
    if not isinstance(content, Mapping) or key not in content:
        raise ServerFault(f"the response has no {key!r}")
    return content[key]


def _message(content: Any, empty: Any) -> Any:
    """Return JSON as the protocol buffer that it represents."""
    from google.protobuf import json_format

    with suppress(json_format.Error, TypeError, ValueError, AttributeError):
        if isinstance(content, dict):
            return json_format.ParseDict(content, empty, ignore_unknown_fields=True)
    raise ServerFault(f"the response is not a {empty.DESCRIPTOR.name}")


def as_base64(images: Sequence[bytes]) -> list[dict[str, str]]:
    """Return image files as TF Serving's JSON."""
    return [{"b64": base64.b64encode(image).decode()} for image in images]


def clean(text: str) -> str:
    """Return text from a server as one short line, without terminal control characters."""
    words = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return words if len(words) <= MAX_TEXT_LENGTH else f"{words[: MAX_TEXT_LENGTH - 3]}..."


def reason_in(text: str) -> str:
    """Return why TensorFlow rejected an input, without the location in the graph."""
    return clean(text.rpartition("assertion failed: ")[2])


def as_floats(rows: Any, count: int) -> Floats:
    """Return probabilities as an array.

    Raises:
        ServerFault: Not `count` rows of equally many numbers.
    """
    with suppress(ValueError), np.errstate(over="ignore"):
        array = np.asarray(rows)
        if array.ndim == 2 and len(array) == count and array.dtype.kind in "fi":
            return array.astype(np.float32)
    raise ServerFault(f"probabilities do not have {count} rows of equal length")


def as_names(row: Any, count: int) -> tuple[str, ...]:
    """Return class names.

    Raises:
        ServerFault: Not `count` texts.
    """
    if not isinstance(row, list) or len(row) != count or not all(isinstance(name, str) for name in row):
        raise ServerFault(f"a row of class names does not contain {count} strings")
    return tuple(row)
