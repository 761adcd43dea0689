"""Parquet tables: cells as text, and images that are stored in a column. This module does not import TensorFlow."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kerastl.console import track
from kerastl.data.cache import fill_entry
from kerastl.errors import KerastlError, RequestError, first_line

BATCH_ROWS, BATCH_BYTES = 65_536, 2**24
MAX_UNPACKING = 20
"""Maximum ratio of unpacked to packed size of a column."""
ALWAYS_UNPACKED_BYTES, ALWAYS_STORED_BYTES = 2**27, 2**30
NAME_DIGITS = 8


def check_parquet() -> None:
    """Raise RequestError if pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise RequestError("Parquet needs pyarrow. Install it: pip install 'kerastl[parquet]'")


def is_parquet(path: Path) -> bool:
    """Return whether a path has the name of a Parquet file."""
    return path.suffix.lower() == ".parquet"


class ParquetTable:
    """A Parquet file with one row per image. Rows are read in batches, and only the requested columns are read.

    Args:
        path: The file.

    Attributes:
        names: Names of the columns.
        image_columns: Names of the columns with encoded images: bytes, or the structure of Hugging Face datasets with the
            fields `bytes` and `path`.

    Raises:
        RequestError: pyarrow is not installed, or the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        check_parquet()
        self.path = path
        with self._opened() as file:
            self._schema = file.schema_arrow
            self.num_rows = file.metadata.num_rows
        self.names = [name.strip() for name in self._schema.names]
        self.image_columns = [
            name
            for name, field in zip(self.names, self._schema, strict=True)
            if _is_bytes(field.type) or _has_bytes(field.type)
        ]

    @contextmanager
    def _opened(self, repetitive: Sequence[str] = ()) -> Iterator[Any]:
        """Open the file, and report any error of the library: invalid files raise errors of many types.

        Equal cells of `repetitive` columns are stored once in memory, because a small file can repeat a large cell.
        """
        from pyarrow import parquet

        try:
            # Without these options, a whole row group is read into memory.
            with parquet.ParquetFile(
                self.path, buffer_size=2**20, pre_buffer=False, read_dictionary=list(repetitive)
            ) as file:
                yield file
        except KerastlError:
            raise
        except Exception as error:
            raise RequestError(f"Cannot read the table {self.path}: {first_line(error)}.") from error

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row as text, empty if missing. Hugging Face class indices become class names.

        Raises:
            RequestError: A column contains neither text nor numbers.
        """
        from pyarrow import types

        names = [self._column(name) for name in columns]
        for name in names:
            kind = self._schema.types[self._schema.names.index(name)]
            if types.is_nested(kind):
                raise RequestError(
                    f"The table {self.path}: column {name!r} has values of type {str(kind)[:60]}, but it must contain text or numbers."
                )
        for batch in self._batches(names):
            cells = [self._texts(name, batch.column(name)) for name in names]
            yield from zip(*cells, strict=True) if names else [()] * len(batch)

    def _batches(self, leaves: Sequence[str], *, by_row: bool = False) -> Iterator[Any]:
        """Yield some columns in batches of many rows, or row by row if the cells can be large or nested.

        Raises:
            RequestError: A column would unpack to far more bytes than it has in the file.
        """
        with self._opened(() if by_row else leaves) as file:
            num_bytes = self._unpacked_bytes(self._chunks(file, leaves))
            rows = 1 if by_row else max(1, min(BATCH_ROWS, BATCH_BYTES * self.num_rows // max(1, num_bytes)))
            yield from file.iter_batches(rows, columns=leaves, use_threads=False)

    def _unpacked_bytes(self, chunks: Sequence[Any]) -> int:
        """Return the number of bytes to which columns unpack, after a check of each column."""
        unpacked, packed = Counter[str](), Counter[str]()
        for chunk in chunks:
            unpacked[chunk.path_in_schema] += chunk.total_uncompressed_size
            packed[chunk.path_in_schema] += chunk.total_compressed_size
        for leaf, num_bytes in unpacked.items():
            self._check_unpacking(leaf, packed[leaf], num_bytes, ALWAYS_UNPACKED_BYTES)
        return unpacked.total()

    def _check_unpacking(self, column: str, packed: int, unpacked: int, always: int) -> None:
        if unpacked > max(always, MAX_UNPACKING * packed):
            raise RequestError(
                f"The table {self.path}: column {column!r} would unpack from {packed:,} to {unpacked:,} bytes or more, but at most "
                f"{MAX_UNPACKING} times its size is allowed. Store images as PNG or JPEG, which hardly compress further."
            )

    def _column(self, name: str) -> str:
        """Return the name of a column in the file, which can have surrounding spaces."""
        return str(self._schema.names[self.names.index(name)])

    def _texts(self, name: str, cells: Any) -> list[str]:
        from pyarrow import types

        kind = cells.type
        if types.is_dictionary(kind):
            texts = self._texts(name, cells.dictionary)
            return ["" if index is None else texts[index] for index in cells.indices.to_pylist()]
        try:
            values = cells.cast("string").to_pylist() if _is_bytes(kind) else cells.to_pylist()
        except ValueError as error:
            raise RequestError(
                f"The table {self.path}: column {name!r} contains bytes that are not text."
            ) from error
        classes = self._class_names(name) if types.is_integer(kind) else []
        if not classes:
            return ["" if value is None else str(value) for value in values]
        if unknown := {value for value in values if value is not None and not -1 <= value < len(classes)}:
            raise RequestError(
                f"The table {self.path}: column {name!r} has the value {min(unknown)}, but the file defines only the classes 0 to "
                f"{len(classes) - 1}."
            )
        return ["" if value in (None, -1) else classes[value] for value in values]

    def _class_names(self, column: str) -> list[str]:
        """Return the class names of an integer column that a Hugging Face dataset wrote, empty if there are none."""
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            features = json.loads(self._schema.metadata[b"huggingface"])["info"]["features"]
            names = features[column]["names"]
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return names
        return []

    def image_paths(self, column: str) -> Iterator[str | None]:
        """For each row of an image column, yield None if it contains an image, and otherwise its path or "".

        The images are read only if some are missing.
        """
        name = self._column(column)
        structure = _has_bytes(self._schema.field(name).type)
        has_paths = structure and self._schema.field(name).type.get_field_index("path") >= 0
        paths = self._path_fields(name) if has_paths else iter([""] * self.num_rows)
        missing = self._missing_images(name)
        yield from (path if is_missing else None for path, is_missing in zip(paths, missing, strict=True))

    def _path_fields(self, name: str) -> Iterator[str]:
        for batch in self._batches([f"{name}.path"], by_row=True):
            yield from (row.get("path") or "" if row else "" for row in batch.column(name).to_pylist())

    def _missing_images(self, name: str) -> Iterator[bool]:
        """For each row, yield whether it has no image. The statistics of the file often show this."""
        with self._opened() as file:
            chunks = self._chunks(file, [self._leaf(name)])
            self._unpacked_bytes(chunks)
            statistics = [chunk.statistics for chunk in chunks]
        known = [counted.null_count for counted in statistics if counted and counted.has_null_count]
        count = sum(known) if known and len(known) == len(statistics) else None
        if count in (0, self.num_rows):
            yield from [count != 0] * self.num_rows
        else:
            yield from (image is None for image in self.images(name))

    def images(self, column: str) -> Iterator[bytes | None]:
        """Yield the bytes of the image in each row, None if there is none.

        Raises:
            RequestError: The images have far more bytes than the file.
        """
        name = self._column(column)
        num_bytes, file_bytes = 0, self.path.stat().st_size
        for batch in self._batches([self._leaf(name)], by_row=True):
            for scalar in batch.column(name):
                value = scalar.as_py()
                image = value.get("bytes") if isinstance(value, dict) else value
                num_bytes += len(image or b"")
                self._check_unpacking(column, file_bytes, num_bytes, ALWAYS_STORED_BYTES)
                yield image

    def _leaf(self, name: str) -> str:
        """Return the path of the column of bytes in the file."""
        return f"{name}.bytes" if _has_bytes(self._schema.field(name).type) else name

    def _chunks(self, file: Any, leaves: Sequence[str]) -> list[Any]:
        """Return the metadata of some columns in each row group."""
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        return [chunk for chunk in chunks if chunk.path_in_schema in leaves]

    def entry(self, column: str, cache_dir: Path) -> Path:
        """Return the cache entry for the images of a column, which depends on the path, size and time of the file."""
        status = self.path.stat()
        state = f"{self.path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0{column}"
        digest = hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()[:24]
        return cache_dir.absolute() / "parquet" / digest

    def store_images(self, column: str, entry: Path) -> None:
        """Write each image of a column unchanged to a file `image_file(entry, row)`, once.

        Raises:
            RequestError: The file cannot be read, or the cache is not writable.
        """

        def write() -> None:
            with tempfile.TemporaryDirectory(
                dir=entry.parent, prefix=f".{entry.name}.", ignore_cleanup_errors=True
            ) as part:
                for row, image in enumerate(track(self.images(column), "reading images", self.num_rows)):
                    if image is not None:
                        image_file(Path(part), row).write_bytes(image)
                Path(part).rename(entry)

        fill_entry(entry, is_complete=entry.is_dir, write=write)


def image_file(entry: Path, row: int) -> Path:
    """Return the file of the image in a row."""
    return entry / f"{row:0{NAME_DIGITS}d}"


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _has_bytes(kind: Any) -> bool:
    """Return whether a type is the structure of images in Hugging Face datasets."""
    from pyarrow import types

    return bool(
        types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    )
