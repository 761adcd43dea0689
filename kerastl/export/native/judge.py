"""The check of `verify` that needs no Python to answer: what a server would load, answers as the fresh process did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.export.findings import SAME_ANSWER, Expected, Finding
from kerastl.export.native.build import Unavailable
from kerastl.export.native.loader import (
    Answer,
    Question,
    Told,
    ask_without_python,
    signatures_of,
)
from kerastl.export.native.wire import Array
from kerastl.export.tf_example import example_of

CHECK = "without Python"
NOT_LOADED = Finding(CHECK, None, "not checked: it was not loaded, as it reaches outside")
NAMES = ("predicted", "class_names")
"""Texts that must be equal; where classes are ranked, rounding may swap two that are as probable."""

Wanted = dict[str, dict[str, Any]]
"""What others answered, by whose answer it is and the output's name."""


def without_python(
    export: Path,
    *,
    pictures: Sequence[bytes],
    images: Array,
    answers: dict[str, Any] | None,
    expected: Expected | None,
) -> Finding:
    """Ask every endpoint through TensorFlow's C++ loader, and compare.

    Args:
        export: the numbered folder. Its graph must stay inside the process, see `outside_ops`.
        pictures: whole files.
        images: the same pictures decoded, `[n, size, size, 3]` float32 in [0, 255].
        answers: what the fresh Python process was answered; None: nothing.
        expected: what kerastl itself answers; None: not known.

    Returns:
        `passed` is None where this machine cannot build the loader.
    """
    try:
        questions = _questions(export, pictures, images)
        told = ask_without_python(export, questions)
    except Unavailable as error:
        return Finding(CHECK, None, f"not checked: {error}")
    except RequestError as error:
        return Finding(CHECK, False, str(error))
    faults = _refusals(told, questions)
    if faults:
        return Finding(CHECK, False, "; ".join(faults))
    largest, compared = 0.0, 0
    for question, answer in zip(questions, told.answers, strict=True):
        for whose, wanted in _wanted(question.signature, answers, expected).items():
            gap, differing = _differences(answer, wanted)
            faults += [f"{question.signature}: {one} those of {whose}" for one in differing]
            largest, compared = max(largest, gap), compared + len(wanted)
    if faults:
        return Finding(CHECK, False, "; ".join(faults))
    names = ", ".join(question.signature for question in questions)
    outcome = f"largest difference {largest:.1e}" if compared else "there was nothing to compare"
    return Finding(CHECK, True, f"TensorFlow's C++ loader answers {names}: {outcome}")


def _questions(export: Path, pictures: Sequence[bytes], images: Array) -> list[Question]:
    """Return a question to both endpoints that every export has, and to the others that this one has."""
    found = [
        Question("serving_default", {"image_bytes": pictures}),
        Question("pixels", {"images": images}),
    ]
    others: dict[str, dict[str, Sequence[bytes]]] = {
        "classify": {"inputs": [example_of(one) for one in pictures]},
        "features": {"image_bytes": pictures},
        "explain": {"image_bytes": pictures},
    }
    there = signatures_of(export)
    return [*found, *(Question(name, one) for name, one in others.items() if name in there)]


def _refusals(told: Told, questions: Sequence[Question]) -> list[str]:
    """Return why there is no answer, one line each, as TensorFlow says it."""
    if told.fault:
        return [f"TensorFlow's C++ loader: {_line(told.fault)}"]
    return [
        f"{question.signature}: {_line(answer.refusal)}"
        for question, answer in zip(questions, told.answers, strict=True)
        if answer.refusal
    ]


def _line(text: str) -> str:
    return " ".join(text.split())[:400]


def _wanted(signature: str, answers: dict[str, Any] | None, expected: Expected | None) -> Wanted:
    found: Wanted = {}
    if answers is not None:
        both = {"serving_default": answers["batch"][0], "pixels": answers["pixels"]}
        found["the fresh process"] = {**both, **answers.get("others", {})}.get(signature, {})
    if expected is not None and signature in ("serving_default", "pixels"):
        found["kerastl predict"] = {
            "probabilities": expected.probabilities,
            "class_names": [list(expected.class_names)] * len(expected.probabilities),
        }
        if expected.predicted is not None:
            found["kerastl predict"]["predicted"] = list(expected.predicted)
    return found


def _differences(answer: Answer, wanted: dict[str, Any]) -> tuple[float, list[str]]:
    """Return the largest difference of a number, and what differs by more than is allowed."""
    largest, faults = 0.0, []
    for name, value in wanted.items():
        if name not in answer.outputs:
            faults.append(f"there is no {name} to compare with")
        elif answer.outputs[name].dtype == object:
            if name in NAMES and _texts(answer.outputs[name]) != value:
                faults.append(f"{name} differ from")
        else:
            gap = _gap(answer.outputs[name], value)
            largest = max(largest, gap)
            if not gap <= SAME_ANSWER:
                faults.append(f"{name} differ by {gap:.2g} from")
    return largest, faults


def _gap(found: Array, wanted: Any) -> float:
    """Return the largest difference; of features, which may be large, as a part of the largest."""
    first, second = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if first.shape != second.shape:
        return float("inf")
    # A NaN in the same place is the same answer: other checks tell that it is wrong.
    gaps = np.where(np.isnan(first) & np.isnan(second), 0.0, np.abs(first - second))
    gap = float(gaps.max(initial=0.0)) / max(1.0, float(np.abs(second).max(initial=0.0)))
    return gap if np.isfinite(gap) else float("inf")


def _texts(array: Array) -> Any:
    """Return an array of bytes as nested lists of text."""
    if array.ndim > 1:
        return [_texts(row) for row in array]
    return [one.decode(errors="replace") if isinstance(one, bytes) else one for one in array]
