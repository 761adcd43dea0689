"""What a reader hands on: records that name images, gathered into a collection. No TensorFlow."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.errors import Problem, RequestError
from kerastl.runs import sha256_of

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Record:
    """One image.

    Args:
        path: as written in outputs: relative to the data root with `/`, or `tfds:name/split/index`.
        file: absolute path of an encoded image.
        label: name of its class; None where it is unlabelled.
        split: `train`, `val` or `test` where the data came divided; later also the target's splits.
        group: what must stay together, e.g. a patient; None: the image stands for itself.
        domain: where it comes from, e.g. a hospital.
        subgroups: `(column, value)` of what else is known of it and is to be told apart by the scores.
    """

    path: str
    file: Path
    label: str | None = None
    split: str | None = None
    group: str | None = None
    domain: str | None = None
    subgroups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Collection:
    """All images of one data set.

    Args:
        root: folder that the records' paths are relative to; None where there is none.
        class_names: in natural order (2 before 10); empty when nothing is labelled.
        records: one for each image.
        notes: one line each, for the user: what was skipped, what was chosen.
    """

    root: Path | None
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return the sha256 over all that is said of every image and its content, whatever their order.

        To be asked of what a reader gave: dividing the images writes other splits into the records.
        The place of the files on this machine does not matter.
        """
        contents = hash_contents([record.file for record in self.records])
        lines = [
            json.dumps(
                [one.path, one.label, one.split, one.group, one.domain, content]
                # Added where there are some: data of which nothing more is asked keep their fingerprint.
                + [list(pair) for pair in one.subgroups]
            )
            for one, content in zip(self.records, contents, strict=True)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def hash_contents(files: Sequence[Path]) -> list[str]:
    """Return the sha256 of each file's content."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(sha256_of, files))


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as people count: 1, 2, 10; the case of letters does not matter."""
    from natsort import natsorted, ns  # slow to import, and not needed by `check`

    return tuple(natsorted(sorted(set(names)), alg=ns.IGNORECASE))


def check_class_names(names: Iterable[str]) -> list[Problem]:
    """Return what is wrong with the names of the classes; any other text is a fine name."""
    problems = []
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        if "|" in name:
            message = "'|' is kept for images with several labels; rename the class"
            problems.append(Problem(f"class {name!r}", message))
        same = unicodedata.normalize("NFKC", name).casefold().strip()
        if same in seen:
            message = "equal but for case, accents or spaces; rename one, or merge them"
            problems.append(Problem(f"classes {seen[same]!r} and {name!r}", message))
        seen.setdefault(same, name)
    return problems


def pluralize(number: int, thing: str) -> str:
    """Return `1 image`, `3 images`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


UNLABELED = -1


def label_indices(records: Sequence[Record], class_names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the place of each record's label among the classes: `[records]` int32, -1 where it has none."""
    places: dict[str | None, int] = {name: place for place, name in enumerate(class_names)}
    return np.array([places.get(record.label, UNLABELED) for record in records], np.int32)


def is_described(augment: Any) -> bool:
    """Tell whether an augmentation says what it does; what `build_policy` returns does."""
    return getattr(augment, "words", None) is not None


def description_of(augment: Any) -> str:
    """Return what an augmentation does, in full.

    Raises:
        RequestError: it does not say; only what `build_policy` returns does.
    """
    if not is_described(augment):
        raise RequestError("Only a policy of `build_policy` can be told from another one.")
    return str(augment.words)


def hash_records(records: Sequence[Record], told: Mapping[str, Any]) -> str:
    """Return the sha256 over the content of images in their order, and what else is told of them."""
    whole = {**told, "files": hash_contents([record.file for record in records])}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
