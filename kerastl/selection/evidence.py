"""What a selection among candidates uses: the features and logits of each model on source and target images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import Resamples, Statistic, resample

Array = np.ndarray[Any, Any]

SOURCE_UNAVAILABLE = "the source images are not available"


@dataclass(frozen=True)
class Outputs:
    """Features and logits of a model.

    Args:
        features: `[n, width]` float32, the input of the head.
        logits: `[n, classes]` float32.
        labels: `[n]` int class indices; None if unlabeled.
        groups: The patient of each image, which is resampled and held out as a unit; None if every image is
            its own group.

    Raises:
        RequestError: A shape, dtype, value or number of rows is wrong.
    """

    features: Array
    logits: Array
    labels: Array | None = None
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("features", "logits"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if self.labels is not None:
            labels = np.asarray(self.labels)
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise RequestError(
                    f"Labels must be integers of shape [images], got {labels.dtype} of shape {labels.shape}."
                )
            object.__setattr__(self, "labels", labels.astype(np.int64))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(str(group) for group in self.groups))
        rows = {name: len(part) for name, part in vars(self).items() if part is not None}
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in rows.items())
            raise RequestError(f"Every image needs one row of each, got {counts}.")
        if not len(self.features):
            raise RequestError("There are no images. At least one is needed.")

    @property
    def units(self) -> list[str]:
        """The resampling unit of each image: its group, or the image itself if it has no group."""
        groups = self.groups or [""] * len(self.features)
        return [group or f"\0{row}" for row, group in enumerate(groups)]

    def resample(self, *, seed: int, resamples: int, level: float = 0.95) -> Resamples:
        """Return resamples of the units; see `kerastl.evaluation.bootstrap.resample`."""
        labels = np.zeros(len(self.features), int) if self.labels is None else self.labels
        return resample(self.units, labels, seed=seed, resamples=resamples, level=level)

    def evaluate(self, statistic: Statistic) -> float:
        """Return a statistic in which every image counts once."""
        return float(statistic(np.ones((1, len(self.features))))[0])

    @property
    def known_labels(self) -> Array:
        """The labels. Raises RequestError if the images have none."""
        if self.labels is None:
            raise RequestError("These images have no labels. Pass them: Outputs(..., labels=...).")
        return self.labels


@dataclass(frozen=True)
class Mixed:
    """Logits of mixed target images, `share * first + (1 - share) * second` per pixel.

    Args:
        logits: `[pairs, classes]` float32.
        first, second: `[pairs]` int, rows of the target.
        share: Weight of the first image, above 0.5 and below 1.

    Raises:
        RequestError: The lengths differ, or the share is out of range.
    """

    logits: Array
    first: Array
    second: Array
    share: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "logits", _checked("mixed logits", self.logits))
        if not len(self.logits) == len(self.first) == len(self.second) > 0:
            raise RequestError(
                "Every mixed image needs a row of logits, a first and a second image, got "
                f"{len(self.logits)}, {len(self.first)} and {len(self.second)}."
            )
        if not 0.5 < self.share < 1:
            raise RequestError(
                f"The share of the first image must be above 0.5 and below 1, got {self.share}."
            )


@dataclass(frozen=True)
class VerifiedInformation:
    """What was verified on source images that are not available here, as stored with the model.

    Args:
        value: Lower bound of the mutual information between image and label on source validation images, in
            nats per image.
        temperature: The temperature that calibrates the logits on these images, above 0.
        low, high: Interval of `value` over patients; None if unknown.
    """

    value: float
    temperature: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything that the selection knows about one candidate.

    Args:
        source_train: Labeled source training images; None if unavailable.
        source_val: Labeled source validation images, at least one per class; None if unavailable.
        target: Unlabeled target images; labels are refused.
        class_names: At least two class names.
        mixed: Outputs for `mixval` only; None if not computed.
        verified: What was verified on the source, if its images are not available; None if unknown.
        initial_logits: `[n, classes]` float32 of the target images before the candidate was trained, if the
            source images are not available; None if unknown.

    Raises:
        RequestError: The parts do not fit together.
    """

    source_train: Outputs | None
    source_val: Outputs | None
    target: Outputs
    class_names: tuple[str, ...]
    mixed: Mixed | None = None
    verified: VerifiedInformation | None = None
    initial_logits: Array | None = None

    def __post_init__(self) -> None:
        given = {"source_train": self.source_train, "source_val": self.source_val, "target": self.target}
        parts = {name: part for name, part in given.items() if part is not None}
        if len(parts) == 2:
            raise RequestError("Pass both source_train and source_val, or None for both.")
        if len(set(self.class_names)) < max(2, len(self.class_names)):
            raise RequestError(f"class_names must be at least two different names, got {self.class_names}.")
        for name, part in parts.items():
            self._check_part(name, part)
        if len({part.features.shape[1] for part in parts.values()}) > 1:
            widths = ", ".join(f"{part.features.shape[1]} ({name})" for name, part in parts.items())
            raise RequestError(f"Features must have the same width in all parts, got {widths}.")
        if self.target.labels is not None:
            raise RequestError(
                "The target has labels, which the selection must not use. Pass Outputs(..., labels=None)."
            )
        if self.mixed is not None:
            self._check_mixed(self.mixed)
        if self.initial_logits is not None and np.shape(self.initial_logits) != self.target.logits.shape:
            raise RequestError(
                f"initial_logits must have the shape of the target's logits, {self.target.logits.shape}, got "
                f"{np.shape(self.initial_logits)}."
            )

    @property
    def known_train(self) -> Outputs:
        """`source_train`. Raises RequestError if the source images are not available."""
        return _available(self.source_train)

    @property
    def known_val(self) -> Outputs:
        """`source_val`. Raises RequestError if the source images are not available."""
        return _available(self.source_val)

    def _check_part(self, name: str, part: Outputs) -> None:
        classes = len(self.class_names)
        if part.logits.shape[1] != classes:
            raise RequestError(
                f"{name}: logits must be [images, {classes}] for {classes} class names, got {part.logits.shape}."
            )
        if name == "target":
            return
        if part.labels is None:
            raise RequestError(f"{name}: labels are missing. Pass Outputs(..., labels=...).")
        if part.labels.min() < 0 or part.labels.max() >= classes:
            raise RequestError(
                f"{name}: labels must be 0 to {classes - 1}, got {part.labels.min()} to {part.labels.max()}."
            )
        absent = sorted(set(range(classes)) - set(part.labels.tolist()))
        if absent:
            raise RequestError(
                f"{name}: class '{self.class_names[absent[0]]}' has no images. Every class needs at least one."
            )

    def _check_mixed(self, mixed: Mixed) -> None:
        rows = np.concatenate([mixed.first, mixed.second])
        if rows.min() < 0 or rows.max() >= len(self.target.logits):
            raise RequestError(
                f"Mixed images refer to rows {rows.min()} to {rows.max()}, but the target has "
                f"{len(self.target.logits)} rows."
            )
        if mixed.logits.shape[1] != len(self.class_names):
            raise RequestError(
                f"Mixed logits must be [pairs, {len(self.class_names)}], got {mixed.logits.shape}."
            )


