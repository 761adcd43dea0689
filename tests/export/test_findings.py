"""Each check of `verify`, passed and failed, on synthetic outputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kerastl.export import ExpectedPredictions
from kerastl.export.findings import check_outputs
from kerastl.export.manifest import Manifest

NAMES = ("a", "b")
ROWS = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
MANIFEST = Manifest(
    class_names=NAMES, image_size_px=24, window=None, max_pixels=1000, model_sha256="", versions={}, files={},
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
