"""Check the outputs of an export with NumPy: one finding for each property."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export.manifest import Manifest

Floats = npt.NDArray[np.float32]

MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability between two programs that compute the same."""
MAX_BATCH_DIFFERENCE = 1e-5
"""Largest difference of a probability between an image alone and in a batch."""
MIN_SPREAD = 1e-2
"""Smallest difference between the predictions for two images with which the checks are meaningful."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: its name, a few words.
        passed: None if the check was not made.
        detail: one line: what was measured, or what is wrong.
    """

    check: str
    passed: bool | None
    detail: str

    @property
    def ok(self) -> bool:
        """True if the check passed or was not made."""
        return self.passed is not False


@dataclass(frozen=True)
class ExpectedPredictions:
    """The predictions that an export must reproduce.

    Args:
        class_names: in the order of the probabilities.
        probabilities: `[n, classes]` float32, one row for each image.
        predicted: the predicted class of each image; None for the most probable one.
        settings: required values of fields of the manifest; empty if unknown.
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

NO_RUN = "not compared, because the model of the run is unavailable. Add --run RUN"


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


def check_outputs(
    outputs: dict[str, Any], manifest: Manifest, expected: ExpectedPredictions | None
) -> list[Finding]:
    """Check the outputs of `serving_default` and `pixels`.

    Args:
        outputs: as `_probe.py` writes them.
        manifest: of the export.
        expected: predictions of the run's own model; None if unavailable.
    """
    batch = outputs["batch"][0]
    repeats = [as_floats(repeat["probabilities"]) for repeat in outputs["batch"]]
    single = as_floats([image["probabilities"][0] for image in outputs["single"]])
    pixels = as_floats(outputs["pixels"]["probabilities"])
    first = repeats[0]
    names = [row for output in [*outputs["batch"], outputs["pixels"]] for row in output["class_names"]]
    return [
        check_class_names(names, manifest, expected),
        check_probabilities(first),
        _check_predicted(batch, manifest),
        _check_predictions(first, pixels, batch["predicted"], expected),
        check_repeats(repeats),
        check_batch_independence(first, single),
        _check_pixels(first, pixels),
        _check_wrong_size(outputs["wrong_size"], manifest.image_size_px),
        check_spread(first),
    ]


def check_class_names(
    rows: list[list[str]], manifest: Manifest, expected: ExpectedPredictions | None
) -> Finding:
    """Compare the class names in the outputs and in the manifest with those of the run or of the manifest."""
    wanted = list(expected.class_names if expected else manifest.class_names)
    origin = "run" if expected else "manifest"
    for where, names in [*(("export", row) for row in rows), ("manifest", list(manifest.class_names))]:
        if names != wanted:
            return Finding("class names", False, f"{names} in the {where}, {wanted} in the {origin}")
    return Finding("class names", True, f"{len(wanted)} names in the order of the {origin}")


def check_probabilities(first: Floats) -> Finding:
    """Check that the rows are probabilities."""
    difference = float(np.abs(first.sum(axis=1) - 1).max())
    passed = bool(np.isfinite(first).all() and first.min() >= 0 and difference < MAX_DIFFERENCE)
    detail = "finite, and each row sums to 1" if passed else "not finite, negative, or rows do not sum to 1"
    return Finding("probabilities", passed, detail)


def _check_predicted(batch: dict[str, Any], manifest: Manifest) -> Finding:
    rows, threshold = as_floats(batch["probabilities"]), manifest.postprocessing.threshold
    if threshold is None:
        best = [names[index] for names, index in zip(batch["class_names"], rows.argmax(1), strict=True)]
        passed, rule = best == batch["predicted"], "the most probable class"
    else:
        names = list(manifest.class_names)
        others = np.where([name == threshold.positive for name in names], -1.0, rows).argmax(1)
        passed = all(
            name in (threshold.positive, names[other])
            for name, other in zip(batch["predicted"], others, strict=True)
        )
        rule = f"{threshold.positive!r} by its threshold, or the most probable other class"
    return Finding("predicted", passed, f"is {rule}" if passed else f"is not {rule}")


def _check_predictions(
    first: Floats, pixels: Floats, predicted: list[str], expected: ExpectedPredictions | None
) -> Finding:
    check = "equal to kerastl predict"
    if expected is None:
        return Finding(check, None, NO_RUN)
    if first.shape != expected.probabilities.shape:
        shapes = f"{first.shape} instead of {expected.probabilities.shape}"
        return Finding(check, False, f"probabilities have the shape {shapes}")
    difference = largest_difference(first, expected.probabilities)
    wanted = expected.predicted
    if wanted is None:
        best = expected.probabilities.argmax(axis=1)
        wanted = tuple(expected.class_names[index] for index in best)
    wrong = sum(name != label for name, label in zip(predicted, wanted, strict=True))
    if difference <= MAX_DIFFERENCE and not wrong:
        return Finding(check, True, f"{len(first)} images, largest difference {difference:.1e}")
    detail = f"probabilities differ by up to {difference:.2g}, {wrong} of {len(first)} labels differ"
    if largest_difference(pixels, expected.probabilities) <= MAX_DIFFERENCE:
        detail += "; predictions for decoded images are correct, so decoding differs: window or resizing"
    return Finding(check, False, detail)


def check_repeats(repeats: list[Floats]) -> Finding:
    """Check that repeated predictions are bit-equal."""
    passed = all(repeat.tobytes() == repeats[0].tobytes() for repeat in repeats)
    detail = f"{len(repeats)} calls are bit-equal" if passed else "the predictions change from call to call"
    return Finding("repeatable", passed, detail)


def check_batch_independence(first: Floats, single: Floats) -> Finding:
    """Check that a prediction does not depend on the other images of its batch."""
    difference = largest_difference(first, single)
    passed = difference <= MAX_BATCH_DIFFERENCE
    detail = f"largest difference {difference:.1e}"
    if not passed:
        detail += ": predictions depend on the other images, as with BatchNorm in training mode"
    return Finding("independent of the batch", passed, detail)


def _check_pixels(first: Floats, pixels: Floats) -> Finding:
    difference = largest_difference(first, pixels)
    passed = difference <= MAX_DIFFERENCE
    detail = f"largest difference {difference:.1e}"
    if not passed:
        detail += ": files are not decoded as the manifest states (window, size, color)"
    return Finding("pixels equal to files", passed, detail)


def _check_wrong_size(refusal: str | None, image_size_px: int) -> Finding:
    check = "wrong size rejected"
    if refusal is None:
        return Finding(check, False, "the endpoint `pixels` accepts images of a wrong size")
    is_named = str(image_size_px) in refusal
    return Finding(check, is_named, f"the message names {'the' if is_named else 'no'} size")


def check_spread(first: Floats) -> Finding:
    """Check that the images have different predictions: otherwise the other checks mean little."""
    spread = float((first.max(axis=0) - first.min(axis=0)).max()) if len(first) else 0.0
    check = "images differ"
    if spread >= MIN_SPREAD:
        return Finding(check, True, f"predictions differ by up to {spread:.2g}")
    return Finding(check, False, f"predictions differ by only {spread:.1e}. Verify on other images")


def largest_difference(first: Floats, second: Floats) -> float:
    """Return the largest absolute difference; infinity for different shapes or values that are not finite."""
    if first.shape != second.shape:
        return float("inf")
    difference = float(np.abs(first - second).max())
    return difference if np.isfinite(difference) else float("inf")


def as_floats(rows: Any) -> Floats:
    """Return nested lists as a float32 array."""
    return np.asarray(rows, dtype=np.float32)
