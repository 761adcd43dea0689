"""`check_live` against simulated KServe servers: correct responses pass, and each planted fault fails its check."""

import copy
import json
import re
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerastl.cli import app
from kerastl.errors import Problems
from kerastl.export import ExpectedPredictions, Finding
from kerastl.export.kserve_clients import KServeV1, KServeV2, find_kserve
from kerastl.export.live_clients import DEFAULT_PORTS, HttpClient, Server, ServerFault, read_server
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.stand_in_server import LOOPBACK, StandIn
from tests.export_live.conftest import address, ask, canned, described, faults, formula, sending
from tests.export_live.stand_in_kserve import Plan, Refused, kserve, respond

CHECKS = ("available", "version", "signatures", "invalid image rejected", "predictions", "classify", "columns and gRPC")  # fmt: skip
PIXELS = list(np.random.default_rng(5).uniform(0, 255, (7, SIZE, SIZE, 3)).astype(np.float32))
CONVERSION = {
    "input": {"name": "images", "shape": [None, SIZE, SIZE, 3], "dtype": "float32"},
    "output": {"name": "probabilities", "shape": [None, 3], "dtype": "float32"},
    "with_resize": False,
}
CONVERTED = described(conversion=CONVERSION)
PIXEL_REFERENCE = ExpectedPredictions(
    CLASS_NAMES, np.float32([formula(image.tobytes()) for image in PIXELS]), ()
)


def check(plan: Plan, export: Path, *, protocol: str | None = None, name: str = "kerastl", **options: Any) -> dict[str, Finding]:  # fmt: skip
    """Return the findings of `check_live` for a simulated server, by the check without the name of the protocol."""
    with kserve(plan) as port:
        server = Server(address(port), None, name, protocol=protocol, time_limit_s=options.pop("limit", 20.0))
        if plan.is_converted:
            options = {"images": PIXELS, "reference": PIXEL_REFERENCE, "manifest": CONVERTED, **options}
        findings = ask(server, export, **options)
    assert all(finding.detail.isprintable() and len(finding.detail) < 700 for finding in findings.values())
    return findings


def by_name(findings: dict[str, Finding], protocol: str) -> dict[str, Finding]:
    assert list(findings) == [f"{protocol}: {name}" for name in CHECKS]
    return {name: findings[f"{protocol}: {name}"] for name in CHECKS}


