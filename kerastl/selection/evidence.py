"""What is known of one candidate when one is to be chosen: what it makes of images of source and target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError

Array = np.ndarray[Any, Any]

NOT_AT_HAND = "the source's images are not at hand"
"""Why what is asked of them has no answer."""


@dataclass(frozen=True)
class Outputs:
    """What a model makes of images.

    Args:
        features: `[n, width]` float32, what the head's Dense reads.
        logits: `[n, classes]` float32.
        labels: `[n]` int, places of classes; None: unlabelled.
        groups: the patient of each image; None: unknown, each image is by itself. Whatever is resampled or held
            out together is one group.

    Raises:
        RequestError: a shape, a number or a count of rows will not do.
    """

    features: Array
    logits: Array
    labels: Array | None = None
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("features", "logits"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        rows = {"features": len(self.features), "logits": len(self.logits)}
        if self.labels is not None:
            labels = np.asarray(self.labels)
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise RequestError(
                    f"Labels must be [images] whole numbers, got {labels.dtype} {labels.shape}."
                )
            object.__setattr__(self, "labels", labels.astype(np.int64))
            rows["labels"] = len(labels)
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(str(group) for group in self.groups))
            rows["groups"] = len(self.groups)
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in rows.items())
            raise RequestError(f"Every image has one row of each, got {counts}.")
        if not len(self.features):
            raise RequestError("There is no image: at least one of each part is needed.")

    @property
    def units(self) -> list[str]:
        """What is resampled together, of each image: its group, or itself where none is known."""
        if self.groups is None:
            return [f"\0{row}" for row in range(len(self.features))]
        return [group or f"\0{row}" for row, group in enumerate(self.groups)]

    @property
    def known_labels(self) -> Array:
        """The labels of images that have some."""
        if self.labels is None:
            raise RequestError("These images have no labels. Hand some: Outputs(..., labels=...).")
        return self.labels


@dataclass(frozen=True)
class Mixed:
    """What the model makes of mixed target images, share * first + (1 - share) * second, pixel by pixel.

    Args:
        logits: `[pairs, classes]` float32.
        first, second: `[pairs]` int, rows of the target.
        share: of the first image, above 0.5 and below 1.

    Raises:
        RequestError: lengths differ, or the share is out of its range.
    """

    logits: Array
    first: Array
    second: Array
    share: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "logits", _checked("mixed logits", self.logits))
        if not len(self.logits) == len(self.first) == len(self.second) > 0:
            raise RequestError(
                "Mixed images need one row of logits, one first and one second image each, got "
                f"{len(self.logits)}, {len(self.first)} and {len(self.second)}."
            )
        if not 0.5 < self.share < 1:
            raise RequestError(
                f"The share of the first image must be above 0.5 and below 1, got {self.share}."
            )


@dataclass(frozen=True)
class Proven:
    """What was proven of the model that was not adapted where its images are, as those who have none were told.

    Args:
        information: what its answers told of images that it did not learn from, in nats an image.
        temperature: that fits its answers to them best, above 0.
        low, high: of the interval of `information` over patients; None: not told.
    """

    information: float
    temperature: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evidence:
    """All that one candidate is judged by.

    Args:
        source_train: labelled images of the source that it learnt from; None: they are not at hand.
        source_val: labelled images of the source that it did not learn from; each class at least once; None: likewise.
        target: unlabelled images of the target; labels, where some are there, are refused.
        class_names: at least two.
        mixed: for `mixval` alone; None: not computed.
        proven: where the source's images are not at hand; None: not told either.
        began: likewise: `[n, classes]` float32, logits of the target's images before a weight of the candidate moved; None: not told.

    Raises:
        RequestError: parts do not fit together.
    """

    source_train: Outputs | None
    source_val: Outputs | None
    target: Outputs
    class_names: tuple[str, ...]
    mixed: Mixed | None = None
    proven: Proven | None = None
    began: Array | None = None

    def __post_init__(self) -> None:
        given = {"source_train": self.source_train, "source_val": self.source_val, "target": self.target}
        parts = {name: part for name, part in given.items() if part is not None}
        if len(parts) == 2:
            raise RequestError(
                "Images of the source are at hand, or they are not: hand both source_train and source_val, or neither."
            )
        if len(set(self.class_names)) < max(2, len(self.class_names)):
            raise RequestError(f"Class names must be two or more that differ, got {self.class_names}.")
        for name, part in parts.items():
            self._check_part(name, part)
        if len({part.features.shape[1] for part in parts.values()}) > 1:
            widths = ", ".join(f"{part.features.shape[1]} ({name})" for name, part in parts.items())
            raise RequestError(f"Features must be equally wide in all parts, got {widths}.")
        if self.target.labels is not None:
            raise RequestError(
                "The target has labels, which a choice without labels must not see. Hand labels=None."
            )
        if self.mixed is not None:
            self._check_mixed(self.mixed)
        if self.began is not None and np.shape(self.began) != self.target.logits.shape:
            raise RequestError(
                f"began: logits must be those of the target's images, {self.target.logits.shape}, got {np.shape(self.began)}."
            )

    @property
    def known_train(self) -> Outputs:
        """`source_train`, where the source's images are at hand."""
        return _at_hand(self.source_train)

    @property
    def known_val(self) -> Outputs:
        """`source_val`, where the source's images are at hand."""
        return _at_hand(self.source_val)

    def _check_part(self, name: str, part: Outputs) -> None:
        classes = len(self.class_names)
        if part.logits.shape[1] != classes:
            raise RequestError(
                f"{name}: logits must be [images, {classes}] for {classes} class names, got {part.logits.shape}."
            )
        if name == "target":
            return
        if part.labels is None:
            raise RequestError(f"{name}: labels are known at the source; hand them to Outputs.")
        if part.labels.min() < 0 or part.labels.max() >= classes:
            raise RequestError(
                f"{name}: labels must be 0 to {classes - 1}, got {part.labels.min()} to {part.labels.max()}."
            )
        absent = sorted(set(range(classes)) - set(part.labels.tolist()))
        if absent:
            raise RequestError(
                f"{name}: class '{self.class_names[absent[0]]}' has no image; each class needs one."
            )

    def _check_mixed(self, mixed: Mixed) -> None:
        rows = np.concatenate([mixed.first, mixed.second])
        if rows.min() < 0 or rows.max() >= len(self.target.logits):
            raise RequestError(
                f"Mixed images name rows {rows.min()} to {rows.max()} of a target of {len(self.target.logits)}."
            )
        if mixed.logits.shape[1] != len(self.class_names):
            raise RequestError(
                f"Mixed logits must be [pairs, {len(self.class_names)}], got {mixed.logits.shape}."
            )


