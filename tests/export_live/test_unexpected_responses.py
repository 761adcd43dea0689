"""`check_live` without a server, or with another one: a finding with the next command instead of a traceback."""

import socket
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from kerastl.export.live_clients import MAX_BYTES, Server
from tests.export.stand_in_server import LOOPBACK, Models, Predictions, StandIn
from tests.export_live.conftest import Drawn, address, ask, canned, faults, sending


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        return int(taken.getsockname()[1])


def test_an_unreachable_server_is_one_finding_per_api_with_the_next_command(drawn_export: Path) -> None:
    dead = address(free_port())
    findings = ask(Server(dead, dead), drawn_export)
    assert set(faults(findings)) == {"gRPC: available", "REST: available"}
    assert "docker compose up" in findings["gRPC: available"].detail
    assert "--url HOST:PORT" in findings["gRPC: available"].detail
    assert "--rest-url HOST:PORT" in findings["REST: available"].detail
    assert findings["REST: columns"].passed is None


def test_swapped_ports_are_reported(stand_in: StandIn, drawn_export: Path) -> None:
    server = Server(address(stand_in.rest_port), address(stand_in.port))
    messages = faults(ask(server, drawn_export))
    assert set(messages) == {"gRPC: available", "REST: available"}
    assert "--url HOST:8500 --rest-url HOST:8501" in messages["REST: available"]


def endless(request: Any) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(b" " * 2**20)
    except OSError:
        pass


PAGE = b"<html><script>alert(1)</script>Log in</html>"
HOSTILE = {
    "a page": (sending(PAGE), "this is not TF Serving"),
    "an error page": (sending(PAGE, 502), "HTTP 502: <html>"),
    "a redirect": (sending(b"", 302, Location="http://127.0.0.1:1/"), "HTTP 302"),
    "no end": (endless, "more than 16 MiB"),
    "a list": (sending([1]), "no JSON object"),
    "too deep": (sending(b"[" * 500_000), "no JSON object"),
    "no keys": (sending({}), "version 1 is not available"),
    "other types": (sending({"model_version_status": 3, "predictions": [{}]}), "is not a GetModelStatus"),
    "half of it": (sending(b"{", **{"Content-Length": "90"}), "closed the connection"),
    "a terminal's commands": (sending({"error": "\x1b[2J\u202egone"}, 503), "HTTP 503: [2Jgone"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_any_unexpected_rest_response_is_a_finding(what: str, drawn_export: Path) -> None:
    send, words = HOSTILE[what]
    with canned(send) as port:
        messages = faults(ask(Server(None, address(port)), drawn_export))
    assert words in messages["REST: available"]
    assert all(detail.isprintable() and len(detail) < 600 for detail in messages.values())


@pytest.mark.parametrize("how", ["nothing", "a byte now and then"])
def test_a_response_that_never_ends_times_out(how: str, drawn_export: Path) -> None:
    gone = threading.Event()

    def slow(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        try:
            while not gone.wait(0.05):
                if how != "nothing":
                    request.wfile.write(b" ")
        except OSError:
            pass

    with canned(slow) as port, socket.create_server((LOOPBACK, 0)) as silent:
        grpc_address = address(silent.getsockname()[1])
        server = Server(grpc_address, address(port), time_limit_s=0.3)
        findings = ask(server, drawn_export)
        gone.set()
    assert set(faults(findings)) == {"gRPC: available", "REST: available"}
    assert "no complete response" in findings["REST: available"].detail
    assert "within 0.3 seconds" in findings["gRPC: available"].detail


class Lying(Predictions):
    """Correct except for one output of Predict, which is changed."""

    lie: Any = None

    def Predict(self, request: Any, context: Any) -> Any:
        response = super().Predict(request, context)
        type(self).lie(response.outputs)
        return response


def claim_more(outputs: Any) -> None:
    outputs["probabilities"].CopyFrom(tf.make_tensor_proto([[0.5]]))
    outputs["probabilities"].tensor_shape.dim[1].size = 10**12


def leave_out(outputs: Any) -> None:
    del outputs["predicted"]


def swell(outputs: Any) -> None:
    outputs["more"].CopyFrom(tf.make_tensor_proto(np.zeros(MAX_BYTES, np.uint8)))


def no_text(outputs: Any) -> None:
    outputs["predicted"].CopyFrom(tf.make_tensor_proto([b"\xff"]))


def half(outputs: Any) -> None:
    rows = tf.make_ndarray(outputs["probabilities"])
    outputs["probabilities"].CopyFrom(tf.make_tensor_proto(rows, tf.bfloat16))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (claim_more, "has shape [1, 1000000000000] but 1 values"),
        (leave_out, "no 'predicted'"),
        (swell, "RESOURCE_EXHAUSTED"),
        (no_text, "not UTF-8"),
        (half, "has shape [1, 3] but 1 values"),
    ],
)
def test_any_unexpected_grpc_response_is_a_finding(lie: Any, words: str, drawn_export: Path) -> None:
    model = Drawn()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = type("Liar", (Lying,), {"lie": staticmethod(lie)})(model)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(model), server)
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    messages = faults(ask(Server(address(port), None), drawn_export))
    server.stop(0).wait()
    assert words in messages["gRPC: predictions"]
