"""Where a running TF Serving is: addresses as a person types them. No TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from kerastl.errors import Problem, Problems
from kerastl.export.serving.names import MODEL_NAME

GRPC_PORT = 8500
REST_PORT = 8501
TIME_LIMIT_S = 60.0
MODEL_NAMES = re.compile(r"[^/:\s]+")


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port from 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Server:
    """A TF Serving to be asked.

    Args:
        grpc: None: not asked by gRPC.
        rest: None: not asked by REST.
        model_name: what the server calls the model.
        time_limit_s: after which an answer is not waited for any longer.
    """

    grpc: Address | None
    rest: Address | None
    model_name: str = MODEL_NAME
    time_limit_s: float = TIME_LIMIT_S


def read_server(url: str | None, rest_url: str | None, model_name: str) -> Server | None:
    """Return the server that is meant.

    Args:
        url: `HOST` or `HOST:PORT` of gRPC; REST is on the same host unless `rest_url` says otherwise.
        rest_url: `HOST` or `HOST:PORT` of REST; without `url` the server is asked by REST alone.
        model_name: what the server calls the model.

    Returns:
        None where neither address is given.

    Raises:
        Problems: an address or the name is not of that form.
    """
    if url is None and rest_url is None:
        return None
    problems: list[Problem] = []
    grpc = _address("--url", url, GRPC_PORT, problems)
    rest = _address("--rest-url", rest_url, REST_PORT, problems)
    if not MODEL_NAMES.fullmatch(model_name):
        problems.append(Problem("--model-name", f"{model_name!r} must hold no '/', ':' or space."))
    if problems:
        raise Problems("The address of the server", problems)
    if rest_url is None and grpc is not None:
        rest = Address(grpc.host, REST_PORT)
    return Server(grpc, rest, model_name)


def _address(
    option: str, text: str | None, default_port: int, problems: list[Problem]
) -> Address | None:
    if text is None:
        return None
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    whole = host is not None and parts.netloc == text and not re.search(r"[\s@]", text)
    if host is None or not whole or port == 0 or text.endswith(":"):
        problems.append(
            Problem(option, f"{text!r} must be HOST or HOST:PORT, e.g. localhost:{default_port}.")
        )
        return None
    return Address(host, port if port is not None else default_port)
