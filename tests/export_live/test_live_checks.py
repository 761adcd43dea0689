"""`check_live` against a simulated server: correct responses pass, and each planted fault fails its check."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kerastl.export import ExpectedPredictions
from kerastl.export.graph_check import ENCODED, put_image
from kerastl.export.live import check_predictions, check_refusal, reference_predictions
from kerastl.export.live_clients import Predictions, ServerFault, as_floats, clean, reason_in
from tests.export.conftest import CLASS_NAMES
from tests.export.stand_in_server import StandIn
from tests.export_live.conftest import Drawn, Row, ask, faults, server_of


def test_a_server_that_serves_this_export_has_no_fault(stand_in: StandIn, drawn_export: Path) -> None:
    findings = ask(server_of(stand_in), drawn_export)
    assert [finding.check for finding in findings.values() if finding.passed is not True] == []
    every = {"available", "version", "signatures", "invalid image rejected", "predictions", "classify"}
    assert set(findings) == {f"{way}: {name}" for way in ("gRPC", "REST") for name in every} | {
        "REST: columns"
    }
    assert "7 images" in findings["REST: predictions"].detail
    assert "not an image" in findings["gRPC: invalid image rejected"].detail


def reversed_names(row: Row) -> Row:
    return row[0][::-1], row[1], row[2]


def other_classes(row: Row) -> Row:
    return [*row[0][:2], b"11\x1b[2J"], row[1], row[0][0]


def twice(row: Row) -> Row:
    return [*row[0][:2], row[0][0]], row[1], row[2]


def hotter(row: Row) -> Row:
    powers = np.array(row[1]) ** (1 / 2.5)
    return row[0], list(powers / powers.sum()), row[2]


def other_model(row: Row) -> Row:
    powers = np.exp(np.sin(40 * np.array(row[1])))
    return row[0], list(powers / powers.sum()), row[2]


def not_a_number(row: Row) -> Row:
    return row[0], [float("nan")] * 3, row[2]


def one_label(row: Row) -> Row:
    return row[0], row[1], row[0][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (hotter, r"up to 0\.\d+.*log odds are 0\.4 times the expected ones, as with a different temperature"),
        (reversed_names, "classes in a different order"),
        (other_classes, "different classes: .*11"),
        (twice, "different classes"),
        (other_model, "a different model"),
        (not_a_number, "differ by up to nan"),
        (one_label, "labels differ"),
    ],
)
def test_another_export_with_the_same_name_and_version_is_found_by_its_predictions(
    change: Any, words: str, drawn_export: Path
) -> None:
    with StandIn(Drawn(change)) as server:
        messages = faults(ask(server_of(server), drawn_export))
    assert {"gRPC: predictions", "REST: predictions", "REST: columns"} <= set(messages)
    # That interface has no place for the predicted name.
    assert ("gRPC: classify" in messages) == ("REST: classify" in messages) == (change is not one_label)
    for detail in (messages["gRPC: predictions"], messages["REST: predictions"]):
        assert re.search(words, detail), detail
        assert detail.isprintable()


def test_another_version_is_named_by_number(drawn_export: Path) -> None:
    with StandIn(Drawn(version=2)) as server:
        messages = faults(ask(server_of(server), drawn_export))
    assert set(messages) == {
        f"{way}: {name}" for way in ("gRPC", "REST") for name in ("available", "version")
    }
    assert "version 1 is not available (version 2 AVAILABLE)" in messages["gRPC: available"]
    assert "version 2 is served by default, but this is version 1" in messages["REST: version"]


def test_another_model_name_is_reported_with_the_option_to_use(stand_in: StandIn, drawn_export: Path) -> None:
    server = dataclasses.replace(server_of(stand_in), model_name="lungs of Ü")
    messages = faults(ask(server, drawn_export))
    assert "NOT_FOUND" in messages["gRPC: available"]
    assert "HTTP 404" in messages["REST: predictions"]
    assert all("--model-name NAME" in messages[f"{way}: available"] for way in ("gRPC", "REST"))


def test_different_signatures_are_reported_by_output(drawn_export: Path) -> None:
    model = Drawn()
    del model.signatures["classify"]
    model.signatures["pixels"] = model.signatures["serving_default"]
    wider = model.signatures["serving_default"].outputs["probabilities"]
    wider.tensor_shape.dim[1].size = 5
    with StandIn(model) as server:
        findings = ask(server_of(server), drawn_export, reference=None)
    for way in ("gRPC", "REST"):
        detail = findings[f"{way}: signatures"].detail
        assert "classify is missing on the server" in detail
        assert "pixels is not in the export" in detail
        assert (
            "output probabilities is DT_FLOAT [n, 5] on the server, DT_FLOAT [n, 3] in the export" in detail
        )
        assert findings[f"{way}: predictions"].passed is None
        assert "not compared" in findings[f"{way}: predictions"].detail


def test_an_export_without_classify_is_checked_otherwise(
    stand_in: StandIn, drawn_export: Path, tmp_path: Path
) -> None:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((drawn_export / "saved_model.pb").read_bytes())
    del saved.meta_graphs[0].signature_def["classify"]
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    findings = ask(server_of(stand_in), tmp_path)
    assert set(faults(findings)) == {"gRPC: signatures", "REST: signatures"}
    assert findings["gRPC: classify"].passed is None
    assert "no number to compare" in findings["gRPC: version"].detail


class Answering:
    """A client whose server sends one response to bytes that are not an image: predictions, or a fault."""

    refusal_codes = ("400",)

    def __init__(self, fault: ServerFault | None) -> None:
        self.fault = fault

    def predict(self, images: Sequence[bytes]) -> None:
        assert images == [b"these bytes are not an image"]
        if self.fault is not None:
            raise self.fault


def test_accepting_an_invalid_image_or_a_server_error_is_a_fault() -> None:
    refused = ServerFault("HTTP 400", code="400", reason="not an image")
    assert "400: not an image" in check_refusal(Answering(refused))
    for fault, words in (
        (None, "received a prediction"),
        (ServerFault("HTTP 500", code="500", reason="crashed"), "500 instead of 400 and a reason: crashed"),
        (ServerFault("HTTP 400", code="400"), "without a reason"),
        (ServerFault("no 'predicted'"), "no 'predicted'"),
    ):
        with pytest.raises(ServerFault, match=words):
            check_refusal(Answering(fault))


def test_a_server_is_compared_with_the_export_or_else_with_the_run() -> None:
    expected = ExpectedPredictions(("a", "b"), np.array([[0.2, 0.8]], np.float32), ("b",))
    answer = {"probabilities": [[0.7, 0.3]], "predicted": ["b"], "class_names": [["a", "b"]]}
    own = reference_predictions({"batch": [answer]}, expected)
    assert own is not None
    assert own.predicted == ("b",)
    assert own.probabilities[0, 0] == np.float32(0.7)
    assert reference_predictions(None, expected) is expected
    assert reference_predictions(None, None) is None


def test_a_server_must_apply_the_threshold_of_the_export() -> None:
    rows = np.array([[0.7, 0.3]], np.float32)
    reference = ExpectedPredictions(("a", "b"), rows, ("b",))
    names = (("a", "b"),)
    assert "1 images" in check_predictions([Predictions(names, rows, ("b",))], reference)
    with pytest.raises(ServerFault, match="1 of 1 labels differ"):
        check_predictions([Predictions(names, rows, ("a",))], reference)
    most_probable = ExpectedPredictions(("a", "b"), rows, ("a",))
    assert "1 images" in check_predictions([Predictions(names, rows, ("a",))], most_probable)


@pytest.mark.parametrize("rows", [[[1], [1, 2]], [["1"]], [[True]], [], None, [[10**400]], [[None]]])
def test_probabilities_that_are_not_a_table_of_numbers_are_refused(rows: Any) -> None:
    with pytest.raises(ServerFault):
        as_floats(rows, 1)


def test_the_text_of_a_server_is_reduced_to_one_short_line() -> None:
    assert clean("a\n\tb\x1b[31m\u202e ") == "a b[31m"
    assert len(clean("x" * 10_000)) == 200
    long = f"Detected at node {'x' * 500} assertion failed: [this is\nno image] [[node]]"
    assert reason_in(long) == "[this is no image] [[node]]"
    assert reason_in("another reason") == "another reason"
    assert CLASS_NAMES[1] in clean(CLASS_NAMES[1])


def test_classify_names_the_image_as_the_endpoint_does() -> None:
    """Clients of others know this name: it is a contract, and what is written holds to it."""
    example = tf.train.Example()
    put_image(example, b"file")
    assert ENCODED == "image/encoded"
    assert example.features.feature["image/encoded"].bytes_list.value[:] == [b"file"]
