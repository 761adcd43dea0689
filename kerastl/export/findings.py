"""Judge what an export answered: NumPy only, one finding for each promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export.manifest import Manifest

Floats = npt.NDArray[np.float32]

SAME_ANSWER = 1e-4
"""Largest difference of a probability between two programs that compute the same."""
SAME_IN_BATCH = 1e-5
"""Largest difference of a probability between an image alone and in a batch."""
TOLD_APART = 1e-2
"""Smallest difference between two images' answers for a check that could fail at all."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        check: its name, a few words.
        passed: None where it was not made.
        detail: one line: what was measured, or what is wrong.
    """

    check: str
    passed: bool | None
    detail: str

    @property
    def good(self) -> bool:
        """Tell whether no fault was found; also where the check was not made."""
        return self.passed is not False


@dataclass(frozen=True)
class Expected:
    """What kerastl itself answers.

    Args:
        class_names: in the order of the probabilities.
        probabilities: `[n, classes]` float32, a row for each image.
        predicted: the class that is answered for each; None: the one with the largest probability.
        settings: fields of the manifest with the values that they must have; empty: not known.
    """

    class_names: tuple[str, ...]
    probabilities: Floats
    predicted: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


GRAPH_CHECKS = {
    "python": ("no Python function", "would need this Python process"),
    "random": ("no random operation", "would predict differently each time, or augment"),
    "compiled": ("no XLA compilation", "TensorFlow Serving does not run it on a CPU"),
    "unknown": ("no unknown operation", "TensorFlow does not have it"),
    "outside": ("no file or network access", "could reach files, the network or another process"),
    "writes": ("no variable is written", "changes the model while it serves"),
}
"""The name of the check for each kind of `graph_faults`, and why such an operation is a fault."""


def graph_findings(faults: dict[str, list[str]] | None) -> list[Finding]:
    """Return one finding for each kind of operation that a served graph must not contain.

    Args:
        faults: as `graph_faults` returns them; None if the graph cannot be read.
    """
    if faults is None:
        unread = "the graph cannot be read"
        return [Finding(check, None, unread) for check, _ in GRAPH_CHECKS.values()]
    return [
        Finding(check, False, f"{', '.join(faults[kind][:5])}: {reason}")
        if faults[kind]
        else Finding(check, True, "every function of the graph was checked")
        for kind, (check, reason) in GRAPH_CHECKS.items()
    ]


def judge_answers(answers: dict[str, Any], manifest: Manifest, expected: Expected | None) -> list[Finding]:
    """Judge what both endpoints answered."""
    repeats = [_floats(one["probabilities"]) for one in answers["batch"]]
    alone = _floats([one["probabilities"][0] for one in answers["alone"]])
    pixels = _floats(answers["pixels"]["probabilities"])
    first = repeats[0]
    return [
        _judge_names(answers, manifest, expected),
        judge_numbers(first),
        _judge_predicted(answers["batch"][0], manifest),
        _judge_equal(first, pixels, answers["batch"][0]["predicted"], expected),
        judge_repeats(repeats),
        judge_alone(first, alone),
        _judge_pixels(first, pixels),
        _judge_size(answers["wrong_size"], manifest.image_size_px),
        judge_told_apart(first),
    ]


def _judge_names(answers: dict[str, Any], manifest: Manifest, expected: Expected | None) -> Finding:
    wanted = list(expected.class_names if expected else manifest.class_names)
    whose = "the model's" if expected else "the manifest's"
    rows = [row for one in [*answers["batch"], answers["pixels"]] for row in one["class_names"]]
    wrong = [row for row in [*rows, list(manifest.class_names)] if row != wanted]
    if wrong:
        return Finding("class names", False, f"{wrong[0]} in the export, {whose} are {wanted}")
    return Finding("class names", True, f"{len(wanted)} names in {whose} order")


def judge_numbers(first: Floats) -> Finding:
    """Judge whether rows are probabilities at all."""
    gap = float(np.abs(first.sum(axis=1) - 1).max())
    passed = bool(np.isfinite(first).all() and first.min() >= 0 and gap < SAME_ANSWER)
    detail = "finite, and each row sums to 1" if passed else "not finite, or rows do not sum to 1"
    return Finding("probabilities", passed, detail)


def _judge_predicted(batch: dict[str, Any], manifest: Manifest) -> Finding:
    rows, threshold = _floats(batch["probabilities"]), manifest.how.threshold
    if threshold is None:
        named = [names[best] for names, best in zip(batch["class_names"], rows.argmax(1), strict=True)]
        passed, rule = named == batch["predicted"], "the class with the largest probability"
    else:
        of = list(manifest.class_names)
        others = np.where([name == threshold.positive for name in of], -1.0, rows).argmax(1)
        passed = all(
            name in (threshold.positive, of[other])
            for name, other in zip(batch["predicted"], others, strict=True)
        )
        rule = f"{threshold.positive!r} by its threshold, or the most probable other class"
    return Finding("predicted", passed, f"is {rule}" if passed else f"is not {rule}")


def _judge_equal(first: Floats, pixels: Floats, predicted: list[str], expected: Expected | None) -> Finding:
    check = "equal to kerastl predict"
    if expected is None:
        return Finding(check, None, "not compared: the model is not at hand. Give --run RUN")
    if first.shape != expected.probabilities.shape:
        shapes = f"{first.shape} against {expected.probabilities.shape}"
        return Finding(check, False, f"probabilities of another shape: {shapes}")
    gap = largest_gap(first, expected.probabilities)
    wanted = expected.predicted
    if wanted is None:
        best = expected.probabilities.argmax(axis=1)
        wanted = tuple(expected.class_names[place] for place in best)
    others = sum(name != right for name, right in zip(predicted, wanted, strict=True))
    if gap <= SAME_ANSWER and not others:
        return Finding(check, True, f"{len(first)} images, largest difference {gap:.1e}")
    detail = f"probabilities differ by up to {gap:.2g}, {others} of {len(first)} labels differ"
    if largest_gap(pixels, expected.probabilities) <= SAME_ANSWER:
        detail += "; decoded images get the right answer, so decoding differs: window or resizing"
    return Finding(check, False, detail)


def judge_repeats(repeats: list[Floats]) -> Finding:
    """Judge whether the same question has the same answer, to the bit."""
    passed = all(one.tobytes() == repeats[0].tobytes() for one in repeats)
    detail = "equal to the bit" if passed else "the answers change from call to call"
    return Finding(f"asked {len(repeats)} times", passed, detail)


def judge_alone(first: Floats, alone: Floats) -> Finding:
    """Judge whether an answer depends on the images that it was asked together with."""
    gap = largest_gap(first, alone)
    passed = gap <= SAME_IN_BATCH
    detail = f"largest difference {gap:.1e}"
    if not passed:
        detail += ": an answer depends on the other images, as with BatchNorm in training mode"
    return Finding("alone as in a batch", passed, detail)


def _judge_pixels(first: Floats, pixels: Floats) -> Finding:
    gap = largest_gap(first, pixels)
    passed = gap <= SAME_ANSWER
    detail = f"largest difference {gap:.1e}"
    if not passed:
        detail += ": files are not decoded as the manifest says (window, size, colours)"
    return Finding("pixels as files", passed, detail)


def _judge_size(refusal: str | None, image_size_px: int) -> Finding:
    check = "another size refused"
    if refusal is None:
        return Finding(check, False, "the endpoint `pixels` answers for images of a wrong size")
    named = str(image_size_px) in refusal
    return Finding(check, named, "by a message that names " + ("it" if named else "no size"))


def judge_told_apart(first: Floats) -> Finding:
    """Judge whether the images have answers that differ: else nothing is proven."""
    spread = float((first.max(axis=0) - first.min(axis=0)).max()) if len(first) else 0.0
    if spread >= TOLD_APART:
        return Finding("images told apart", True, f"answers differ by up to {spread:.2g}")
    return Finding(
        "images told apart",
        False,
        f"answers differ by {spread:.1e} only: these images prove nothing. Give others",
    )


def largest_gap(first: Floats, second: Floats) -> float:
    """Return the largest difference, or infinity where shapes differ or a number is none."""
    if first.shape != second.shape:
        return float("inf")
    gap = float(np.abs(first - second).max())
    # NaN compares as small in no test below; infinity fails each.
    return gap if np.isfinite(gap) else float("inf")


def _floats(rows: list[list[float]]) -> Floats:
    return np.asarray(rows, dtype=np.float32)
