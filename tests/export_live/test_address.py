"""Valid and malformed addresses of a server."""

from typing import Any

import pytest
from click.testing import CliRunner

from kerastl.cli import app
from kerastl.errors import Problems
from kerastl.export.live_clients import Server, read_server
from kerastl.recipe import MODEL_NAME


@pytest.mark.parametrize(
    ("url", "rest_url", "grpc", "rest"),
    [
        ("localhost", None, "localhost:8500", "localhost:8501"),
        ("10.0.0.7:9000", None, "10.0.0.7:9000", "10.0.0.7:8501"),
        ("a:1", "b:65535", "a:1", "b:65535"),
        (None, "b", None, "b:8501"),
        ("[::1]:9", "[::1]", "[::1]:9", "[::1]:8501"),
        ("[::1]:9", None, "[::1]:9", "[::1]:8501"),
    ],
)
def test_a_host_without_a_port_has_the_default_ports(url: Any, rest_url: Any, grpc: Any, rest: Any) -> None:
    assert read_server(url, rest_url, "lung") == Server(grpc, rest, "lung")


def test_without_an_address_there_is_no_server() -> None:
    assert read_server(None, None, "kerastl") is None


WRONG = ["http://a:8501", "a:0", "a:65536", "a:b", "a:", ":8500", "", "a/b", "u:p@a:1", "a b", "::1", "[::1", "a?b", "a#b"]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_malformed_addresses_of_both_options_are_reported_together(text: str) -> None:
    with pytest.raises(Problems) as caught:
        read_server(text, text, "a/b")
    assert [problem.where for problem in caught.value.problems] == ["--url", "--rest-url", "--model-name"]
    assert "HOST:PORT" in str(caught.value)


def test_the_command_refuses_a_malformed_address_before_loading_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kerastl.cli.verify.exports.check_export", lambda *_, **__: pytest.fail("loaded"))
    result = CliRunner().invoke(app, ["verify", "nowhere", "--url", "http://a:8501"])
    assert isinstance(result.exception, Problems)
    assert "localhost:8500" in str(result.exception)


def test_the_help_states_both_ports() -> None:
    text = CliRunner().invoke(app, ["verify", "--help"]).output
    assert all(word in text for word in ("--url", "8500", "--rest-url", "8501", MODEL_NAME))
