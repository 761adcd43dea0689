"""From a model's own probabilities to what a server answers: temperature, another prevalence, an operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.evaluation.label_shift import corrected
from kerastl.evaluation.predictions import Array
from kerastl.evaluation.temperature import with_temperature

COLDEST, HOTTEST = 1e-3, 1e3
"""Beyond what `fit_temperature` looks for; a probability survives both."""
SLACK = 1e-6
"""A threshold is the probability of a picture of validation, which is to be called positive itself: rounding may not part them."""


@dataclass(frozen=True)
class Prevalence:
    """How common each class is, in the order of the probabilities.

    Args:
        learnt: shares that the model's probabilities stand for, each above 0, of sum 1.
        served: shares where it will be asked, each at least 0, of sum 1.
    """

    learnt: tuple[float, ...]
    served: tuple[float, ...]


@dataclass(frozen=True)
class Threshold:
    """When a picture is called positive.

    Args:
        positive: the class.
        at: least probability of it, 0 to 1, before temperature and prevalence change it.
    """

    positive: str
    at: float


@dataclass(frozen=True)
class Answering:
    """What is done to the softmax of the logits before it is answered; by default nothing.

    Args:
        temperature: what logits are divided by, above 0.
        prevalence: what is then corrected for (Saerens et al. 2002, equation 4).
        threshold: decides `predicted` in place of the largest probability: the positive class at or above it, the most
            probable other class below.
    """

    temperature: float | None = None
    prevalence: Prevalence | None = None
    threshold: Threshold | None = None

    def applied(self, probabilities: Array) -> Array:
        """Return `[n, classes]` float64 for the model's own probabilities of that shape."""
        found = np.asarray(probabilities, np.float64)
        if self.temperature is not None:
            found = with_temperature(found, self.temperature)
        if self.prevalence is not None:
            shares = np.asarray(self.prevalence.learnt), np.asarray(self.prevalence.served)
            found = corrected(found, *shares)
        return found

    def taken_back(self, answered: Array) -> Array:
        """Return the model's own probabilities `[n, classes]` float64 for those that are answered: what undoes `applied`."""
        own = np.asarray(answered, np.float64)
        if self.prevalence is not None:
            own = own * np.asarray(self.prevalence.learnt) / np.asarray(self.prevalence.served)
        own = own / own.sum(axis=1, keepdims=True)
        if self.temperature is not None:
            own = own**self.temperature
            own = own / own.sum(axis=1, keepdims=True)
        return own

    def predicted(self, probabilities: Array, class_names: Sequence[str]) -> list[str]:
        """Return the class that is answered for each row of the model's own probabilities."""
        answered = self.applied(probabilities)
        if self.threshold is None:
            return [class_names[place] for place in answered.argmax(axis=1)]
        positive = list(class_names).index(self.threshold.positive)
        called = np.asarray(probabilities)[:, positive] >= self.threshold.at - SLACK
        answered[:, positive] = np.where(called, 2.0, -1.0)
        return [class_names[place] for place in answered.argmax(axis=1)]

    def answered_at(self, class_names: Sequence[str]) -> float | None:
        """Return the threshold as a probability that is answered: of two classes only, where the one orders as the other."""
        if self.threshold is None or len(class_names) != 2:
            return None
        positive = list(class_names).index(self.threshold.positive)
        row = np.full((1, 2), 1 - self.threshold.at)
        row[0, positive] = self.threshold.at
        return float(self.applied(row)[0, positive])

    def told(self, class_names: Sequence[str]) -> str:
        """Return in words how is answered."""
        parts = []
        if self.temperature is not None:
            parts.append(f"at temperature {self.temperature:.3g}")
        if self.prevalence is not None:
            shares = zip(class_names, self.prevalence.served, strict=True)
            parts.append(
                "for the prevalence " + ", ".join(f"{name} {one:.3g}" for name, one in shares)
            )
        if self.threshold is not None:
            at = self.answered_at(class_names)
            told = f"{at:.3g}" if at is not None else f"{self.threshold.at:.3g} before both"
            parts.append(f"{self.threshold.positive} is predicted from probability {told} on")
        return "Answers " + ("; ".join(parts) if parts else "as learnt")

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return what `manifest.json` of an export says of it."""
        shares, threshold = self.prevalence, self.threshold
        return {
            "temperature": self.temperature,
            "prevalence": None if shares is None else {
                "learnt": dict(zip(class_names, shares.learnt, strict=True)),
                "served": dict(zip(class_names, shares.served, strict=True)),
            },
            "threshold": None if threshold is None else {
                "positive": threshold.positive, "at": threshold.at,
                "answered_at": self.answered_at(class_names),
            },
        }  # fmt: skip


AS_LEARNT = Answering()
"""The softmax of the logits, and the class with the largest probability."""


def read_answering(told: Mapping[str, Any] | None, class_names: Sequence[str]) -> Answering:
    """Read what `to_json` wrote; None is as learnt.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    if told is None:
        return AS_LEARNT
    temperature, shares, threshold = (
        told[key] for key in ("temperature", "prevalence", "threshold")
    )
    return Answering(
        None if temperature is None else read_temperature(temperature),
        None if shares is None else Prevalence(
            _above_zero(_shares(shares["learnt"], class_names)),
            _shares(shares["served"], class_names),
        ),
        None if threshold is None else _threshold(threshold, class_names),
    )  # fmt: skip


def read_temperature(value: Any) -> float:
    """Return a temperature that a file tells.

    Raises:
        TypeError, ValueError, OverflowError: it is none that could have been fitted.
    """
    number = float(value)
    if not COLDEST <= number <= HOTTEST:
        raise ValueError(f"a temperature must be {COLDEST} to {HOTTEST}, got {value}")
    return number


def _shares(told: Mapping[str, Any], class_names: Sequence[str]) -> tuple[float, ...]:
    shares = tuple(float(told[name]) for name in class_names)
    if len(told) != len(class_names) or not abs(sum(shares) - 1) < 1e-3 or min(shares) < 0:
        raise ValueError("a prevalence must name each class, with shares of sum 1")
    return shares


def _above_zero(shares: tuple[float, ...]) -> tuple[float, ...]:
    if min(shares) <= 0:
        raise ValueError("no class may have a learnt share of 0: nothing can be corrected")
    return shares


def _threshold(told: Mapping[str, Any], class_names: Sequence[str]) -> Threshold:
    positive, at = str(told["positive"]), float(told["at"])
    if positive not in class_names or not 0 <= at <= 1:
        raise ValueError("a threshold must name a class and a probability from 0 to 1")
    return Threshold(positive, at)
