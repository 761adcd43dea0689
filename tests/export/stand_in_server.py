"""A stand-in for TensorFlow Serving: `python tests/export/stand_in_server.py EXPORT --port 8500 --rest-port 8501`.

It serves a kerastl export over gRPC, with the servicer classes of `tensorflow-serving-api`, and over REST, following
TensorFlow Serving's RESTful API. TensorFlow runs the graph of the export in this Python process.

It runs no code of TensorFlow Serving. It does not test whether TensorFlow Serving loads the export, its warm-up
requests, or its `models.config`, `batching.config` and `monitoring.config`; batching of requests of several clients;
version policies and version changes (it serves one version); metrics; TLS; speed; or differences between the documented
interface and the deployed image. `pytest -m docker` tests the image.

It listens on 127.0.0.1 only.
"""

import argparse
import json
import re
import signal
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.export import stand_in_rest as rest
from tests.export.stand_in_model import Model
from tests.export.stand_in_rest import Refused, wrong

LOOPBACK = "127.0.0.1"
HTTP_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404, "UNIMPLEMENTED": 501}  # fmt: skip
POST_PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.I
)
GET_PATH = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.I)


def answered(context: grpc.ServicerContext, answer: Any, *given: Any) -> Any:
    try:
        return answer(*given)
    except Refused as refusal:
        return context.abort(grpc.StatusCode[refusal.code], refusal.text)


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model: Model) -> None:
        self.model = model

    def Predict(self, request: Any, context: Any) -> Any:
        return answered(context, self.model.predict, request)

    def Classify(self, request: Any, context: Any) -> Any:
        return answered(context, self.model.classify, request)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Metadata field is not supported")
        return answered(context, self.model.metadata, request.model_spec)


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model: Model) -> None:
        self.model = model

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        return answered(context, self.model.status, request.model_spec)


def rest_answer(model: Model, method: str, path: str, body: bytes) -> dict[str, Any]:
    match = (POST_PATH if method == "POST" else GET_PATH).fullmatch(path)
    if match is None:
        raise wrong(f"Malformed request: {method} {path}")
    name, version, label, verb = match.groups()
    if not name:
        raise wrong("Missing model name in request.")
    spec = model_pb2.ModelSpec(name=unquote(name))
    if version:
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    if method == "GET":
        return metadata_json(model.metadata(spec)) if verb else status_json(model.status(spec))
    content = rest.parsed(body)
    spec.signature_name = content.get("signature_name", "")
    if verb.lower() == "classify":
        classification = classification_pb2.ClassificationRequest(model_spec=spec)
        rest.fill_classify(content, classification)
        return rest.classify_json(model.classify(classification).result)
    if verb.lower() == "regress":
        raise wrong("Expected a regression signature")
    request = predict_pb2.PredictRequest(model_spec=spec)
    key = rest.fill_predict(content, model.signature(spec).inputs, request)
    return rest.predict_json(model.predict(request).outputs, key)


def status_json(response: Any) -> Any:
    return json_format.MessageToDict(response, always_print_fields_with_no_presence=True)


def metadata_json(response: Any) -> Any:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    options = {"always_print_fields_with_no_presence": True, "preserving_proto_field_name": True}
    return {
        "model_spec": json_format.MessageToDict(response.model_spec, **options),
        "metadata": {"signature_def": json_format.MessageToDict(signatures, **options)},
    }


class RestRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        if not self.path.lower().startswith("/v1/"):
            return self.send_error(404)
        try:
            status, content = 200, rest_answer(self.model, self.command, self.path, body)
        except Refused as refusal:
            status, content = HTTP_STATUS.get(refusal.code, 500), {"error": refusal.text}
        written = json.dumps(content, indent=4).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)
        return None


class StandIn:
    """Both servers, running until `stop` or the end of a `with`; port 0 takes a free one."""

    def __init__(self, model: Model, *, port: int = 0, rest_port: int = 0) -> None:
        self.model = model
        # Larger than gRPC's own 4 MiB, as in TensorFlow Serving.
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._grpc = grpc.server(futures.ThreadPoolExecutor(2), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(model), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(model), self._grpc)
        self.port = self._grpc.add_insecure_port(f"{LOOPBACK}:{port}")
        self._rest = ThreadingHTTPServer(
            (LOOPBACK, rest_port), type("Asked", (RestRequest,), {"model": model})
        )
        self.rest_port = self._rest.server_address[1]
        self._grpc.start()
        self._thread = threading.Thread(target=self._rest.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._rest.shutdown()
        self._thread.join()
        self._rest.server_close()
        self._grpc.stop(0).wait()

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *reason: Any) -> None:
        self.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest-port", type=int, default=8501)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    model = Model(options.export)
    with StandIn(model, port=options.port, rest_port=options.rest_port) as server:
        where = f"gRPC {server.port}, REST {server.rest_port}"
        print(f"{model.name} version {model.version}: {where}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
