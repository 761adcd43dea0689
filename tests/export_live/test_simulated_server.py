"""The simulated server follows the rules of TensorFlow Serving's RESTful API: rows, columns, b64, outputs, errors."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from tests.export.conftest import CLASS_NAMES
from tests.export.stand_in_rest import Refused, predict_json
from tests.export.stand_in_server import LOOPBACK, StandIn
from tests.export_live.conftest import DIRECT, Drawn, formula

PREDICT = "/v1/models/kerastl:predict"


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def send(server: StandIn, path: str, body: Any = None) -> tuple[int, Any]:
    """Return the status and the JSON of a response. The body is sent as JSON, or unchanged if it is bytes."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{LOOPBACK}:{server.rest_port}{path}", data)
    try:
        with DIRECT.open(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_row_and_column_formats_give_the_same_predictions(stand_in: StandIn) -> None:
    images = [b"one", b"\xff\x00two"]
    encoded = [b64(image) for image in images]
    status, rows = send(stand_in, PREDICT, {"instances": encoded})
    named = send(stand_in, PREDICT, {"instances": [{"image_bytes": content} for content in encoded]})
    columns = send(stand_in, PREDICT, {"inputs": encoded})
    named_columns = send(stand_in, PREDICT, {"inputs": {"image_bytes": encoded}})
    assert status == 200
    names = ["class_names", "predicted", "probabilities"]
    assert [sorted(prediction) for prediction in rows["predictions"]] == [names] * 2
    assert named == (200, rows)
    assert named_columns == columns
    outputs = columns[1]["outputs"]
    wanted = np.array([formula(image) for image in images])
    assert np.abs(np.array(outputs["probabilities"]) - wanted).max() < 1e-6
    assert outputs["class_names"] == [list(CLASS_NAMES)] * 2
    for name, values in outputs.items():
        assert [row[name] for row in rows["predictions"]] == values


def test_text_is_accepted_as_a_string_and_numbers_have_the_digits_of_float32(stand_in: StandIn) -> None:
    as_text = send(stand_in, PREDICT, {"instances": ["one"]})
    assert as_text == send(stand_in, PREDICT, {"instances": [b64(b"one")]})
    numbers = as_text[1]["predictions"][0]["probabilities"]
    assert all(len(str(number)) <= 12 for number in numbers)
    assert np.float32(numbers[0]) == np.float32(formula(b"one")[0])


def test_a_signature_a_version_and_a_label_can_be_requested(stand_in: StandIn) -> None:
    body = {"signature_name": "serving_default", "instances": [b64(b"one")]}
    assert send(stand_in, "/v1/models/kerastl/versions/1:predict", body)[0] == 200
    assert send(stand_in, "/V1/models/kerastl:Predict", body)[0] == 200
    status, content = send(stand_in, "/v1/models/kerastl/versions/7:predict", body)
    assert (status, content) == (404, {"error": "Servable not found for request: Specific(kerastl, 7)"})
    assert send(stand_in, "/v1/models/kerastl/labels/stable:predict", body)[0] == 400
    status, content = send(stand_in, "/v1/models/half:predict", body)
    assert (status, content) == (404, {"error": "Servable not found for request: Latest(half)"})


def test_classify_takes_examples_and_returns_pairs(stand_in: StandIn) -> None:
    path = "/v1/models/kerastl:classify"
    examples = [{"image/encoded": b64(b"one")}, {"image/encoded": [b64(b"two")]}]
    status, content = send(stand_in, path, {"signature_name": "classify", "examples": examples})
    assert status == 200
    assert [[name for name, _ in row] for row in content["results"]] == [list(CLASS_NAMES)] * 2
    scores = [[score for _, score in row] for row in content["results"]]
    assert np.abs(np.array(scores) - [formula(b"one"), formula(b"two")]).max() < 1e-6
    shared = {"signature_name": "classify", "context": examples[0], "examples": [{}]}
    assert send(stand_in, path, shared)[1] == {"results": content["results"][:1]}
    for wrong in ({"signature_name": "classify"}, {"signature_name": "classify", "examples": []},
                  {"examples": examples}, {"signature_name": "classify", "examples": [{"image/encoded": [["deep"]]}]}):  # fmt: skip
        assert send(stand_in, path, wrong)[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [1],
        {},
        {"instances": []},
        {"instances": "one"},
        {"instances": [b64(b"one")], "inputs": [b64(b"one")]},
        {"instances": [b64(b"one"), {"image_bytes": b64(b"one")}]},
        {"instances": [{"image": b64(b"one")}]},
        {"instances": [["one"], ["one", "two"]]},
        {"instances": [["one", ["two"]]]},
        {"instances": [1.5]},
        {"instances": [{"b64": "no base64!"}]},
        {"instances": [{"image_bytes": {"b64": "b25l", "more": 1}}]},
        {"inputs": {"image": ["one"]}},
        {"inputs": 3},
        {"signature_name": 3, "instances": ["one"]},
        {"signature_name": "none", "instances": ["one"]},
        {"instances": [b64(b"one"), b64(b"these bytes are not an image")]},
    ],
    ids=str,
)
def test_an_invalid_request_returns_400_and_a_reason(body: Any, stand_in: StandIn) -> None:
    status, content = send(stand_in, PREDICT, body)
    assert status == 400
    assert list(content) == ["error"]
    assert content["error"]


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models", "/v1/models/kerastl:explain"])
def test_an_unknown_path_is_malformed(path: str, stand_in: StandIn) -> None:
    status, content = send(stand_in, path)
    assert (status, list(content)) == (400, ["error"])


