"""Check the outputs other than probabilities: do they agree with `serving_default`?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export.findings import SAME_ANSWER, Finding

Floats = npt.NDArray[np.float32]


def judge_others(answers: dict[str, Any]) -> list[Finding]:
    """Check the outputs `top_classes`, `classify`, `features` and `explain`; those that an export lacks have no finding.

    Args:
        answers: from the probe; each endpoint's three answers are under `others`.
    """
    first = answers["batch"][0]
    repeated = answers.get("others", {})
    others = {name: repeats[0] for name, repeats in repeated.items()}
    rows = np.asarray(first["probabilities"], np.float32)
    findings = []
    if "top_classes" in first:
        findings.append(
            _judge_ranked("top classes", rows, first, first["top_classes"], first["top_scores"])
        )
    if "classify" in others:
        one = others["classify"]
        findings.append(_judge_ranked("classify", rows, first, one["classes"], one["scores"]))
    if "features" in others:
        findings.append(_judge_features(_floats(others["features"]["features"]), rows))
    if "explain" in others:
        findings.append(_judge_explain(others["explain"], first["predicted"]))
    for name, repeats in repeated.items():
        # As text: NaN in the same place is the same output.
        if len({json.dumps(answer) for answer in repeats}) > 1:
            findings.append(
                Finding(f"{name} repeated", False, "the outputs change from call to call")
            )
    return findings


def _judge_ranked(
    check: str, rows: Floats, first: dict[str, Any], classes: list[list[str]], scores: Any
) -> Finding:
    """Judge classes that are told best first, with their scores."""
    told = _floats(scores)
    best = -np.sort(-rows, axis=1)[:, : told.shape[1]]
    gap = float(np.abs(best - told).max()) if best.shape == told.shape else float("inf")
    named = all(
        abs(dict(zip(names, row, strict=True)).get(name, np.inf) - score) <= SAME_ANSWER
        for names, row, some, numbers in zip(first["class_names"], rows, classes, told, strict=True)
        for name, score in zip(some, numbers, strict=True)
    )
    if named and gap <= SAME_ANSWER:
        return Finding(check, True, "the probabilities of serving_default, the best first")
    return Finding(
        check, False, "other classes or scores than the probabilities of serving_default"
    )


def _judge_features(features: Floats, rows: Floats) -> Finding:
    check = "features"
    if not np.isfinite(features).all():
        return Finding(check, False, "not finite")
    if np.ptp(rows, axis=0).max() > SAME_ANSWER and not np.ptp(features, axis=0).max() > 0:
        return Finding(check, False, "pictures with other answers have the same")
    return Finding(check, True, f"{features.shape[1]} numbers a picture")


def _judge_explain(told: dict[str, Any], predicted: list[str]) -> Finding:
    check, heat = "explain", _floats(told["heatmap"])
    if told["predicted"] != predicted:
        return Finding(check, False, "explains another class than serving_default answers")
    if not (np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1):
        return Finding(check, False, "a map leaves 0 to 1")
    return Finding(check, True, f"maps of {heat.shape[1]} x {heat.shape[2]}, from 0 to 1")


def _floats(rows: Any) -> Floats:
    return np.asarray(rows, dtype=np.float32)
