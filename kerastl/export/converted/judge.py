"""Judge what a converted model answered: NumPy only, one finding for each promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export.findings import (
    SAME_ANSWER,
    Expected,
    Finding,
    judge_alone,
    judge_numbers,
    judge_repeats,
    judge_told_apart,
    largest_gap,
)
from kerastl.export.manifest import Manifest

Floats = npt.NDArray[np.float32]

OTHER_LABELS = 0.02
"""Share of pictures that a quantized model may call otherwise; one picture it may in any case."""


def judge_converted(
    answers: dict[str, Any], manifest: Manifest, expected: Expected | None
) -> list[Finding]:
    """Judge the answers of a fresh process.

    Args:
        answers: as `_ask.py` writes them.
        manifest: tells the classes, and whether the model was quantized.
        expected: what kerastl itself answers; None: not at hand.
    """
    repeats = [np.asarray(one, np.float32) for one in answers["batch"]]
    first, alone = repeats[0], np.asarray(answers["alone"], np.float32)
    quantize = (manifest.conversion or {}).get("quantize")
    return [
        _judge_names(answers["class_names"], manifest, expected),
        _judge_numbers(first, len(manifest.class_names)),
        judge_equal(first, quantize, expected.probabilities if expected else None),
        judge_repeats(repeats),
        judge_alone(first, alone),
        _judge_size(answers["wrong_size"]),
        judge_told_apart(first),
    ]


def _judge_names(names: list[str], manifest: Manifest, expected: Expected | None) -> Finding:
    wanted = list(expected.class_names if expected else manifest.class_names)
    whose = "the model's" if expected else "the manifest's"
    for where, found in (("the file", names), ("the manifest", list(manifest.class_names))):
        if found != wanted:
            return Finding("class names", False, f"{found} in {where}, {whose} are {wanted}")
    return Finding("class names", True, f"{len(wanted)} names in {whose} order")


def _judge_numbers(first: Floats, num_classes: int) -> Finding:
    if first.ndim != 2 or first.shape[1] != num_classes:
        told = f"{list(first.shape)}, and there are {num_classes} classes"
        return Finding("probabilities", False, told)
    return judge_numbers(first)


def judge_equal(first: Floats, quantize: str | None, wanted: Any) -> Finding:
    """Compare with kerastl's own answers: in float32 within `SAME_ANSWER`, quantized by the labels.

    Args:
        first: `[n, classes]`, of the export.
        quantize: what it was quantized to; None: not.
        wanted: `[n, classes]`, what it should answer; None: not at hand.
    """
    check = "equal to kerastl predict" if quantize is None else "near kerastl predict"
    if wanted is None:
        return Finding(check, None, "not compared: the model is not at hand. Give --run RUN")
    if first.shape != wanted.shape:
        return Finding(check, False, f"{first.shape} probabilities against {wanted.shape}")
    gap = largest_gap(first, wanted)
    others = int((first.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    detail = f"{len(first)} pictures, largest difference {gap:.1e}, labels that differ: {others}"
    if quantize is None:
        return Finding(check, gap <= SAME_ANSWER, detail)
    allowed = max(1, int(OTHER_LABELS * len(first)))
    passed = bool(np.isfinite(gap)) and others <= allowed
    return Finding(check, passed, f"{detail} (by {quantize} up to {allowed} may)")


def _judge_size(refusal: str | None) -> Finding:
    if refusal is None:
        return Finding("another size refused", False, "it answers for pictures of a wrong size")
    return Finding("another size refused", True, "by its runtime")