def test_status_and_metadata_have_the_documented_form(stand_in: StandIn) -> None:
    status, content = send(stand_in, "/v1/models/kerastl")
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (status, content) == (200, {"model_version_status": [version]})
    assert send(stand_in, "/v1/models/kerastl/versions/1") == (status, content)
    assert send(stand_in, "/v1/models/kerastl/versions/9")[0] == 404
    status, content = send(stand_in, "/v1/models/kerastl/metadata")
    assert status == 200
    assert content["model_spec"]["version"] == "1"
    signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert [
        dimension["size"] for dimension in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]
    ] == ["-1", "3"]


def test_outputs_are_encoded_by_their_type_and_name() -> None:
    def written(key: str, **outputs: Any) -> Any:
        return predict_json({name: tf.make_tensor_proto(output) for name, output in outputs.items()}, key)

    strings, numbers = np.array([b"a", b"b"], object), np.array([1.0, np.nan], np.float32)
    response = {"predictions": ["a", "b"]}
    assert written("instances", label=strings) == response
    assert written("inputs", label=strings) == {"outputs": ["a", "b"]}
    as_bytes = written("instances", label_bytes=strings)
    assert as_bytes == {"predictions": [b64(b"a"), b64(b"b")]}
    assert json.dumps(written("inputs", x=numbers)) == '{"outputs": [1.0, NaN]}'
    for bad in ({"x": numbers, "y": strings[:1]}, {"x": np.float32(1)}):
        with pytest.raises(Refused):
            written("instances", **bad)
    with pytest.raises(Refused, match="bfloat16"):
        predict_json({"x": tf.make_tensor_proto(numbers, tf.bfloat16)}, "inputs")


@pytest.fixture
def stub(stand_in: StandIn) -> Iterator[Any]:
    with grpc.insecure_channel(f"{LOOPBACK}:{stand_in.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_the_official_stubs_get_responses_and_error_codes(stub: Any) -> None:
    request = predict_pb2.PredictRequest(output_filter=["predicted"])
    request.model_spec.name = "kerastl"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"one"]))
    response = stub.Predict(request)
    assert list(response.outputs) == ["predicted"]
    assert response.model_spec.version.value == 1
    best = CLASS_NAMES[int(np.argmax(formula(b"one")))]
    assert response.outputs["predicted"].string_val[0].decode() == best

    def code_of(change: Any, call: str = "Predict", message: Any = request) -> str:
        other = type(message)()
        other.CopyFrom(message)
        change(other)
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, call)(other)
        return str(caught.value.code().name)

    assert code_of(lambda request: request.inputs.clear()) == "INVALID_ARGUMENT"
    assert code_of(lambda request: request.output_filter.append("none")) == "INVALID_ARGUMENT"
    number = tf.make_tensor_proto([1.0])
    assert code_of(lambda request: request.inputs["image_bytes"].CopyFrom(number)) == "INVALID_ARGUMENT"
    assert code_of(lambda request: setattr(request.model_spec, "name", "half")) == "NOT_FOUND"
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=request.model_spec)
    assert code_of(lambda request: None, "GetModelMetadata", metadata) == "INVALID_ARGUMENT"


def test_simulated_predictions_depend_on_the_image() -> None:
    answers = [Drawn().row(value)[1] for value in (b"one", b"two")]
    assert np.abs(np.subtract(*answers)).max() > 0.01
