"""Answers as lines of text: CSV, or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kerastl.export.predicting.answering import Answer
from kerastl.runs import csv_line

CSV, JSON = "csv", "json"


def header(kind: str, class_names: Sequence[str]) -> str:
    """Return what stands above the rows; JSON lines have nothing there."""
    return csv_line(columns(class_names)) if kind == CSV else ""


def columns(class_names: Sequence[str]) -> list[str]:
    """Return the names of a table's columns."""
    return ["path", "predicted", "problem", *(f"prob_{one}" for one in class_names)]


def rows(kind: str, answers: Sequence[Answer], class_names: Sequence[str]) -> str:
    """Return a line for each answer; CSV has six digits of a probability, JSON all of them."""
    line = _csv if kind == CSV else _json
    return "".join(line(answer, class_names) for answer in answers)


def _csv(answer: Answer, class_names: Sequence[str]) -> str:
    numbers = [f"{one:.6g}" for one in answer.probabilities] or [""] * len(class_names)
    return csv_line([answer.path, answer.predicted, answer.problem, *numbers])


def _json(answer: Answer, class_names: Sequence[str]) -> str:
    return json.dumps(_as_object(answer, class_names), ensure_ascii=False) + "\n"


def _as_object(answer: Answer, class_names: Sequence[str]) -> dict[str, Any]:
    if answer.problem:
        return {"path": answer.path, "problem": answer.problem}
    probabilities = dict(zip(class_names, answer.probabilities, strict=True))
    return {"path": answer.path, "predicted": answer.predicted, "probabilities": probabilities}
