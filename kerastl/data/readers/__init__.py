"""Plug-ins: one file each, found by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.data.records import Collection


def read_folder(path: Path | str, **options: Any) -> Collection:
    """Read a folder with a sub-folder a class; options as `kerastl.data.readers.folder.Options`."""
    from kerastl.data.readers import folder

    return folder.read(folder.Options(path=Path(path), **options))


def read_table(path: Path | str, **options: Any) -> Collection:
    """Read a CSV table of images; options as `kerastl.data.readers.table.Options`."""
    from kerastl.data.readers import table

    return table.read(table.Options(path=Path(path), **options))


def read_tfds(dataset: str, *, cache_dir: Path | None = None, **options: Any) -> Collection:
    """Read a prepared data set of TensorFlow Datasets; options as `kerastl.data.readers.tfds.Options`.

    Args:
        dataset: its name, with configuration and version: `name/config:1.0.0`.
        cache_dir: where its images are written as files; None: the user's cache of kerastl.
        options: of the reader.
    """
    from kerastl.data.readers import tfds

    return tfds.read(tfds.Options(dataset=dataset, **options), cache_dir=cache_dir)
