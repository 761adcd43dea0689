"""What a reader hands on: one record a picture, in one collection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One picture, not yet decoded.

    Args:
        path: as written in outputs: relative to the data root with "/", or "tfds:name/split/index".
        file: absolute path of an encoded picture.
        label: class name; None when unlabelled.
        split: ready-made: train, val or test.
        group: what must stay in one split, such as a patient.
        domain: where the picture comes from, such as a hospital.
    """

    path: str
    file: Path
    label: str | None
    split: str | None = None
    group: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Collection:
    """The pictures that one reader found.

    Args:
        root: folder that `path` is relative to; None when there is none.
        class_names: in natural order; empty when unlabelled.
        records: in a fixed order.
        notes: one line each, shown to the user.
    """

    root: Path | None
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return the sha256 (64 hex digits) over path, label and the bytes of each file, in the order of paths."""
        total = hashlib.sha256()
        for record in sorted(self.records, key=lambda one: one.path):
            with record.file.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{record.path}\0{record.label}\0{content}\n".encode())
        return total.hexdigest()
