"""Check the outputs of an export with NumPy, with one finding per property."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export.manifest import Manifest
from kerastl.export.postprocess import Postprocessing, Threshold
from kerastl.image_size import Size

Floats = npt.NDArray[np.float32]

MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability between two programs that compute the same."""
MAX_BATCH_DIFFERENCE = 1e-5
"""Largest difference of a probability between an image alone and in a batch."""
MAX_QUANTIZED_DIFFERENCE = 0.05
"""Largest difference of a probability between a quantized model and its run."""
MAX_CHANGED_LABELS = 0.02
"""Share of images for which a quantized model may predict a different class, or decide differently at an operating
point; at least one image."""
MAX_STORED = 1.5
"""Largest size of the stored weights relative to those with different contents."""
SAME_FACTOR = 0.02
"""Largest deviation from one factor or shift of all log odds, relative to the change that it explains."""
MIN_SPREAD = 1e-2
"""Smallest difference between the predictions for two images with which the checks are meaningful."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: The name of the check, a few words.
        passed: Whether the check passed; None if it was not made.
        detail: One line that states what was measured or what is wrong.
        is_change: Whether a failed check means that quantization changed the predictions.
        cause: The failed check that explains this one, which is then not counted as a fault; None if there is none.
    """

    check: str
    passed: bool | None
    detail: str
    is_change: bool = False
    cause: str | None = None

    @property
    def ok(self) -> bool:
        """True if the check passed, was not made, or failed for the reason of another one."""
        return self.passed is not False

    @property
    def result(self) -> str:
        """`ok`, `FAULT`, `changed`, `see CAUSE` or `not checked`."""
        if self.cause is not None:
            return f"see {self.cause}"
        if self.passed is None:
            return "not checked"
        return "ok" if self.passed else "changed" if self.is_change else "FAULT"


@dataclass(frozen=True)
class ExpectedPredictions:
    """The predictions that an export must reproduce.

    Args:
        class_names: Class names in the order of the probabilities.
        probabilities: `[n, classes]` float32, one row for each image.
        predicted: The predicted class of each image.
        settings: Required values of fields of the manifest; empty if unknown.
        thresholds: The operating points of the run; empty if unknown.
    """

    class_names: tuple[str, ...]
    probabilities: Floats
    predicted: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[Threshold, ...] = ()


FILES, SETTINGS, WEIGHTS, CLASS_NAMES = "files", "settings", "weights", "class names"
CLIENT_FILES = "client files"
ENDPOINTS, FRESH_PROCESS, WARM_UP, TYPES, SIZE = "endpoints", "fresh process", "warm-up", "types", "size"
EQUAL, CLOSE, PIXELS = "equal to kerastl predict", "close to kerastl predict", "pixels equal to files"
RESIZE = "resize equal to kerastl predict"
REPEATABLE, INDEPENDENT, SPREAD = "repeatable", "independent of the batch", "images differ"
PROBABILITIES, PREDICTED, FEATURES, CLASSIFY = "probabilities", "predicted", "features", "classify"
PYTHON, RANDOM, WRITES = "no Python function", "no random operation", "no variable is written"
REDUCED = "float32 computation"
AGREEMENT = frozenset({EQUAL, CLOSE, SPREAD})
LABELS = AGREEMENT | {PREDICTED, "top classes", CLASSIFY, "explain"}
OUTPUTS = LABELS | {PROBABILITIES, INDEPENDENT, PIXELS, RESIZE, FEATURES}
CONSEQUENCES: dict[str, frozenset[str]] = {
    PYTHON: frozenset({RANDOM, WRITES}),
    RANDOM: frozenset({WRITES}),
    ENDPOINTS: frozenset({FRESH_PROCESS}),
    REDUCED: OUTPUTS,
    WEIGHTS: AGREEMENT | {FEATURES},
    SETTINGS: AGREEMENT | {CLIENT_FILES},
    CLASS_NAMES: LABELS | {CLIENT_FILES},
    REPEATABLE: OUTPUTS | {WRITES},
    INDEPENDENT: OUTPUTS | {WRITES},
    PROBABILITIES: OUTPUTS,
    PREDICTED: LABELS,
    PIXELS: AGREEMENT | {CLASSIFY, FEATURES},
    EQUAL: frozenset({SPREAD, FEATURES}),
    CLOSE: frozenset({SPREAD}),
}
"""The checks that fail for the same reason as another one, which is sought in this order."""


OUTPUT_FILES = ("README.md ", "sample.json ")
"""Files that contain outputs of a converted model: how the text of a change to one of them begins."""
AVAILABLE = ": available"
"""End of the name of the first check of each API of a server. All others fail if the model is not available."""


