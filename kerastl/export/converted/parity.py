"""Does a converted model answer for a run's pictures as the run did?"""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastl.errors import first_line
from kerastl.export.converted.find import Converted
from kerastl.export.converted.judge import judge_equal
from kerastl.export.converted.read import read_converted
from kerastl.export.findings import SAME_ANSWER

Array = np.ndarray[Any, Any]


def compare_converted(found: Converted, *, pixels: Array, probabilities: Array) -> dict[str, Any]:
    """Give a converted model the pixels of a run, and compare with what the run made of them.

    Args:
        found: its folder and format.
        pixels: `[n, size, size, 3]` float32, as the run's pipeline hands them to its model.
        probabilities: `[n, classes]`, the run's own answers; the export may tell them at a temperature and for another
            prevalence, as its manifest says.

    Returns:
        As `compare_with_run`, with pixels that were not compared. Of a quantized model `differ` counts labels, and no
        difference of a probability is a fault: `allowed` is None.
    """
    told: dict[str, Any] = {
        "pixels": {"compared": False, "reason": "it takes decoded pictures"},
        "answers": None,
        "faults": [],
    }
    try:
        opened = read_converted(found)
        answers = opened.ask(np.asarray(pixels, np.float32))
    except Exception as error:  # each runtime has errors of its own
        told["faults"].append(f"it gives no answer for pictures of the run: {first_line(error)}")
        return told
    quantize = (opened.manifest.conversion or {}).get("quantize")
    expected = opened.manifest.how.applied(probabilities)
    finding = judge_equal(answers, quantize, expected)
    if answers.shape == expected.shape:
        told["answers"] = _counted(answers, expected, quantize)
    if not finding.good:
        told["faults"].append(f"it is not {finding.check}: {finding.detail}")
    return told


def _counted(answers: Array, expected: Array, quantize: str | None) -> dict[str, Any]:
    gaps = np.abs(answers - expected).max(axis=1)
    labels = answers.argmax(axis=1) != expected.argmax(axis=1)
    return {
        "differ": int((~(gaps <= SAME_ANSWER) if quantize is None else labels).sum()),
        "largest_difference": float(gaps.max()) if np.isfinite(gaps).all() else None,
        "allowed": SAME_ANSWER if quantize is None else None,
    }
