"""Judge what a server answered: NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.export.findings import SAME_ANSWER, Expected
from kerastl.export.live.answers import Answers, Floats, LiveFault, clean

AVAILABLE = "AVAILABLE"
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: AVAILABLE, 40: "UNLOADING", 50: "END"}
SAME_TEMPERATURE = 0.02
"""Largest relative deviation from one common factor between log odds that differ by a temperature."""


@dataclass(frozen=True)
class Reference:
    """What a server must answer.

    Args:
        class_names: in the order of the probabilities.
        probabilities: `[n, classes]` float32.
        predicted: n names; None: the class with the largest probability.
    """

    class_names: tuple[str, ...]
    probabilities: Floats
    predicted: tuple[str, ...] | None = None

    @classmethod
    def of(cls, answers: dict[str, Any] | None, expected: Expected | None) -> Reference | None:
        """Return what the export answered in a fresh process, or else what the run's model answers."""
        if answers is not None:
            first = answers["batch"][0]
            rows = np.asarray(first["probabilities"], np.float32)
            return cls(tuple(first["class_names"][0]), rows, tuple(first["predicted"]))
        if expected is not None:
            return cls(expected.class_names, expected.probabilities, expected.predicted)
        return None

    def first(self, count: int) -> Reference:
        """Return the reference for the first pictures."""
        predicted = None if self.predicted is None else self.predicted[:count]
        return Reference(self.class_names, self.probabilities[:count], predicted)

    def names_predicted(self) -> tuple[str, ...]:
        """Return the names that must be predicted."""
        if self.predicted is not None:
            return self.predicted
        return tuple(self.class_names[index] for index in self.probabilities.argmax(axis=1))


def judge_status(status: Any, version: int | None) -> str:
    """Return how the version that is meant stands.

    Args:
        status: a `GetModelStatusResponse`.
        version: number of the export's folder; None: any will do.

    Raises:
        LiveFault: it is not available.
    """
    states = {
        one.version: STATES.get(one.state, str(one.state)) for one in status.model_version_status
    }
    told = ", ".join(f"version {number} {state}" for number, state in sorted(states.items())[:9])
    if version is None:
        if AVAILABLE not in states.values():
            raise LiveFault(f"no version is available: {told or 'there is none'}")
        return told
    if version not in states:
        raise LiveFault(
            f"version {version} is not there ({told or 'there is none'}). Put the export's folder, "
            f"named {version}, where the server looks for versions"
        )
    if states[version] != AVAILABLE:
        errors = [
            clean(one.status.error_message)
            for one in status.model_version_status
            if one.version == version
        ]
        raise LiveFault(f"{told}. {errors[0] or 'Ask again when it is loaded'}")
    return told


def judge_version(answering: int, version: int | None) -> str:
    """Return which version answers a client that names none.

    Raises:
        LiveFault: another one than the export's.
    """
    if version is None:
        return f"version {answering} answers; the export's folder has no number to compare"
    if answering != version:
        raise LiveFault(
            f"version {answering} answers, and this is version {version}. Check the one that answers "
            "instead, or have the server take this one: the highest number, or model_version_policy in models.config"
        )
    return f"version {answering} answers"


def judge_answers(answers: Sequence[Answers], reference: Reference) -> str:
    """Return how well answers agree with the reference.

    Args:
        answers: for consecutive pictures, from the first on.
        reference: for these pictures.

    Raises:
        LiveFault: they do not.
    """
    names = [row for one in answers for row in one.class_names]
    due = sorted(reference.class_names)
    for row in names:
        if sorted(row) != due:
            raise LiveFault(
                f"other classes: {_listed(row)}, in the export {_listed(reference.class_names)}"
            )
    rows = np.concatenate([_ordered(one, reference.class_names) for one in answers])
    predicted = [name for one in answers for name in one.predicted or ()]
    # The Classify interface names each score, so that its order says nothing.
    if predicted and any(row != reference.class_names for row in names):
        raise LiveFault(
            f"classes in another order: {_listed(names[0])}, in the export {_listed(reference.class_names)}"
        )
    gap = float(np.abs(rows - reference.probabilities).max())
    wanted = reference.names_predicted()
    others = sum(one != other for one, other in zip(predicted, wanted, strict=False))
    # Not `gap > SAME_ANSWER`: NaN is no agreement.
    if gap <= SAME_ANSWER and not others:
        return f"{len(rows)} pictures, largest difference {gap:.1e}"
    detail = f"probabilities differ by up to {gap:.2g}"
    if predicted:
        detail += f", {others} of {len(rows)} labels differ"
    raise LiveFault(f"{detail}: {_cause(rows, reference.probabilities)}")


def judge_refusal(code: str, words: str, wanted: str) -> str:
    """Return how a picture that cannot be decoded was refused.

    Raises:
        LiveFault: it was answered, or refused as if the server were at fault.
    """
    if code == wanted and words:
        return f"{code}: {words}"
    if code in ("OK", "200"):
        raise LiveFault("bytes that are no picture were answered")
    raise LiveFault(f"{code} where {wanted} and a reason are due: {words or 'without a reason'}")


def _ordered(answers: Answers, class_names: tuple[str, ...]) -> Floats:
    """Return the probabilities with their columns in the order of `class_names`."""
    rows = []
    for names, row in zip(answers.class_names, answers.probabilities, strict=True):
        place = {name: index for index, name in enumerate(names)}
        rows.append(row[[place[name] for name in class_names]])
    return np.stack(rows)


def _cause(rows: Floats, wanted: Floats) -> str:
    """Say what the difference looks like: a temperature, or another model or prevalence."""
    factor = _common_factor(_log_odds(rows), _log_odds(wanted))
    if factor is not None:
        return f"all log odds are {factor:.3g} times the export's, as by another temperature"
    return "another model, window, size or prevalence answers there"


def _common_factor(there: Floats, mine: Floats) -> float | None:
    """Return the one factor between two sets of log odds; None: there is none."""
    if not (np.isfinite(there).all() and np.isfinite(mine).all() and np.abs(mine).max() > 0):
        return None
    factor = float((there * mine).sum() / (mine * mine).sum())
    left = np.abs(there - factor * mine).max() / np.abs(mine).max()
    return factor if factor > 0 and left <= SAME_TEMPERATURE * factor else None


def _log_odds(rows: Floats) -> Floats:
    """Return log probabilities less their mean in each row; not finite where a probability is 0 or less."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(rows.astype(np.float64))
        centred: Floats = logs - logs.mean(axis=1, keepdims=True)
    return centred


def _listed(names: Sequence[str]) -> str:
    return clean(str(list(names[:9])))
