"""Readers, one plug-in file each, and their Python functions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from kerastl import registry
from kerastl.data.records import Collection
from kerastl.errors import RequestError, join_words, nearest, quote, shell_command

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
MAX_INSPECTED = 20
ADDRESS = re.compile(r"(?:^|/)([a-z][a-z0-9+]+:)/+(.+)", re.IGNORECASE)
ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.\w+)$", re.IGNORECASE)
PATTERN = re.compile(r"[*?\[{]")


def as_path(path: Any) -> Path:
    """Return a path from Python.

    Raises:
        RequestError: It is neither a string nor a path.
    """
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise RequestError(f"path: must be a path, got {quote(repr(path), '')}.")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path raises for ~user without an account


def path_hint(path: Path) -> str:
    """Return advice for a path that is neither a folder of images nor a table, or an empty string."""
    if address := ADDRESS.search(str(path)):
        url = f"{address[1]}//{address[2]}"
        example = f" ({shell_command('curl', '-LO', url)})" if url.startswith(("http", "ftp")) else ""
        hint = f"Download it{example}, unpack archives, and use the path of the folder or table"
    elif path.is_file() and ARCHIVE.search(path.name):
        zipped = ("unzip", path, "-d", path.with_suffix(""))
        words = zipped if path.suffix.lower() == ".zip" else ("tar", "-xf", path)
        hint = f"Unpack it ({shell_command(*words)}), and use the path of the folder"
    elif path.is_file():
        hint = f"Use the path of a folder of images, or of a table ({join_words(TABLE_SUFFIXES)})"
    elif PATTERN.search(path.name):
        hint = f"Patterns are not expanded. Use the path of a folder, such as {path.parent}"
    else:
        near = nearest(path.name, [sibling.name for sibling in path.parent.glob("*")])
        hint = f"There is {quote(near)}" if near else ""
    return f". {hint}" if hint else ""


def predicted_table_hint(paths: Iterable[Path]) -> str:
    """Return how to score the images of the first table among some paths, or an empty string if there is no table."""
    table = next((path for path in paths if path.suffix.lower() in TABLE_SUFFIXES), None)
    if table is None:
        return ""
    call = f"kerastl.evaluate(kerastl.load_run(RUN).model, kerastl.read_images({str(table)!r}))"
    listed = (
        " For paths, one per line and without a header: --list FILE."
        if table.suffix.lower() != ".parquet"
        else ""
    )
    return f" {table.name} is a table. To score its labeled images, in Python: {call}.{listed}"


def reader_name(path: Path | str) -> str:
    """Return the name of the reader for a path: `table` for a table file, otherwise `folder`.

    It is `dicom` for a folder of DICOM files, if a reader of this name is installed.
    """
    path = as_path(path)
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        return "table"
    return "dicom" if registry.has("reader", "dicom") and _has_dicom(path) else "folder"


def _has_dicom(folder: Path) -> bool:
    """Return whether one of the first files of a folder is a DICOM file."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    for file in islice(files, MAX_INSPECTED):
        with suppress(OSError), file.open("rb") as content:
            if content.read(132)[128:] == b"DICM":
                return True
    return False


def read_folder(path: Path | str, **options: Any) -> Collection:
    """Read a folder with one subfolder per class. Options are those of `kerastl.data.readers.folder.Options`."""
    from kerastl.data.readers import folder

    return folder.read(folder.Options(path=as_path(path), **options))


def read_table(path: Path | str, **options: Any) -> Collection:
    """Read a CSV or Parquet table of images. Options are those of `kerastl.data.readers.table.Options`."""
    from kerastl.data.readers import table

    return table.read(table.Options(path=as_path(path), **options))


def read_tfds(dataset: str, *, cache_dir: Path | None = None, **options: Any) -> Collection:
    """Read a prepared dataset of TensorFlow Datasets. Options are those of `kerastl.data.readers.tfds.Options`.

    Args:
        dataset: Name, optionally with configuration and version: `name/config:1.0.0`.
        cache_dir: Folder in which images are stored as files. None is the cache folder of the user.
        options: Options of the reader.
    """
    from kerastl.data.readers import tfds

    return tfds.read(tfds.Options(dataset=dataset, **options), cache_dir=cache_dir)
