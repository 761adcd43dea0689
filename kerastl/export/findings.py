"""Check the outputs of an export with NumPy, with one finding per property."""

from __future__ import annotations

import json
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
MAX_CHANGED_LABELS = 0.02
"""Share of images for which a quantized model may predict a different class; at least one image."""
MIN_SPREAD = 1e-2
"""Smallest difference between the predictions for two images with which the checks are meaningful."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: The name of the check, a few words.
        passed: Whether the check passed; None if it was not made.
        detail: One line that states what was measured or what is wrong.
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
        class_names: Class names in the order of the probabilities.
        probabilities: `[n, classes]` float32, one row for each image.
        predicted: The predicted class of each image.
        settings: Required values of fields of the manifest; empty if unknown.
    """

    class_names: tuple[str, ...]
    probabilities: Floats
    predicted: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


NO_RUN = "not compared, because the model of the run is unavailable. Add --run RUN"


def check_outputs(
    outputs: dict[str, Any], manifest: Manifest, expected: ExpectedPredictions | None
) -> list[Finding]:
    """Check the outputs of an export: of its endpoints, or of a converted model.

    Args:
        outputs: The outputs, as `_probe.py` writes them. A converted model has no `pixels`, `predicted` and
            `extra`.
        manifest: The manifest of the export.
        expected: Predictions of the run's own model; None if unavailable.
    """
    batch = outputs["batch"][0]
    repeats = [as_floats(repeat["probabilities"]) for repeat in outputs["batch"]]
    first = repeats[0]
    findings = [
        _check_class_names(outputs, manifest, expected),
        _check_probabilities(first, len(manifest.class_names)),
    ]
    if "predicted" in batch:
        findings.append(_check_predicted(batch, manifest))
    findings += [
        _check_agreement(outputs, first, manifest.quantize, expected),
        _check_repeats(repeats),
        _check_difference(
            "independent of the batch",
            first,
            [image["probabilities"][0] for image in outputs["single"]],
            MAX_BATCH_DIFFERENCE,
            "predictions depend on the other images, as with BatchNorm in training mode",
        ),
    ]
    if "pixels" in outputs:
        pixels = outputs["pixels"]["probabilities"]
        cause = "files are not decoded as the manifest states (window, size, color)"
        findings.append(_check_difference("pixels equal to files", first, pixels, MAX_DIFFERENCE, cause))
    if not manifest.with_resize:
        findings.append(_check_wrong_size(outputs, manifest.image_size_px))
    findings.append(_check_spread(first))
    return findings + _check_extra(first, batch, outputs.get("extra", {}))


def _check_class_names(
    outputs: dict[str, Any], manifest: Manifest, expected: ExpectedPredictions | None
) -> Finding:
    """Compare the class names in the outputs and in the manifest with those of the run or of the manifest."""
    wanted = list(expected.class_names if expected else manifest.class_names)
    origin = "run" if expected else "manifest"
    rows = [row for output in outputs["batch"] for row in output["class_names"]]
    rows += outputs.get("pixels", {"class_names": []})["class_names"]
    for where, names in [*(("export", row) for row in rows), ("manifest", list(manifest.class_names))]:
        if names != wanted:
            return Finding("class names", False, f"{names} in the {where}, {wanted} in the {origin}")
    return Finding("class names", True, f"{len(wanted)} names in the order of the {origin}")


def _check_probabilities(first: Floats, num_classes: int) -> Finding:
    if first.ndim != 2 or first.shape[1] != num_classes:
        return Finding("probabilities", False, f"shape {list(first.shape)} for {num_classes} classes")
    difference = float(np.abs(first.sum(axis=1) - 1).max())
    passed = bool(np.isfinite(first).all() and first.min() >= 0 and difference < MAX_DIFFERENCE)
    detail = "finite, and each row sums to 1" if passed else "not finite, negative, or rows do not sum to 1"
    return Finding("probabilities", passed, detail)


