"""The check of `verify` that needs no Python to answer: what a server would load, answers as the fresh process did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.export.findings import SAME_ANSWER, Expected, Finding
from kerastl.export.native.build import Unavailable
from kerastl.export.native.loader import Answer, Question, Told, ask_without_python
from kerastl.export.native.wire import Array

CHECK = "without Python"
OUTPUTS = ("probabilities", "predicted", "class_names")
NOT_LOADED = Finding(CHECK, None, "not checked: it was not loaded, as it reaches outside")


def without_python(
    export: Path,
    *,
    pictures: Sequence[bytes],
    images: Array,
    answers: dict[str, Any] | None,
    expected: Expected | None,
) -> Finding:
    """Ask both endpoints through TensorFlow's C++ loader, and compare.

    Args:
        export: the numbered folder. Its graph must stay inside the process, see `outside_ops`.
        pictures: whole files.
        images: the same pictures decoded, `[n, size, size, 3]` float32 in [0, 255].
        answers: what the fresh Python process was answered; None: nothing.
        expected: what kerastl itself answers; None: not known.

    Returns:
        `passed` is None where this machine cannot build the loader.
    """
    questions = [
        Question("serving_default", {"image_bytes": pictures}, OUTPUTS),
        Question("pixels", {"images": images}, OUTPUTS),
    ]
    try:
        told = ask_without_python(export, questions)
    except Unavailable as error:
        return Finding(CHECK, None, f"not checked: {error}")
    except RequestError as error:
        return Finding(CHECK, False, str(error))
    faults = _refusals(told, questions)
    if faults:
        return Finding(CHECK, False, "; ".join(faults))
    wanted = _wanted(answers, expected)
    gap = 0.0
    for question, answer, python in zip(questions, told.answers, wanted, strict=True):
        faults += _differences(question.signature, answer, python)
        gap = max([gap, *(_gap(answer, one["probabilities"]) for one in python.values())])
    if faults:
        return Finding(CHECK, False, "; ".join(faults))
    if not any(wanted):
        return Finding(CHECK, True, "TensorFlow's C++ loader answers; there was nothing to compare")
    detail = f"TensorFlow's C++ loader answers bytes and pixels alike, largest difference {gap:.1e}"
    return Finding(CHECK, True, detail)


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


def _wanted(
    answers: dict[str, Any] | None, expected: Expected | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return for `serving_default` and `pixels` what others answered, by their names."""
    from_bytes, from_pixels = {}, {}
    if answers is not None:
        from_bytes["the fresh process"] = answers["batch"][0]
        from_pixels["the fresh process"] = answers["pixels"]
    if expected is not None:
        from_bytes["kerastl predict"] = from_pixels["kerastl predict"] = {
            "probabilities": expected.probabilities,
            "class_names": [list(expected.class_names)] * len(expected.probabilities),
        }
    return from_bytes, from_pixels


def _differences(signature: str, answer: Answer, wanted: dict[str, Any]) -> list[str]:
    faults = []
    for whose, one in wanted.items():
        gap = _gap(answer, one["probabilities"])
        if not gap <= SAME_ANSWER:
            faults.append(f"{signature}: probabilities differ from those of {whose} by {gap:.2g}")
        for name in ("predicted", "class_names"):
            if name in one and _texts(answer.outputs[name]) != one[name]:
                faults.append(f"{signature}: {name} differ from those of {whose}")
    return faults


def _gap(answer: Answer, wanted: Any) -> float:
    first = np.asarray(answer.outputs["probabilities"], np.float64)
    second = np.asarray(wanted, np.float64)
    if first.shape != second.shape:
        return float("inf")
    # A NaN in the same place is the same answer: other checks tell that it is wrong.
    gap = float(np.where(np.isnan(first) & np.isnan(second), 0.0, np.abs(first - second)).max())
    return gap if np.isfinite(gap) else float("inf")


def _texts(array: Array) -> Any:
    """Return an array of bytes as nested lists of text."""
    if array.ndim > 1:
        return [_texts(row) for row in array]
    return [one.decode(errors="replace") if isinstance(one, bytes) else one for one in array]
