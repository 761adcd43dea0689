"""A simulated server without a network, and servers that send wrong responses."""

import hashlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kerastl.export import ExpectedPredictions, Finding
from kerastl.export.live import check_live
from kerastl.export.live_clients import Server
from kerastl.export.manifest import Manifest
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.stand_in_model import Model
from tests.export.stand_in_rest import wrong
from tests.export.stand_in_server import LOOPBACK, StandIn

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses without a proxy."""
Row = tuple[list[bytes], list[float], bytes]
"""The response for one image: class names, probabilities, predicted class name."""


def formula(image: bytes) -> list[float]:
    """Return the probabilities of the model that is no network but a sum over the image's bytes."""
    powers = np.frombuffer(hashlib.sha256(image).digest()[:3], np.uint8) + 1.0
    return list(powers / powers.sum())


def _info(dtype: tf.DType, *shape: int) -> Any:
    tensor_shape = tf.TensorShape([None if side < 0 else side for side in shape]).as_proto()
    return meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=tensor_shape)


def _signatures() -> dict[str, Any]:
    strings, floats = _info(tf.string, -1, 3), _info(tf.float32, -1, 3)
    return {
        "serving_default": meta_graph_pb2.SignatureDef(
            inputs={"image_bytes": _info(tf.string, -1)},
            outputs={"probabilities": floats, "class_names": strings, "predicted": _info(tf.string, -1)},
            method_name="tensorflow/serving/predict",
        ),
        "classify": meta_graph_pb2.SignatureDef(
            inputs={"inputs": _info(tf.string, -1)},
            outputs={"classes": strings, "scores": floats},
            method_name="tensorflow/serving/classify",
        ),
        "__saved_model_init_op": meta_graph_pb2.SignatureDef(),
    }


class Drawn(Model):
    """A model for the simulated server without a graph: its predictions are those of `formula`, changed by `change`."""

    def __init__(self, change: Callable[[Row], Row] = lambda row: row, version: int = 1) -> None:
        self.name, self.version, self.change = "kerastl", version, change
        self.signatures = _signatures()

    def run(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        given = next(iter(inputs.values())).numpy().tolist()
        if name == "classify":
            features = [tf.train.Example.FromString(serialized).features.feature for serialized in given]
            given = [feature["image/encoded"].bytes_list.value[0] for feature in features]
        if any(image.startswith(b"these bytes are not an image") for image in given):
            raise wrong("this is not an image")
        rows = [self.change(self.row(image)) for image in given]
        names = np.array([row[0] for row in rows], object)
        floats = np.array([row[1] for row in rows], np.float32)
        if name == "classify":
            return {"classes": names, "scores": floats}
        predicted = np.array([row[2] for row in rows], object)
        return {"probabilities": floats, "class_names": names, "predicted": predicted}

    def row(self, image: bytes) -> Row:
        names, row = [name.encode() for name in CLASS_NAMES], formula(image)
        return names, row, names[int(np.argmax(row))]


IMAGES = [b"one", b"two", b"three", b"four", b"five", b"six", b"seven"]
ROWS = np.array([formula(image) for image in IMAGES], np.float32)
REFERENCE = ExpectedPredictions(CLASS_NAMES, ROWS, tuple(CLASS_NAMES[index] for index in ROWS.argmax(axis=1)))


@pytest.fixture(scope="session")
def drawn_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `1` with nothing but the signatures in its `saved_model.pb`."""
    saved = saved_model_pb2.SavedModel()
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    for name, signature in _signatures().items():
        meta.signature_def[name].CopyFrom(signature)
    folder = tmp_path_factory.mktemp("drawn") / "1"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    with StandIn(Drawn()) as server:
        yield server


def described(**fields: Any) -> Manifest:
    """Return the manifest of an export of this model, as far as a server is checked with it."""
    defaults: dict[str, Any] = {
        "window": None,
        "max_pixels": 0,
        "model_sha256": "",
        "versions": {},
        "files": {},
    }
    return Manifest(**{"class_names": CLASS_NAMES, "image_size_px": (SIZE, SIZE), **defaults, **fields})


def address(port: int) -> str:
    return f"{LOOPBACK}:{port}"


def server_of(stand_in: StandIn) -> Server:
    return Server(address(stand_in.port), address(stand_in.rest_port))


def ask(
    server: Server,
    export: Path,
    images: Sequence[Any] = IMAGES,
    reference: ExpectedPredictions | None = REFERENCE,
    manifest: Manifest | None = None,
) -> dict[str, Finding]:
    findings = check_live(server, export, manifest or described(), images=images, reference=reference)
    assert len({finding.check for finding in findings}) == len(findings) >= 6
    return {finding.check: finding for finding in findings}


def faults(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.detail for check, finding in findings.items() if not finding.ok}


@contextmanager
def canned(send: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """Run an HTTP server that sends every response with `send`. Yield its port."""

    class Canned(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.close_connection = True
            send(self)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

    server = ThreadingHTTPServer((LOOPBACK, 0), Canned)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sending(content: Any, status: int = 200, **headers: str) -> Callable[[Any], None]:
    """Return a function that always sends the same response: bytes unchanged, other values as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return send