@pytest.mark.parametrize("manifest", [described(), CONVERTED], ids=["saved_model", "converted"])
def test_an_unreachable_server_is_asked_once_for_its_protocol(
    manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def fail(client: Any) -> None:
        requests.append(client)
        raise ServerFault("no response", is_unreachable=True)

    for kind in (KServeV1, KServeV2):
        monkeypatch.setattr(kind, "describe", fail)
    client = find_kserve(Server("localhost:9", None), manifest if manifest.conversion else None)
    assert len(requests) == 1
    assert (client is None) == (manifest.conversion is None)


@pytest.mark.parametrize("is_converted", [False, True])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_server_that_serves_this_export_has_no_fault(
    protocol: str, is_converted: bool, drawn_export: Path
) -> None:
    findings = by_name(check(Plan(is_converted, (protocol,)), drawn_export), f"KServe {protocol}")
    not_checked = {name: finding.detail for name, finding in findings.items() if finding.passed is None}
    assert [finding.detail for finding in findings.values() if finding.passed is False] == []
    expected = {"columns and gRPC"} | ({"version", "signatures"} if protocol == "v1" else set())
    if protocol == "v1" or not is_converted:
        expected.add("classify")
    assert set(not_checked) == expected
    assert all(f"KServe {protocol}" in detail for detail in not_checked.values())
    assert "7 images" in findings["predictions"].detail


def test_both_protocols_are_detected_and_one_can_be_chosen(drawn_export: Path) -> None:
    """A SavedModel uses v1, in which a file is base64, and a converted model v2."""
    for is_converted, detected, other in ((False, "v1", "v2"), (True, "v2", "v1")):
        for chosen, name in ((None, detected), (f"kserve_{other}", other)):
            findings = by_name(check(Plan(is_converted), drawn_export, protocol=chosen), f"KServe {name}")
            assert findings["predictions"].passed, findings


@pytest.mark.parametrize("name", ["lungs of Ü", "ü", "a b  c", "%2F?#&", "モデル"])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_names_of_models_are_quoted(name: str, protocol: str, drawn_export: Path) -> None:
    findings = check(Plan(model_name=name, protocols=(protocol,)), drawn_export, name=name)
    assert faults(findings) == {}


def changed(verb: str, update: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Return a change of the response to one request."""
    return lambda path, response: update(response) if path == verb else response


def tensor(index: int = 0, **fields: Any) -> Callable[[Any], Any]:
    def update(response: Any) -> Any:
        response["outputs"][index] |= fields
        return response

    return update


def merged(**fields: Any) -> Callable[[Any], Any]:
    return lambda response: {**response, **fields}


def hotter(image: bytes) -> list[float]:
    powers = np.array(formula(image)) ** (1 / 2.5)
    return list(powers / powers.sum())


def other_model(image: bytes) -> list[float]:
    return formula(b"other" + image)


REVERSED = CLASS_NAMES[::-1]
V2_FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"row": other_model}, "predictions", "a different model"),
    "another temperature": ({"row": hotter}, "predictions", "different temperature"),
    "swapped labels": ({"labels": REVERSED}, "classify", "the class order"),
    "other labels": ({"labels": ("a", "b", "c")}, "classify", "different classes"),
    "no labels": ({"change": changed("v2 /infer", lambda response: tensor(data=["0.2:0"] * 3, shape=[1, 3])(response) if response["outputs"][0]["datatype"] == "BYTES" else response)}, "classify", "no labels. Copy labels.txt"),
    "not a number": ({"row": lambda _: [float("nan")] * 3}, "predictions", "differ by up to nan"),
    "double precision": ({"change": changed("v2 /infer", tensor(datatype="FP64"))}, "predictions", "data type FP64 instead of FP32"),
    "a transposed shape": ({"change": changed("v2 /infer", tensor(shape=[3, 1]))}, "predictions", "do not have 1 rows"),
    "a shape of another size": ({"change": changed("v2 /infer", tensor(shape=[1, 10**30]))}, "predictions", "but 3 values"),
    "an open shape": ({"change": changed("v2 /infer", tensor(shape=[1, -1]))}, "predictions", "has shape [1, -1]"),
    "a shape of words": ({"change": changed("v2 /infer", tensor(shape=["a"]))}, "predictions", "has shape ['a']"),
    "no shape": ({"change": changed("v2 /infer", tensor(shape=None))}, "predictions", "has shape None"),
    "words as data": ({"change": changed("v2 /infer", tensor(data="abc"))}, "predictions", "no list of values"),
    "numbers as words": ({"change": changed("v2 /infer", tensor(data=["1", "2", "3"]))}, "predictions", "1 rows of equal length"),
    "true as a number": ({"change": changed("v2 /infer", tensor(data=[True, False, False]))}, "predictions", "1 rows of equal length"),
    "another output": ({"change": changed("v2 /infer", tensor(name="scores"))}, "predictions", "no 'probabilities'"),
    "a list as a name": ({"change": changed("v2 /infer", tensor(name=[1]))}, "predictions", "no 'probabilities'"),
    "no outputs": ({"change": changed("v2 /infer", merged(outputs=None))}, "predictions", "no 'probabilities'"),
    "outputs that are no list": ({"change": changed("v2 /infer", merged(outputs={"a": 1}))}, "predictions", "'outputs' is not a list"),
    "an error with status 200": ({"change": changed("v2 /infer", lambda _: {"error": "out of\nmemory\x1b[2J"})}, "predictions", "HTTP 200 with an error: out of memory[2J"),
    "a page": ({"change": changed("v2 /infer", lambda _: b"<html>Log in")}, "predictions", "this is not KServe v2"),
    "deep JSON": ({"change": changed("v2 /infer", lambda _: b"[" * 500_000)}, "predictions", "no JSON object"),
    "deep data": ({"change": changed("v2 /infer", lambda _: b'{"outputs": ' + b"[" * 900 + b"]" * 900 + b"}")}, "predictions", "has no 'name'"),
    "not ready": ({"change": changed("v2 /ready", merged(ready=False))}, "available", "the model is not ready. Models on the server"),
    "another version": ({"change": changed("v2 ", merged(versions=["1", "3"]))}, "version", "version 3 is served by default, but this is version 1"),
    "a version that is no list": ({"change": changed("v2 ", merged(versions=7))}, "version", "'versions' is not a list"),
    "another size": ({"change": changed("v2 ", merged(inputs=[{"name": "images", "datatype": "FP32", "shape": [-1, 9, 9, 3]}]))}, "signatures", f"input images is DT_FLOAT [n, 9, 9, 3] on the server, DT_FLOAT [n, {SIZE}, {SIZE}, 3] in the export"),
    "bytes as input": ({"change": changed("v2 ", merged(inputs=[{"name": "images", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}]))}, "signatures", "input images is UINT8"),
    "one input more": ({"change": changed("v2 ", lambda response: merged(inputs=[*response["inputs"], {"name": "mask", "datatype": "FP32", "shape": [-1]}])(response))}, "signatures", "input mask is not in the export"),
    "no output": ({"change": changed("v2 ", merged(outputs=[]))}, "signatures", "output probabilities is missing on the server"),
    "tensors of another form": ({"change": changed("v2 ", merged(inputs=["images"]))}, "signatures", "has no 'name'"),
    "any size": ({"rejects": False}, "invalid image rejected", "an invalid image received a prediction"),
    "unavailable": ({"status": 503}, "invalid image rejected", "503 instead of 400 or 422 or 500 and a reason"),
}  # fmt: skip


@pytest.mark.parametrize("what", V2_FAULTS)
def test_each_fault_of_a_v2_server_fails_its_check_only(what: str, drawn_export: Path) -> None:
    options, failed, words = V2_FAULTS[what]
    findings = check(Plan(**options), drawn_export)
    messages = {
        name: finding.detail for name, finding in by_name(findings, "KServe v2").items() if not finding.ok
    }
    assert words in messages[failed]
    related = {failed, "classify", "invalid image rejected"} if failed == "predictions" else {failed}
    assert set(messages) <= related


def test_what_a_server_does_not_report_is_not_checked(drawn_export: Path) -> None:
    """As `kserve`, which reports no version and no tensors."""
    silent = changed("v2 ", merged(versions=None, inputs=[], outputs=[]))
    findings = by_name(check(Plan(change=silent), drawn_export), "KServe v2")
    assert findings["version"].passed is findings["signatures"].passed is None
    about = changed("v2 /v2", merged(extensions=["model_repository"]))
    findings = by_name(check(Plan(change=about), drawn_export), "KServe v2")
    assert findings["classify"].passed is None
    assert "does not support the extension" in findings["classify"].detail


def test_more_outputs_are_allowed(drawn_export: Path) -> None:
    more = {"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}
    change = changed("v2 ", lambda response: merged(outputs=[*response["outputs"], more])(response))
    assert faults(check(Plan(change=change), drawn_export)) == {}


def test_a_model_with_resize_accepts_any_size(drawn_export: Path) -> None:
    shape = [None, None, None, 3]
    manifest = described(
        conversion={**CONVERSION, "input": {"name": "images", "shape": shape}, "with_resize": True}
    )
    change = changed("v2 ", merged(inputs=[{"name": "images", "datatype": "FP32", "shape": [-1, -1, -1, 3]}]))
    findings = by_name(
        check(Plan(change=change, rejects=False), drawn_export, manifest=manifest), "KServe v2"
    )
    assert [name for name, finding in findings.items() if finding.passed is False] == []
    assert findings["invalid image rejected"].passed is None


V1_FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "swapped labels": ({"labels": REVERSED}, "predictions", "classes in a different order"),
    "another model": ({"row": other_model}, "predictions", "a different model"),
    "an error with status 200": ({"change": changed("v1 :predict", lambda _: {"error": "no GPU"})}, "predictions", "HTTP 200 with an error: no GPU"),
    "one row less": ({"change": changed("v1 :predict", lambda response: {"predictions": response["predictions"][1:]})}, "predictions", "is not a list of 1 objects"),
    "rows of numbers": ({"change": changed("v1 :predict", lambda _: {"predictions": [1]})}, "predictions", "has no 'probabilities'"),
    "not ready": ({"change": changed("v1 ", merged(ready="False"))}, "available", "the model is not ready"),
    "another protocol": ({"change": changed("v1 ", lambda _: {"model_version_status": []})}, "available", "has no 'ready'"),
    "any bytes": ({"rejects": False}, "invalid image rejected", "an invalid image received a prediction"),
}  # fmt: skip


@pytest.mark.parametrize("what", V1_FAULTS)
def test_each_fault_of_a_v1_server_fails_its_check_only(what: str, drawn_export: Path) -> None:
    options, failed, words = V1_FAULTS[what]
    findings = check(Plan(is_converted=False, **options), drawn_export)
    messages = {
        name: finding.detail for name, finding in by_name(findings, "KServe v1").items() if not finding.ok
    }
    assert words in messages[failed]
    related = {failed, "invalid image rejected"} if failed == "predictions" else {failed}
    assert set(messages) <= related


@pytest.mark.parametrize("rows", [3, [], [[1, 2]], [{"scores": [1]}], [[[1, 2, 3]]], [None], "abc"])
def test_v1_rows_of_another_form_are_a_fault(rows: Any, drawn_export: Path) -> None:
    change = changed("v1 :predict", lambda _: {"predictions": rows})
    findings = check(Plan(change=change), drawn_export, protocol="kserve_v1")
    assert "KServe v1: predictions" in faults(findings)


def test_v1_predictions_may_be_objects(drawn_export: Path) -> None:
    change = changed("v1 :predict", lambda response: {"predictions": [{"probabilities": row} for row in response["predictions"]]})  # fmt: skip
    assert faults(check(Plan(change=change), drawn_export, protocol="kserve_v1")) == {}


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_another_name_is_reported_with_the_models_of_the_server(protocol: str, drawn_export: Path) -> None:
    plan = Plan(model_name="lungs", protocols=(protocol,))
    messages = faults(check(plan, drawn_export, name="brains"))
    detail = messages[f"KServe {protocol}: available"]
    assert "--model-name NAME" in detail
    assert re.search(r'Models on the server: .*"lungs"', detail)


def begin_chunks(request: Any) -> None:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()


def endless(request: Any) -> None:
    begin_chunks(request)
    try:
        while True:
            request.wfile.write(b"100000\r\n" + b" " * 2**20 + b"\r\n")
    except OSError:
        pass


def stalled(request: Any) -> None:
    begin_chunks(request)
    try:
        while True:
            request.wfile.write(b"1\r\n \r\n")
            request.wfile.flush()
            request.connection.settimeout(0.05)
            try:
                if not request.connection.recv(1):
                    return
            except TimeoutError:
                pass
    except OSError:
        pass


def broken_chunks(request: Any) -> None:
    begin_chunks(request)
    request.wfile.write(b"zz\r\nhello")


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (endless, "more than 16 MiB"),
        (stalled, "no complete response"),
        (broken_chunks, "closed the connection|does not speak HTTP"),
    ],
)
@pytest.mark.parametrize("verb", ["v2 /ready", "v2 /infer"])
def test_a_response_without_an_end_is_a_fault(send: Any, words: str, verb: str, drawn_export: Path) -> None:
    findings = check(Plan(change=changed(verb, lambda _: send)), drawn_export, limit=0.5)
    name = "available" if verb == "v2 /ready" else "predictions"
    assert re.search(words, findings[f"KServe v2: {name}"].detail), findings


@pytest.mark.parametrize("is_converted", [False, True])
def test_a_server_of_another_protocol_is_reported(is_converted: bool, drawn_export: Path) -> None:
    """TF Serving for a converted model, a page for each, and the gRPC port of Triton."""
    options: dict[str, Any] = {}
    if is_converted:
        options = {"images": PIXELS, "reference": PIXEL_REFERENCE, "manifest": CONVERTED}
    with canned(sending(b"<html>", 404)) as port:
        messages = faults(ask(Server(address(port), None), drawn_export, **options))
    detail = next(iter(messages.values()))
    assert "KServe" in detail
    assert "--url HOST:PORT" in detail


def test_tf_serving_is_reported_for_a_converted_model(stand_in: StandIn, drawn_export: Path) -> None:
    server = Server(None, address(stand_in.rest_port))
    findings = ask(server, drawn_export, images=PIXELS, reference=PIXEL_REFERENCE, manifest=CONVERTED)
    assert "does not speak KServe v2" in findings["KServe v2: available"].detail


def test_a_grpc_server_of_another_api_is_reported(drawn_export: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    messages = faults(ask(Server(address(port), None), drawn_export))
    server.stop(0).wait()
    assert set(messages) == {"gRPC: available"}
    assert "use its HTTP port: --url HOST:PORT" in messages["gRPC: available"]


def test_the_protocol_gives_the_default_port_and_one_address() -> None:
    assert read_server("a", None, protocol="kserve_v1") == Server("a:8080", "a:8501", protocol="kserve_v1")
    assert read_server("a", None, protocol="kserve_v2") == Server("a:8000", "a:8501", protocol="kserve_v2")
    assert read_server("a", None, "in two words") == Server("a:8500", "a:8501", "in two words")
    with pytest.raises(Problems, match=r"kserve_v2 has one address\. Use --url instead"):
        read_server("a", "b", protocol="kserve_v2")
    for name in ("", " ", "a/b", "a:b"):
        with pytest.raises(Problems, match="--model-name"):
            read_server("a", None, name)


def test_the_help_lists_the_protocols() -> None:
    text = CliRunner().invoke(app, ["verify", "--help"]).output
    assert all(
        word in text for word in ("--protocol", "tf_serving|kserve_v1|kserve_v2", "8080", "8000", "Triton")
    )
    assert f"[{'|'.join(DEFAULT_PORTS)}]" in text, "those that have a default port"


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just("9" * 5000), st.just(10**400),
    st.sampled_from(["FP32", "BYTES", "0.5:0:benign", "probabilities", -1, 3, 1e39, float("inf")]),
)  # fmt: skip
KEYS = st.sampled_from(["name", "versions", "inputs", "outputs", "datatype", "shape", "data", "ready", "error", "predictions", "probabilities", "models"])  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def replaced(response: Any, choose: Callable[[Any], Any]) -> Any:
    """Replace one value within a response."""
    entries: list[Any] = []

    def collect(value: Any) -> None:
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in pairs:
            entries.append((value, key))
            collect(inner)

    collect(response)
    if not entries:
        return choose(JSON)
    container, key = choose(st.sampled_from(entries))
    container[key] = choose(JSON)
    return response


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_response_raises_an_exception(data: st.DataObject, drawn_export: Path) -> None:
    """Each response may have one value replaced, anywhere, or be replaced as a whole."""
    is_converted, protocol = data.draw(st.booleans()), data.draw(st.sampled_from(["v1", "v2"]))
    plan = Plan(is_converted, (protocol,))
    server = Server("127.0.0.1:1", None, protocol=f"kserve_{protocol}")

    def exchange(method: str, path: str, payload: Any, raw: bytes) -> tuple[int, bytes]:
        body = b"" if payload is None else json.dumps(payload).encode()
        try:
            response = respond(plan, method, path, body + raw, len(body))
        except Refused as refusal:
            return refusal.status, json.dumps({"error": refusal.reason}).encode()
        how = data.draw(st.sampled_from(["unchanged", "one value", "all"]))
        if how != "unchanged":
            response = replaced(copy.deepcopy(response), data.draw) if how == "one value" else data.draw(JSON)
        return 200, json.dumps(response).encode()

    options: dict[str, Any] = {}
    if is_converted:
        options = {"images": PIXELS, "reference": PIXEL_REFERENCE, "manifest": CONVERTED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpClient, "_exchange", lambda _, *arguments: exchange(*arguments))
        findings = ask(server, drawn_export, **options)
    assert list(findings) == [f"KServe {protocol}: {name}" for name in CHECKS]
    assert all(finding.detail.isprintable() and len(finding.detail) < 700 for finding in findings.values())