def check_candidates(candidates: Mapping[str, Evidence]) -> None:
    """Check that candidates can be compared: source only is among them, and all saw the same images.

    Raises:
        RequestError: they cannot.
    """
    if SOURCE_ONLY not in candidates:
        known = ", ".join(candidates) or "none"
        raise RequestError(
            f"'{SOURCE_ONLY}' is always a candidate, and is missing. Given: {known}. Add the model that was "
            "trained at the source and not adapted."
        )
    first = candidates[SOURCE_ONLY]
    for name, evidence in candidates.items():
        if evidence.class_names != first.class_names:
            raise RequestError(
                f"'{name}' has classes {evidence.class_names}, '{SOURCE_ONLY}' has {first.class_names}."
            )
        if (evidence.source_val is None) != (first.source_val is None):
            raise RequestError(
                f"'{name}' and '{SOURCE_ONLY}' must both have images of the source, or neither."
            )
        for part in ("source_val", "target"):
            mine, other = getattr(evidence, part), getattr(first, part)
            if mine is None:
                continue
            if len(mine.logits) != len(other.logits) or mine.units != other.units:
                raise RequestError(
                    f"'{name}' was asked about other images than '{SOURCE_ONLY}' ({part}): "
                    f"{len(mine.logits)} and {len(other.logits)}. Use the same, in the same order."
                )
        if evidence.source_val is None:
            continue
        if (evidence.known_val.known_labels != first.known_val.known_labels).any():
            raise RequestError(f"'{name}' has other labels in source_val than '{SOURCE_ONLY}'.")


def _at_hand(part: Outputs | None) -> Outputs:
    if part is None:
        raise RequestError("The source's images are not at hand, and this is asked of them.")
    return part


def _checked(name: str, values: Any) -> Array:
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise RequestError(
            f"{name} must be [images, numbers] float32, got {array.dtype} of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise RequestError(
            f"{name} of image {row} are NaN or infinite: a model that diverged is no candidate."
        )
    return array.astype(np.float32)