def explain(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings with one fault for each cause: the other failed checks name the one that explains them."""
    by_check = {finding.check: finding for finding in findings}

    def mark(cause: str, checks: Iterable[str]) -> None:
        for check in set(checks) & by_check.keys() - {cause}:
            if not by_check[check].ok:
                by_check[check] = replace(by_check[check], passed=None, cause=cause)

    # Half floats in the outputs also change the values; float64 does not.
    if TYPES in by_check and "float16" in by_check[TYPES].detail:
        mark(TYPES, OUTPUTS | {REDUCED})
    unavailable = {
        check: [other for other in by_check if other.startswith(check.removesuffix(AVAILABLE) + ": ")]
        for check in by_check
        if check.endswith(AVAILABLE)
    }
    for cause, checks in (CONSEQUENCES | unavailable).items():
        if cause in by_check and not by_check[cause].ok:
            mark(cause, checks)
    if FILES in by_check and not by_check[FILES].ok:
        mark(FILES, [FRESH_PROCESS, CLIENT_FILES])
        files = by_check[FILES].detail.split("; ")
        effects = [
            _effect_of_change(file, by_check.values())
            for file in files
            # These files contain outputs of the model, so they differ if the model was replaced.
            if not (file.startswith(OUTPUT_FILES) and any(change.startswith("model.") for change in files))
        ]
        if effects[0] is not None and None not in effects:
            mark(effects[0], [FILES])
    return [by_check[finding.check] for finding in findings]


def _effect_of_change(change: str, findings: Iterable[Finding]) -> str | None:
    """Return a failed check that shows what a changed file of an export does; None if there is none."""
    failed = [finding.check for finding in findings if not finding.ok and finding.check != FILES]
    if change.startswith("assets.extra/"):
        return WARM_UP if WARM_UP in failed else None
    is_model = change.startswith(("variables/", "saved_model.pb ", "model."))
    return next((check for check in failed if is_model and check not in (WARM_UP, SETTINGS)), None)


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
        _check_agreement(outputs, first, manifest, expected),
        _check_repeats(repeats),
        _check_difference(
            INDEPENDENT,
            first,
            [image["probabilities"][0] for image in outputs["single"]],
            MAX_BATCH_DIFFERENCE,
            "predictions depend on the other images, as with BatchNorm in training mode",
        ),
    ]
    if "pixels" in outputs:
        pixels = outputs["pixels"]["probabilities"]
        cause = "files are not decoded as the manifest states (window, size, color)"
        findings.append(_check_difference(PIXELS, first, pixels, MAX_DIFFERENCE, cause))
    findings += _check_sizes(outputs, first, manifest)
    findings.append(_check_spread(first))
    findings += _check_extra(first, batch, outputs.get("extra", {}))
    return findings if "weights" not in outputs else [*findings, _check_warm_up(outputs["warm_up"])]


def check_weights(
    outputs: dict[str, Any] | None, manifest: Manifest, expected: ExpectedPredictions | None
) -> Finding:
    """Compare the variables of a SavedModel with its manifest, and the model in the manifest with that of the run."""
    stored = (outputs or {}).get("weights")
    wanted = expected.settings.get("model_sha256") if expected is not None else None
    if wanted not in (None, manifest.model_sha256):
        return Finding(
            WEIGHTS, False, "the export is of another model than that of the run. Export the run again"
        )
    if manifest.conversion is not None:
        return Finding(WEIGHTS, True if wanted else None, "of the model of the run" if wanted else NO_RUN)
    if stored is None:
        return Finding(WEIGHTS, None, "not compared, because the variables could not be read")
    if stored["sha256"] == manifest.variables_sha256:
        return Finding(WEIGHTS, True, "the stored variables have the fingerprint in the manifest")
    detail = (
        "the stored variables are not those that were exported: their fingerprint is not that of the manifest"
    )
    return Finding(WEIGHTS, False, f"{detail}. Export the run again")


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
            return Finding(CLASS_NAMES, False, f"{names} in the {where}, {wanted} in the {origin}")
    return Finding(CLASS_NAMES, True, f"{len(wanted)} names in the order of the {origin}")


def _check_probabilities(first: Floats, num_classes: int) -> Finding:
    if first.ndim != 2 or first.shape[1] != num_classes:
        return Finding(PROBABILITIES, False, f"shape {list(first.shape)} for {num_classes} classes")
    difference = float(np.abs(first.sum(axis=1) - 1).max())
    passed = bool(np.isfinite(first).all() and first.min() >= 0 and difference < MAX_DIFFERENCE)
    detail = "finite, and each row sums to 1" if passed else "not finite, negative, or rows do not sum to 1"
    return Finding(PROBABILITIES, passed, detail)


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
    return Finding(PREDICTED, passed, f"is {rule}" if passed else f"is not {rule}")


def _check_agreement(
    outputs: dict[str, Any], first: Floats, manifest: Manifest, expected: ExpectedPredictions | None
) -> Finding:
    """Compare with the run's predictions: within rounding or, if the model was quantized, within stated bounds."""
    check = EQUAL if manifest.quantize is None else CLOSE
    if expected is None:
        return Finding(check, None, NO_RUN)
    wanted = expected.probabilities
    if first.shape != wanted.shape:
        return Finding(check, False, f"probabilities have the shape {first.shape} instead of {wanted.shape}")
    difference = largest_difference(first, wanted)
    detail = f"{len(first)} images, largest difference {difference:.1e}"
    if manifest.quantize is not None:
        changes = quantization_changes(
            first, wanted, manifest.class_names, manifest.postprocessing, expected.thresholds
        )
        detail += f" ({MAX_QUANTIZED_DIFFERENCE:g} allowed for {manifest.quantize})"
        return Finding(check, not changes, "; ".join(changes) or detail, is_change=bool(changes))
    predicted = outputs["batch"][0].get("predicted", expected.predicted)
    wrong = sum(name != label for name, label in zip(predicted, expected.predicted, strict=True))
    if difference <= MAX_DIFFERENCE and not wrong:
        return Finding(check, True, detail)
    detail = f"probabilities differ by up to {difference:.2g}, {wrong} of {len(first)} labels differ"
    cause = find_cause(first, wanted, expected.class_names)
    return Finding(check, False, f"{detail}: {cause}" if cause else detail)


def quantization_changes(
    first: Floats,
    wanted: Floats,
    class_names: Sequence[str],
    postprocessing: Postprocessing,
    thresholds: Sequence[Threshold] = (),
) -> list[str]:
    """Return how a quantized model changes predictions beyond the bounds; empty if it does not.

    A probability may differ by `MAX_QUANTIZED_DIFFERENCE`. The label, and the decision at each operating point, may
    differ for `MAX_CHANGED_LABELS` of the images.

    Args:
        first: `[n, classes]`, of the quantized model.
        wanted: `[n, classes]`, of the model before quantization.
        class_names: Class names in the order of the probabilities.
        postprocessing: The postprocessing in both.
        thresholds: Operating points.
    """
    changes = []
    difference = largest_difference(first, wanted)
    if difference > MAX_QUANTIZED_DIFFERENCE:
        changes.append(f"a probability differs by {difference:.2g} ({MAX_QUANTIZED_DIFFERENCE:g} allowed)")
    rules: dict[str, Threshold | None] = {"the label": None}
    own = (postprocessing.threshold,) if postprocessing.threshold else ()
    for threshold in (*own, *thresholds):
        rules[f"the decision for {threshold.positive} at the threshold {threshold.probability:.3g}"] = (
            threshold
        )
    allowed = max(1, int(MAX_CHANGED_LABELS * len(first)))
    logits = [postprocessing.invert(rows) for rows in (wanted, first)]
    for name, threshold in rules.items():
        decide = replace(postprocessing, threshold=threshold).predict_labels
        before, after = (np.array(decide(rows, class_names)) for rows in logits)
        if threshold is not None:
            before, after = before == threshold.positive, after == threshold.positive
        differ = int(np.count_nonzero(before != after))
        if differ > allowed:
            changes.append(f"{name} differs for {differ} of {len(first)} images ({allowed} allowed)")
    return changes


def _check_repeats(repeats: list[Floats]) -> Finding:
    passed = all(repeat.tobytes() == repeats[0].tobytes() for repeat in repeats)
    detail = (
        f"{len(repeats)} calls are bit-identical" if passed else "the predictions change from call to call"
    )
    return Finding(REPEATABLE, passed, detail)


def _check_difference(check: str, first: Floats, second: Any, limit: float, cause: str) -> Finding:
    # Values that are not finite are a fault of the probabilities.
    difference = largest_difference(np.nan_to_num(first), np.nan_to_num(as_floats(second)))
    detail = f"largest difference {difference:.1e}"
    return Finding(check, difference <= limit, detail if difference <= limit else f"{detail}: {cause}")


def _check_wrong_size(outputs: dict[str, Any], image_size_px: Size) -> Finding:
    check, refusal = "wrong size rejected", outputs["wrong_size"]
    if refusal is None:
        return Finding(check, False, "it accepts images of a wrong size")
    if "pixels" not in outputs:
        return Finding(check, True, "by its runtime")
    is_named = all(str(side) in refusal for side in image_size_px)
    return Finding(check, is_named, f"the message names {'the' if is_named else 'no'} size")


def _check_sizes(outputs: dict[str, Any], first: Floats, manifest: Manifest) -> list[Finding]:
    """Check that a wrong size is rejected or, for a model that resizes, that it resizes as `kerastl predict` does."""
    if not manifest.with_resize:
        return [_check_wrong_size(outputs, manifest.image_size_px)]
    resized = as_floats(outputs["resized"])
    cause = "the model does not resize as kerastl predict does"
    return [
        _check_difference(RESIZE, first[: len(resized)], resized, MAX_DIFFERENCE, cause),
        Finding("wrong size rejected", None, "the model resizes images of any size"),
    ]


def _check_spread(first: Floats) -> Finding:
    """Check that the images have different predictions. Otherwise, the other checks are not meaningful."""
    spread = float(np.ptp(first, axis=0).max())
    check = SPREAD
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


def _check_warm_up(warm_up: dict[str, Any] | None) -> Finding:
    if warm_up is None:
        return Finding(WARM_UP, None, "the export has no warm-up requests")
    faults = "; ".join(warm_up["faults"][:3])
    fault = f"{faults}. TensorFlow Serving would not load this version. Export the run again"
    return Finding(WARM_UP, not faults, fault if faults else f"{warm_up['records']} requests run")


def check_size(num_bytes: int, outputs: dict[str, Any]) -> Finding:
    """Report the size and the memory of an export, and check that a SavedModel holds its weights once.

    Args:
        num_bytes: Size of all files.
        outputs: The outputs, as `_probe.py` writes them.
    """
    megabyte = 10**6
    detail = f"{num_bytes / megabyte:,.1f} MB"
    weights = outputs.get("weights")
    if weights is not None:
        detail += f", of which {weights['bytes'] / megabyte:,.1f} MB are weights"
    detail += f"; peak memory of the process {outputs['memory_bytes'] / megabyte:,.0f} MB"
    if weights is not None and weights["bytes"] > MAX_STORED * weights["distinct_bytes"]:
        distinct = f"only {weights['distinct_bytes'] / megabyte:,.1f} MB of the weights are different"
        return Finding(SIZE, False, f"{detail}; {distinct}: they are stored more than once")
    return Finding(SIZE, True, detail)


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
    check = FEATURES
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


def find_cause(first: Floats, wanted: Floats, class_names: Sequence[str]) -> str:
    """Return the postprocessing or the order of the classes that explains different probabilities; empty if none does.

    Args:
        first: `[n, classes]`, of an export or a server.
        wanted: `[n, classes]`, the expected ones.
        class_names: Class names in the order of `wanted`.
    """
    if first.shape != wanted.shape or len(first) < 2 or largest_difference(first, wanted) <= MAX_DIFFERENCE:
        return ""
    order = [
        int(np.abs(first[:, [column]] - wanted).max(axis=0).argmin()) for column in range(first.shape[1])
    ]
    if len(set(order)) == len(order) and largest_difference(first, wanted[:, order]) <= MAX_DIFFERENCE:
        return f"the probabilities are in the class order {[class_names[index] for index in order]}"
    there, own = _log_odds(first), _log_odds(wanted)
    factor = _common_factor(there, own)
    if factor is not None:
        return f"all log odds are {factor:.3g} times the expected ones, as with a different temperature"
    with np.errstate(invalid="ignore"):
        shift = there - own
    if np.isfinite(shift).all() and np.ptp(shift, axis=0).max() <= SAME_FACTOR * np.abs(shift).max():
        return "the log odds of each class differ by a constant, as with a different prevalence"
    return ""


def _common_factor(there: Floats, own: Floats) -> float | None:
    """Return the common factor between two sets of log odds; None if there is none."""
    if not (np.isfinite(there).all() and np.isfinite(own).all() and np.abs(own).max() > 0):
        return None
    factor = float((there * own).sum() / (own * own).sum())
    rest = np.abs(there - factor * own).max() / np.abs(own).max()
    return factor if factor > 0 and rest <= SAME_FACTOR * abs(factor - 1) else None


def _log_odds(rows: Floats) -> Floats:
    """Return log probabilities minus their mean in each row; not finite if a probability is 0 or less."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(rows.astype(np.float64))
        return logs - logs.mean(axis=1, keepdims=True)