def _check_predicted(batch: dict[str, Any], manifest: Manifest) -> Finding:
    rows, threshold = as_floats(batch["probabilities"]), manifest.postprocessing.threshold
    names = np.array(manifest.class_names)
    rule, positive = "the most probable class", []
    if threshold is not None:
        rule = f"{threshold.positive!r} by its threshold, or the most probable other class"
        positive = [threshold.positive]
        rows = np.where(names == threshold.positive, -1.0, rows)
    best = names[rows.argmax(axis=1)]
    passed = all(name in (label, *positive) for name, label in zip(batch["predicted"], best, strict=True))
    return Finding("predicted", passed, f"is {rule}" if passed else f"is not {rule}")


def _check_agreement(
    outputs: dict[str, Any], first: Floats, quantize: str | None, expected: ExpectedPredictions | None
) -> Finding:
    """Compare with the run's predictions: probabilities or, if the model was quantized, labels."""
    check = "equal to kerastl predict" if quantize is None else "close to kerastl predict"
    if expected is None:
        return Finding(check, None, NO_RUN)
    wanted = expected.probabilities
    if first.shape != wanted.shape:
        return Finding(check, False, f"probabilities have the shape {first.shape} instead of {wanted.shape}")
    difference = largest_difference(first, wanted)
    differ, allowed = count_differences(first, wanted, quantize)
    detail = f"{len(first)} images, largest difference {difference:.1e}"
    if quantize is not None:
        detail += f", {differ} labels differ ({allowed} allowed for {quantize})"
        return Finding(check, differ <= allowed, detail)
    predicted = outputs["batch"][0].get("predicted", expected.predicted)
    wrong = sum(name != label for name, label in zip(predicted, expected.predicted, strict=True))
    if differ <= allowed and not wrong:
        return Finding(check, True, detail)
    detail = f"probabilities differ by up to {difference:.2g}, {wrong} of {len(first)} labels differ"
    pixels = outputs.get("pixels")
    if pixels and largest_difference(as_floats(pixels["probabilities"]), wanted) <= MAX_DIFFERENCE:
        detail += "; predictions for decoded images are correct, so decoding differs: window or resizing"
    return Finding(check, False, detail)


def count_differences(first: Floats, wanted: Any, quantize: str | None) -> tuple[int, int]:
    """Return the number of images for which two sets of probabilities differ, and the allowed number.

    Args:
        first: `[n, classes]`, of an export.
        wanted: `[n, classes]`, of its run.
        quantize: Quantization of the export. The labels of a quantized model are compared, else the
            probabilities.
    """
    differences = np.abs(first - wanted).max(axis=1)
    if quantize is None:
        # Not `> MAX_DIFFERENCE`: NaN differs.
        return int(np.count_nonzero(~(differences <= MAX_DIFFERENCE))), 0
    differs = (first.argmax(axis=1) != wanted.argmax(axis=1)) | ~np.isfinite(differences)
    return int(np.count_nonzero(differs)), max(1, int(MAX_CHANGED_LABELS * len(first)))


def _check_repeats(repeats: list[Floats]) -> Finding:
    passed = all(repeat.tobytes() == repeats[0].tobytes() for repeat in repeats)
    detail = (
        f"{len(repeats)} calls are bit-identical" if passed else "the predictions change from call to call"
    )
    return Finding("repeatable", passed, detail)


def _check_difference(check: str, first: Floats, second: Any, limit: float, cause: str) -> Finding:
    difference = largest_difference(first, as_floats(second))
    detail = f"largest difference {difference:.1e}"
    return Finding(check, difference <= limit, detail if difference <= limit else f"{detail}: {cause}")