def check_candidates(candidates: Mapping[str, Evidence]) -> None:
    """Check that candidates are comparable: `source_only` is one of them, and all were run on the same images.

    Raises:
        RequestError: They are not.
    """
    if SOURCE_ONLY not in candidates:
        names = ", ".join(candidates) or "none"
        raise RequestError(
            f"The candidate '{SOURCE_ONLY}' is missing. Candidates: {names}. Add the source model without adaptation."
        )
    source_only = candidates[SOURCE_ONLY]
    for name, evidence in candidates.items():
        if evidence.class_names != source_only.class_names:
            raise RequestError(
                f"'{name}' has the classes {evidence.class_names}, but '{SOURCE_ONLY}' has {source_only.class_names}."
            )
        if (evidence.source_val is None) != (source_only.source_val is None):
            raise RequestError(
                f"Source images must be given for both '{name}' and '{SOURCE_ONLY}', or for neither."
            )
        for part in ("source_val", "target"):
            outputs, reference = getattr(evidence, part), getattr(source_only, part)
            if outputs is None:
                continue
            if outputs.units != reference.units:
                raise RequestError(
                    f"{part}: '{name}' and '{SOURCE_ONLY}' have different images ({len(outputs.logits)} and "
                    f"{len(reference.logits)}). Use the same images in the same order."
                )
            if not np.array_equal(outputs.labels, reference.labels):
                raise RequestError(f"{part}: '{name}' and '{SOURCE_ONLY}' have different labels.")


def _available(part: Outputs | None) -> Outputs:
    if part is None:
        raise RequestError(f"This needs source images, but {SOURCE_UNAVAILABLE}.")
    return part


def _checked(name: str, values: Any) -> Array:
    """Return a finite float32 matrix."""
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise RequestError(
            f"{name} must be [images, width] float32, got {array.dtype} of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise RequestError(
            f"{name} of image {row} are NaN or infinite. Remove this candidate: its training diverged."
        )
    return array.astype(np.float32)
