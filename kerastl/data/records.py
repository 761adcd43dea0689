"""Records of images and collections of records, which the readers return. This module does not import TensorFlow."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kerastl.console import print_status
from kerastl.data.identity import Identity, check_spellings, is_missing
from kerastl.errors import Problem, RequestError, quote, suggest_arguments
from kerastl.runs import sha256_of

if TYPE_CHECKING:
    from kerastl.data.duplicates import Duplicates

SPLITS = ("train", "val", "test")
RESERVED = "the character '|' is reserved for images with several labels. Rename the class."


@dataclass(frozen=True)
class Record:
    """One image.

    Args:
        path: Path in outputs: relative to the data root with `/`, or `tfds:name/split/index`.
        file: Absolute path of the encoded image.
        label: Class name. None if the image is unlabeled.
        split: `train`, `val` or `test` if the data came with a split, later also the splits of the target.
        group: Group that must stay in one split, e.g. a patient. None if the image is a group of its own.
        domain: Origin of the image, e.g. a hospital.
        subgroups: `(column, value)` pairs by which scores are reported separately.
        sha256: Hash of the file. Empty until the file is checked.
        unit: Key of the images that stay in one split, if copies of an image join groups. None is the group.
    """

    path: str
    file: Path
    label: str | None = None
    split: str | None = None
    group: str | None = None
    domain: str | None = None
    subgroups: tuple[tuple[str, str], ...] = ()
    sha256: str = ""
    unit: str | None = None


@dataclass(frozen=True)
class Collection:
    """The images of a dataset.

    Args:
        root: Folder that the paths of the records are relative to. None if there is no such folder.
        class_names: Class names in natural order (2 before 10). Empty if no image is labeled.
        records: One record per image.
        notes: One line per note for the user, e.g. about ignored files.
        ignored: Number of ignored files by kind, e.g. `{".heic": 10}`.
        training: The training split of the collection that this is a split of. It determines the window of 16-bit
            images.
        identity: How class names and groups are compared: `normalized` or `exact`.
    """

    root: Path | None
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    training: tuple[Record, ...] = ()
    identity: Identity = "normalized"

    def __repr__(self) -> str:
        splits = Counter(record.split or "no split" for record in self.records)
        counts = ", ".join(f"{count:,} {split}" for split, count in sorted(splits.items()))
        return f"<Collection: {len(self.records):,} images ({counts}), {len(self.class_names)} classes>"

    @suggest_arguments
    def split(
        self,
        *,
        val_fraction: float,
        test_fraction: float,
        seed: int,
        allow_rare: bool = False,
        duplicates: Duplicates = "auto",
    ) -> Collection:
        """Return the collection with a split for every labeled image, see `kerastl.data.split`.

        What is dropped or kept together, such as copies of images, is printed.

        Raises:
            Problems: As `kerastl.data.split`.
        """
        from kerastl.data.splits import split

        divided = split(
            self, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, allow_rare=allow_rare,
            duplicates=duplicates,
        )  # fmt: skip
        for note in divided.notes[len(self.notes) :]:
            print_status(note)
        return divided

    @property
    def train(self) -> Collection:
        """The images of the training split."""
        return self._of("train")

    @property
    def val(self) -> Collection:
        """The images of the validation split."""
        return self._of("val")

    @property
    def test(self) -> Collection:
        """The images of the test split."""
        return self._of("test")

    def _of(self, split: str) -> Collection:
        records, training = (
            tuple(record for record in self.records if record.split == name) for name in (split, "train")
        )
        if not records:
            raise RequestError(
                f"The collection has no {split} split. Call collection.split(val_fraction=0.2, "
                "test_fraction=0.2, seed=7) first."
            )
        return replace(self, records=records, notes=(), training=training)

    def with_records(self, records: Iterable[Record], *notes: str) -> Collection:
        """Return the collection with other records and additional notes."""
        return replace(self, records=tuple(records), notes=(*self.notes, *notes))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the records and the content of their files, independent of order and file location.

        Call it before the collection is split, because splitting changes the records.
        """
        unknown = [record.file for record in self.records if not record.sha256]
        hashes = dict(zip(unknown, hash_contents(unknown), strict=True))
        contents = [record.sha256 or hashes[record.file] for record in self.records]
        lines = [
            json.dumps(
                [record.path, record.label, record.split, record.group, record.domain, content]
                # Empty without subgroups, so that the fingerprint of such data does not change.
                + [list(pair) for pair in record.subgroups]
            )
            for record, content in zip(self.records, contents, strict=True)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def hash_contents(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        return list(pool.map(sha256_of, files))


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct names in natural order (1, 2, 10), ignoring case."""
    from natsort import natsorted, ns  # slow to import, and not needed by `check`

    return tuple(natsorted(sorted(set(names)), alg=ns.IGNORECASE))


def check_class_names(names: Iterable[str], identity: Identity = "exact") -> list[Problem]:
    """Return the problems of class names: reserved characters and, unless exact, words for missing values and spellings."""
    names = sorted(set(names))
    problems = [Problem(f"class {name!r}", RESERVED) for name in names if "|" in name]
    problems += [
        Problem(
            f"class {name!r}",
            "the name means that the class is missing. Remove these images or, if it is a class, rename it or set "
            "identity: exact.",
        )
        for name in names
        if is_missing(name, identity)
    ]
    return problems + check_spellings(dict.fromkeys(names, ""), "class names", identity)


def check_group_names(
    records: Sequence[Record], noun: str, identity: Identity = "normalized"
) -> list[Problem]:
    """Return a problem for each group with several spellings, with the first image of each."""
    first_paths = {record.group: record.path for record in reversed(records) if record.group}
    return check_spellings(dict(reversed(first_paths.items())), noun, identity)


def as_names(names: Any) -> Any:
    """Return an array of names as a list, and any other value unchanged."""
    return names.tolist() if hasattr(names, "tolist") else names


def check_class_list(names: Any, *, least: int = 2, identity: Identity = "exact") -> list[Problem]:
    """Return the problems of an argument `class_names`, which must be at least `least` different names, in order."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        given = quote(repr(names), "")
        return [Problem("class_names", f"must be a list of names in the order of the logits, got {given}.")]
    if len(names) < least or len(set(names)) < len(names):
        number = "two different names" if least == 2 else "one name, and different names"
        return [Problem("class_names", f"must be at least {number}, got {list(names)}.")]
    return check_class_names(names, identity)


Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """Return up to `most` evenly spaced items, in order."""
    import numpy as np

    positions = np.linspace(0, len(items) - 1, min(most, len(items)))
    return [items[round(position)] for position in positions]