def _check_wrong_size(outputs: dict[str, Any], image_size_px: int) -> Finding:
    check, refusal = "wrong size rejected", outputs["wrong_size"]
    if refusal is None:
        return Finding(check, False, "it accepts images of a wrong size")
    if "pixels" not in outputs:
        return Finding(check, True, "by its runtime")
    is_named = str(image_size_px) in refusal
    return Finding(check, is_named, f"the message names {'the' if is_named else 'no'} size")


def _check_spread(first: Floats) -> Finding:
    """Check that the images have different predictions. Otherwise, the other checks are not meaningful."""
    spread = float(np.ptp(first, axis=0).max())
    check = "images differ"
    if spread >= MIN_SPREAD:
        return Finding(check, True, f"predictions differ by up to {spread:.2g}")
    return Finding(check, False, f"predictions differ by only {spread:.1e}. Verify on different images")


def _check_extra(first: Floats, batch: dict[str, Any], extra: dict[str, Any]) -> list[Finding]:
    """Check `top_classes`, `classify`, `features` and `explain`; missing outputs have no finding."""
    findings = []
    if "top_classes" in batch:
        findings.append(
            _check_ranking("top classes", first, batch, batch["top_classes"], batch["top_scores"])
        )
    if "classify" in extra:
        classify = extra["classify"][0]
        findings.append(_check_ranking("classify", first, batch, classify["classes"], classify["scores"]))
    if "features" in extra:
        findings.append(_check_features(as_floats(extra["features"][0]["features"]), first))
    if "explain" in extra:
        findings.append(_check_explain(extra["explain"][0], batch["predicted"]))
    for name, repeats in extra.items():
        # As text, so that NaN at the same position counts as equal.
        if len({json.dumps(output) for output in repeats}) > 1:
            findings.append(Finding(f"{name} repeated", False, "the outputs change from call to call"))
    return findings


def _check_ranking(
    check: str, first: Floats, batch: dict[str, Any], classes: list[list[str]], scores: Any
) -> Finding:
    """Check classes in descending order of their scores against the probabilities."""
    ranked = as_floats(scores)
    best = -np.sort(-first, axis=1)[:, : ranked.shape[1]]
    by_name = [dict(zip(*row, strict=True)) for row in zip(batch["class_names"], first, strict=True)]
    named = [[row.get(name, np.inf) for name in names] for row, names in zip(by_name, classes, strict=True)]
    if max(largest_difference(as_floats(named), ranked), largest_difference(best, ranked)) <= MAX_DIFFERENCE:
        return Finding(check, True, "the probabilities of serving_default in descending order")
    return Finding(check, False, "classes or scores differ from the probabilities of serving_default")


def _check_features(features: Floats, rows: Floats) -> Finding:
    check = "features"
    if not np.isfinite(features).all():
        return Finding(check, False, "not finite")
    if np.ptp(rows, axis=0).max() > MAX_DIFFERENCE and not np.ptp(features, axis=0).max() > 0:
        return Finding(check, False, "images with different predictions have the same features")
    return Finding(check, True, f"{features.shape[1]} features per image")


def _check_explain(output: dict[str, Any], predicted: list[str]) -> Finding:
    check, heatmap = "explain", as_floats(output["heatmap"])
    if output["predicted"] != predicted:
        return Finding(check, False, "explains a different class from the one that serving_default predicts")
    if not (np.isfinite(heatmap).all() and heatmap.min() >= 0 and heatmap.max() <= 1):
        return Finding(check, False, "a heatmap has values outside [0, 1]")
    return Finding(check, True, f"heatmaps of {heatmap.shape[1]} x {heatmap.shape[2]}, in [0, 1]")


def largest_difference(first: Floats, second: Floats) -> float:
    """Return the largest absolute difference; infinity for different shapes or values that are not finite."""
    if first.shape != second.shape:
        return float("inf")
    difference = float(np.abs(first - second).max())
    return difference if np.isfinite(difference) else float("inf")


def as_floats(rows: Any) -> Floats:
    """Return nested lists as a float32 array."""
    return np.asarray(rows, dtype=np.float32)
