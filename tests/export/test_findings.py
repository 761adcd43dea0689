"""Each check of `verify`, passed and failed, on synthetic outputs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerastl.export import ExpectedPredictions, Finding, Threshold
from kerastl.export.findings import check_outputs, explain, find_cause
from kerastl.export.manifest import Manifest

NAMES = ("a", "b")
ROWS = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
MANIFEST = Manifest(
    class_names=NAMES, image_size_px=(24, 24), window=None, max_pixels=1000, model_sha256="", versions={}, files={},
)  # fmt: skip
EXPECTED = ExpectedPredictions(NAMES, np.array(ROWS, np.float32), ("a", "b", "a"))
SIZE_REFUSED = "this model takes RGB images of 24 x 24 pixels"


def answer(rows: Any) -> dict[str, Any]:
    rows = np.asarray(rows, np.float64)
    return {
        "probabilities": rows.tolist(),
        "predicted": [NAMES[index] for index in rows.argmax(1)],
        "class_names": [list(NAMES)] * len(rows),
    }


def honest() -> dict[str, Any]:
    return {
        "batch": [answer(ROWS) for _ in range(3)],
        "single": [answer([row]) for row in ROWS],
        "pixels": answer(ROWS),
        "wrong_size": SIZE_REFUSED,
    }


def faults(answers: dict[str, Any]) -> set[str]:
    findings = check_outputs(answers, MANIFEST, EXPECTED)
    assert len(findings) == 9
    return {finding.check for finding in findings if not finding.ok}


def moved(by: float) -> np.ndarray:
    """Probabilities that still sum to 1, each a little off."""
    return np.array(ROWS) + np.array([by, -by])


def all_batches(rows: Any) -> dict[str, Any]:
    return {"batch": [answer(rows) for _ in range(3)]}


def once_other(by: float) -> dict[str, Any]:
    return {"batch": [answer(ROWS), answer(moved(by)), answer(ROWS)]}


def alone_other(by: float) -> dict[str, Any]:
    return {"single": [answer([row]) for row in moved(by)]}


def misnamed() -> dict[str, Any]:
    return {"batch": [answer(ROWS) | {"predicted": ["a", "b", "b"]} for _ in range(3)]}


ALIKE = [[0.6, 0.4], [0.605, 0.395], [0.6, 0.4]]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda: all_batches([[np.nan, 0.1], *ROWS[1:]]), "probabilities"),
        (lambda: all_batches(np.array(ROWS) + 1e-3), "probabilities"),
        (lambda: all_batches([[1.1, -0.1], *ROWS[1:]]), "probabilities"),
        (misnamed, "predicted"),
        (lambda: all_batches(moved(2e-4)), "equal to kerastl predict"),
        (lambda: once_other(1e-7), "repeatable"),
        (lambda: alone_other(2e-5), "independent of the batch"),
        (lambda: {"pixels": answer(moved(2e-4))}, "pixels equal to files"),
        (lambda: {"wrong_size": None}, "wrong size rejected"),
        (lambda: {"wrong_size": "no good"}, "wrong size rejected"),
        (lambda: all_batches(ALIKE), "images differ"),
        (lambda: {"pixels": answer(ROWS) | {"class_names": [["b", "a"]]}}, "class names"),
    ],
)
def test_each_fault_fails_its_check(change: Callable[[], dict[str, Any]], check: str) -> None:
    assert check in faults(honest() | change())


@pytest.mark.parametrize(
    "change",
    [
        dict,
        lambda: all_batches(moved(5e-6)),
        lambda: alone_other(5e-6),
        lambda: {"pixels": answer(moved(5e-5))},
    ],
)
def test_differences_within_the_tolerance_pass(change: Callable[[], dict[str, Any]]) -> None:
    assert faults(honest() | change()) == set()


INT8 = replace(MANIFEST, conversion={"quantize": "int8"})
FOUR = [[0.93, 0.07], [0.66, 0.34], [0.64, 0.36], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("first", "change"),
    [
        ([[0.9, 0.1], [0.69, 0.31], [0.61, 0.39], [0.24, 0.76]], ""),
        ([[0.93, 0.07], [0.66, 0.34], [0.64, 0.36], [0.14, 0.86]], "a probability differs by 0.06 (0.05 allowed)"),
        ([[0.93, 0.07], [0.64, 0.36], [0.66, 0.34], [0.2, 0.8]], "the decision for a at the threshold 0.65 differs for 2 of 4"),
        ([[0.93, 0.07], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]], "the label differs for 2 of 4 images (1 allowed)"),
    ],
)  # fmt: skip
def test_a_quantized_model_is_changed_beyond_stated_bounds(first: Any, change: str) -> None:
    expected = ExpectedPredictions(
        NAMES, np.array(FOUR, np.float32), ("a", "a", "a", "b"), thresholds=(Threshold("a", 0.65),)
    )
    findings = {
        finding.check: finding for finding in check_outputs(honest() | all_batches(first), INT8, expected)
    }
    finding = findings["close to kerastl predict"]
    assert finding.result == ("changed" if change else "ok")
    assert finding.ok != bool(change)
    assert change in finding.detail


def test_a_small_change_of_all_log_odds_is_not_taken_for_a_temperature() -> None:
    wanted = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    nudged = np.array([[0.901, 0.099], [0.203, 0.797], [0.602, 0.398]], np.float32)
    assert find_cause(nudged, wanted, NAMES) == ""
    logits = np.log(wanted) / 1.02
    hotter = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert "0.98 times" in find_cause(hotter, wanted, NAMES)
    assert "class order ['b', 'a']" in find_cause(wanted[:, ::-1], wanted, NAMES)


def test_independent_faults_stay_two_faults_and_an_added_file_explains_nothing() -> None:
    findings = [
        Finding("files", False, "notes.txt was added; saved_model.pb was changed"),
        Finding("class names", False, "x"),
        Finding("equal to kerastl predict", False, "x"),
        Finding("wrong size rejected", False, "x"),
    ]
    results = {finding.check: finding.result for finding in explain(findings)}
    assert results == {
        "files": "FAULT", "class names": "FAULT", "equal to kerastl predict": "see class names",
        "wrong size rejected": "FAULT",
    }  # fmt: skip


def test_a_model_that_is_not_available_is_one_fault_of_each_api() -> None:
    checks = {"gRPC: available": True, "gRPC: version": False, "REST: available": False, "REST: version": False, "REST: columns": None}  # fmt: skip
    results = [
        finding.result for finding in explain([Finding(check, ok, "") for check, ok in checks.items()])
    ]
    assert results == ["ok", "FAULT", "FAULT", "see REST: available", "not checked"]
