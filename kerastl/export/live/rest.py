"""Ask TF Serving by REST, with the standard library alone: no proxy and no redirect, so that pictures go nowhere else.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from kerastl.export.live.answers import (
    CLASSIFY,
    MOST_BYTES,
    Answers,
    LiveFault,
    as_floats,
    as_names,
    clean,
    reason_in,
)
from kerastl.export.live.server import Address
from kerastl.export.tf_example import ENCODED

NO_PICTURE = "400"
"""The status of an answer to a picture that cannot be decoded."""
NOT_FOUND = 404


class RestClient:
    """TF Serving's REST interface.

    Args:
        address: host and port.
        model_name: what the server calls the model.
        time_limit_s: for one exchange, from the first byte sent to the last one read.
    """

    name = "REST"
    refusal_of_no_picture = NO_PICTURE

    def __init__(self, address: Address, model_name: str, time_limit_s: float) -> None:
        self.address, self.model_name, self.time_limit_s = address, model_name, time_limit_s

    def close(self) -> None:
        """Do nothing: each question has a connection of its own."""

    def status(self) -> Any:
        """Return the `GetModelStatusResponse`: version, state and error of each version."""
        from tensorflow_serving.apis import get_model_status_pb2

        return _message(self._asked("GET", ""), get_model_status_pb2.GetModelStatusResponse())

    def metadata(self) -> tuple[int, Any]:
        """Return the version that answers, and the `SignatureDefMap`."""
        from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

        content = self._asked("GET", "/metadata")
        spec = _message(_under(content, "model_spec"), model_pb2.ModelSpec())
        signatures = _under(_under(content, "metadata"), "signature_def")
        return spec.version.value, _message(signatures, get_model_metadata_pb2.SignatureDefMap())

    def predict(self, pictures: Sequence[bytes]) -> Answers:
        """Return the answers for whole picture files, asked in the row format."""
        rows = _under(self._predicted({"instances": _encoded(pictures)}), "predictions")
        if not isinstance(rows, list) or len(rows) != len(pictures):
            raise LiveFault(f"'predictions' is not a list of {len(pictures)} objects")
        names = ("probabilities", "class_names", "predicted")
        return _answers({name: [_under(row, name) for row in rows] for name in names}, pictures)

    def predict_columns(self, pictures: Sequence[bytes]) -> Answers:
        """Return the answers for whole picture files, asked in the columnar format."""
        question = {"inputs": {"image_bytes": _encoded(pictures)}}
        return _answers(_under(self._predicted(question), "outputs"), pictures)

    def classify(self, pictures: Sequence[bytes]) -> Answers:
        """Return what the Classify interface answers for whole picture files."""
        examples = [{ENCODED: one} for one in _encoded(pictures)]
        question = {"signature_name": CLASSIFY, "examples": examples}
        content = self._asked("POST", ":classify", question)
        # The documentation calls the key `result`, the server's code `results`.
        rows = _under(content, "results" if "results" in content else "result")
        try:
            pairs = [list(zip(*row, strict=True)) for row in rows]
            names, scores = [list(one[0]) for one in pairs], [one[1] for one in pairs]
        except (TypeError, ValueError, IndexError):
            raise LiveFault("'results' is not a list of pairs of label and score") from None
        probabilities = as_floats(scores, len(pictures))
        count = probabilities.shape[1]
        return Answers(tuple(as_names(row, count) for row in names), probabilities, None)

    def refusal(self, picture: bytes) -> tuple[str, str]:
        """Return the status and the words of the answer to a picture that cannot be decoded."""
        status, content = self._exchange("POST", ":predict", {"instances": _encoded([picture])})
        return str(status), "" if status == http.client.OK else reason_in(_error_in(content))

    def _predicted(self, question: dict[str, Any]) -> dict[str, Any]:
        return self._asked("POST", ":predict", question)

    def _asked(self, method: str, verb: str, question: Any = None) -> dict[str, Any]:
        status, content = self._exchange(method, verb, question)
        if status == http.client.OK:
            return _json(content, self.address)
        said = clean(_error_in(content))
        if status == NOT_FOUND:
            said += f". If the model has another name than {self.model_name!r}: --model-name NAME"
        raise LiveFault(f"HTTP {status}: {said}")

    def _exchange(self, method: str, verb: str, question: Any) -> tuple[int, bytes]:
        path = f"/v1/models/{quote(self.model_name, safe='')}{verb}"
        body = None if question is None else json.dumps(question).encode()
        connection = http.client.HTTPConnection(
            self.address.host, self.address.port, timeout=self.time_limit_s
        )
        begun = None
        try:
            connection.connect()
            begun = time.monotonic()
            # A time-out of a socket is for each read alone: a server that sends a byte now and then has none.
            watch = threading.Timer(self.time_limit_s, _hang_up, [connection.sock])
            watch.start()
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read(MOST_BYTES + 1)
                if response.length and len(content) <= MOST_BYTES:
                    raise http.client.IncompleteRead(content, response.length)
            finally:
                watch.cancel()
        except (OSError, http.client.HTTPException) as error:
            late = begun is not None and time.monotonic() - begun >= self.time_limit_s
            reason = TimeoutError() if late else error
            raise LiveFault(_why(reason, self.address, self.time_limit_s), gone=True) from error
        finally:
            connection.close()
        if len(content) > MOST_BYTES:
            raise LiveFault(
                f"an answer of more than {MOST_BYTES // 2**20} MiB was not read further"
            )
        return response.status, content


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _why(error: Exception, address: Address, time_limit_s: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nobody listens at {address}. Start the server (docker compose up -d in the export's folder), "
            "or say where its REST port is: --rest-url HOST:PORT"
        )
    if isinstance(error, socket.gaierror):
        return f"no machine is called {clean(address.host)}: --rest-url HOST:PORT"
    if isinstance(error, TimeoutError):
        return (
            f"no whole answer from {address} within {time_limit_s:g} seconds. See the server's log"
        )
    if isinstance(error, http.client.IncompleteRead | ConnectionError):
        return f"{address} broke off in the middle of an answer. See the server's log"
    words = clean(f"{type(error).__name__}: {error}")
    if isinstance(error, OSError):
        return f"{address} cannot be reached ({words}): --rest-url HOST:PORT"
    return (
        f"{address} does not speak HTTP ({words}). gRPC's port is another one: "
        "--url HOST:8500 --rest-url HOST:8501"
    )


def _json(content: bytes, address: Address) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    start = clean(content[:60].decode(errors="replace"))
    raise LiveFault(
        f"no JSON object from {address} but {start!r}: this is not TF Serving's REST interface. "
        "Say where that is: --rest-url HOST:PORT"
    )


def _error_in(content: bytes) -> str:
    """Return the server's reason: `{"error": ...}`, or else whatever it sent."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return content[:200].decode(errors="replace") or "without a reason"


def _under(content: Any, key: str) -> Any:
    if not isinstance(content, dict) or key not in content:
        raise LiveFault(f"the answer has no {key!r}")
    return content[key]


def _message(content: Any, empty: Any) -> Any:
    """Return JSON as the protocol buffer it stands for."""
    from google.protobuf import json_format

    try:
        if isinstance(content, dict):
            return json_format.ParseDict(content, empty, ignore_unknown_fields=True)
    except (json_format.Error, TypeError, ValueError, AttributeError):
        pass
    raise LiveFault(f"the answer is not a {empty.DESCRIPTOR.name}")


def _encoded(pictures: Sequence[bytes]) -> list[dict[str, str]]:
    return [{"b64": base64.b64encode(picture).decode()} for picture in pictures]


def _answers(columns: Any, pictures: Sequence[bytes]) -> Answers:
    count = len(pictures)
    probabilities = as_floats(_under(columns, "probabilities"), count)
    rows = _under(columns, "class_names")
    if not isinstance(rows, list) or len(rows) != count:
        raise LiveFault(f"'class_names' are not {count} rows")
    names = tuple(as_names(row, probabilities.shape[1]) for row in rows)
    return Answers(names, probabilities, as_names(_under(columns, "predicted"), count))
