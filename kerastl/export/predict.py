"""Predict the classes of image files: find the files, load a run or an export, and predict in batches."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from natsort import natsorted

from kerastl.data.convert import (
    UnreadableError,
    is_16_bit_gray,
    no_pillow_warnings,
    read_content,
    to_decodable,
)
from kerastl.data.readers.folder import Skipped, is_hidden_folder
from kerastl.errors import Problem, RequestError, join_words, quote, raise_problems
from kerastl.evaluation.trained_model import (
    DESCRIPTION,
    MODEL,
    Trained,
    check_manifest,
    find_model,
    load_trained,
    read_description,
    weights_fingerprint,
)
from kerastl.export.formats import PORTABLE, find_export
from kerastl.export.graph_check import GRAPH
from kerastl.export.loaded_export import LoadedExport, read_export
from kerastl.export.manifest import read_manifest
from kerastl.runs import MANIFEST, RESOLVED_RECIPE, hash_files, sha256_of

BATCH_SIZE = 32
READERS = 8
BATCHES_AHEAD = 2
MAX_LINE_BYTES = 2**16
MAX_REPORTED = 20
"""Maximum number of unreadable files that are reported."""
MODEL_COLUMNS = ("model_version", "model_sha256")
"""Columns of a table that identify the model."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


Predictor = Trained | LoadedExport
"""A model that predicts from the content of image files, from two threads."""


@dataclass(frozen=True)
class FilePrediction:
    """The prediction for one file.

    Args:
        path: The path as given, with control characters and undecodable bytes escaped.
        predicted: The predicted class name, or "" if the file is not readable.
        probabilities: One per class, or empty if the file is not readable.
        problem: Why the file is not readable, or "".
        is_16_bit: Whether the image is 16-bit grayscale.
    """

    path: str
    predicted: str = ""
    probabilities: tuple[float, ...] = ()
    problem: str = ""
    is_16_bit: bool = False


def predict_files(
    predictor: Predictor, paths: Iterable[str | Path], *, batch_size: int = BATCH_SIZE, strict: bool = False
) -> Iterator[FilePrediction]:
    """Predict image files in order, holding one batch in memory.

    Args:
        predictor: `kerastl.evaluation.load_trained(run)` or `kerastl.export.read_export(path)`.
        paths: Image files.
        batch_size: The number of files per batch.
        strict: Whether files that cannot be read raise an error after the last prediction, as `--strict` does.

    Yields:
        One `FilePrediction` per file. A file that cannot be read has a `problem`.

    Raises:
        RequestError: `paths` is a single path.
        Problems: With `strict`, after all files, if some could not be read.
    """
    if isinstance(paths, str | Path):
        raise RequestError(f"paths: must be a list of paths, got {str(paths)!r}. Use [{str(paths)!r}].")
    problems, remaining = list[Problem](), map(Path, paths)
    while batch := list(islice(remaining, batch_size)):
        with no_pillow_warnings():
            predictions = predict_batch(predictor, batch)
        yield from predictions
        problems += [Problem(row.path, row.problem) for row in predictions if row.problem and strict]
    raise_problems("The list of files", problems, "All other files were predicted.", MAX_REPORTED)


def predict_batch(predictor: Predictor, batch: Sequence[Path]) -> list[FilePrediction]:
    """Predict one batch of files. Call this inside `no_pillow_warnings`.

    Probabilities can differ by about 1e-7 if the same file is part of a different batch.
    """
    import tensorflow as tf

    from kerastl.data.validate import decode_error

    max_pixels = predictor.max_pixels
    with ThreadPoolExecutor(min(READERS, len(batch))) as pool:
        contents = list(pool.map(lambda path: _read(path, max_pixels), batch))
    try:
        return _predict(predictor, batch, contents)
    except tf.errors.InvalidArgumentError:
        # One damaged image fails the whole batch: find it, and predict the others.
        checked = [
            content if isinstance(content, str) else decode_error(content, max_pixels=max_pixels) or content
            for content in contents
        ]
        if checked == contents:
            raise
    return _predict(predictor, batch, checked)


def map_ahead(function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Generator[Result, None, None]:
    """Yield `function(batch)` in order, working on two batches at a time in threads.

    Files are read and decoded for one batch while the model predicts another. The first batch is processed alone:
    TensorFlow optimizes the graph in the first call, and two simultaneous first calls would both optimize it.
    """
    batches = iter(batches)
    yield from map(function, islice(batches, 1))
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(BATCHES_AHEAD)
    try:
        for batch in batches:
            pending.append(pool.submit(function, batch))
            if len(pending) > BATCHES_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path, max_pixels: int) -> bytes | str:
    """Return the content of a file, or the reason why it cannot be read."""
    try:
        if path.is_dir():
            return "it is a folder that cannot be listed, or a folder in a list of files"
        return to_decodable(read_content(path, max_pixels=max_pixels), max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)


def _predict(
    predictor: Predictor, batch: Sequence[Path], contents: Sequence[bytes | str]
) -> list[FilePrediction]:
    """Return the predictions for files, given the content of each, or the reason why it cannot be read."""
    encoded = [content for content in contents if isinstance(content, bytes)]
    rows: Iterator[tuple[str, tuple[float, ...]]] = iter(())
    if encoded:
        names, probabilities = predictor.predict(encoded)
        rows = zip(names, map(tuple, probabilities.tolist()), strict=True)
    return [
        FilePrediction(printable_path(path), problem=content)
        if isinstance(content, str)
        else FilePrediction(printable_path(path), *next(rows), is_16_bit=is_16_bit_gray(content))
        for path, content in zip(batch, contents, strict=True)
    ]


@dataclass(frozen=True)
class ModelOnDisk:
    """A run or an export that is not loaded yet.

    Args:
        folder: The run folder, or the version folder of an export.
        is_export: Whether it is an export.
        class_names: The class names, in the order of the probabilities.
        has_window: Whether the model has a window for 16-bit images. Otherwise, it uses the full range.
    """

    folder: Path
    is_export: bool
    class_names: tuple[str, ...]
    has_window: bool

    def load(self) -> Predictor:
        """Load the model.

        Raises:
            RequestError: If the model is damaged or unsafe to load.
        """
        return read_export(self.folder) if self.is_export else load_trained(self.folder)

    @property
    def version(self) -> str:
        """The version of an export, which is the name of its folder. "" for a run, or if the name is not a number."""
        name = self.folder.resolve().name
        return name if name.isdecimal() and (self.folder / MANIFEST).is_file() else ""

    def identity(self, predictor: Predictor) -> dict[str, str]:
        """Return the values of `MODEL_COLUMNS`: the version of an export, or "" for a run, and the sha256 of its weights.

        Args:
            predictor: As `load` returned it.
        """
        if isinstance(predictor, Trained):
            weights = weights_fingerprint(predictor.model)
        else:
            weights = read_manifest(self.folder).model_sha256
        return dict(zip(MODEL_COLUMNS, (self.version, weights), strict=True))

    def sha256(self) -> str:
        """Return a sha256 over the files that determine the predictions."""
        if self.is_export:
            hashes = hash_files(self.folder) | {MANIFEST: sha256_of(self.folder / MANIFEST)}
        else:
            hashes = {name: sha256_of(self.folder / name) for name in (DESCRIPTION, MODEL)}
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(hashes.items()))
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def find_predictor(path: Path) -> ModelOnDisk:
    """Find the model in a run folder, a portable folder or an export (its highest version).

    Raises:
        RequestError: If there is no model, the run is not finished, or the files were changed.
    """
    export = None if (path / DESCRIPTION).is_file() else find_export(path)
    if export is not None and export.format_name != PORTABLE:
        manifest = read_manifest(export.folder)
        return ModelOnDisk(export.folder, True, manifest.class_names, manifest.window is not None)
    folder = find_model(path)
    if folder.is_dir() and not (folder / DESCRIPTION).is_file() and not (folder / RESOLVED_RECIPE).is_file():
        below = [
            str(inner)
            for inner in natsorted(path.glob("*"))
            if find_export(inner) or (inner / DESCRIPTION).is_file()
        ]
        hint = (
            f" To use a model in it: {join_words([quote(name, '') for name in below[:3]], 'or')}."
            if below
            else ""
        )
        raise RequestError(
            f"{path} is neither a run folder nor an export: it has no {DESCRIPTION} and no version with {GRAPH}.{hint}"
        )
    check_manifest(folder)
    description = read_description(folder)
    if not (folder / MODEL).is_file():
        raise RequestError(f"{folder} has no {MODEL}: the run is not finished, or the file was removed.")
    return ModelOnDisk(folder, False, description.class_names, description.window is not None)


def find_images(paths: Sequence[Path], skipped: Skipped | None = None) -> Iterator[Path]:
    """Yield the given files, and the images in the given folders and their subfolders.

    The content decides which files in folders are images. They are sorted in natural order (2 before 10). A file with
    the content or the name of an image is yielded even if it cannot be read, and so is a folder that cannot be listed:
    reading it reports the reason. A given file is always yielded. Only the names of one folder are held in memory.

    Args:
        paths: Files and folders.
        skipped: Collects the other files, hidden files, hidden and system folders, and links to folders, which are not
            followed.

    Raises:
        RequestError: If a path does not exist.
    """
    # Path.exists raises for a link that leads to itself.
    missing = [printable_path(path) for path in paths if not os.path.exists(path)]  # noqa: PTH110
    if missing:
        raise RequestError(f"No such file or folder: {', '.join(missing)}.")
    skipped = skipped or Skipped()
    for path in paths:
        if path.is_dir():
            yield from _images_below(path, skipped)
        else:
            yield path


def _images_below(folder: Path, skipped: Skipped) -> Iterator[Path]:
    stack = [folder]
    while stack:
        current = stack.pop()
        # One level at a time: in Python 3.11 `os.walk` is recursive, and folders can be nested deeply.
        listing = next(os.walk(current), None)
        if listing is None:
            yield current
            continue
        _, folders, files = listing
        for path in (current / name for name in _ordered(files)):
            if skipped.is_image(path, or_unsupported=True):
                yield path
        subfolders = []
        for name in _ordered(folders):
            # Path.is_symlink raises for an entry of a folder that can be listed but not entered.
            is_link = os.path.islink(current / name)  # noqa: PTH114
            if is_link or is_hidden_folder(name):
                skipped.names["folder_link" if is_link else "hidden"].append(printable_path(Path(name)))
            else:
                subfolders.append(current / name)
        stack += reversed(subfolders)


def _ordered(names: Iterable[str]) -> list[str]:
    """Return names in natural order."""
    # Sorted twice: `a1` and `a01` are equal in natural order, and --resume needs one order.
    return natsorted(sorted(names))


def read_file_list(file: BinaryIO) -> Iterator[Path]:
    """Yield the paths in a list, one per line; empty lines are skipped.

    Raises:
        RequestError: If a line is not a path.
    """
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
        if b"\0" in line or len(line) == MAX_LINE_BYTES:
            raise RequestError(
                f"Line {number} of the list is not a path: it contains a zero byte or is too long. "
                "Write one path per line, as `find -print` does."
            )
        if name := line.rstrip(b"\r\n"):
            yield Path(os.fsdecode(name))


def printable_path(path: Path) -> str:
    """Return a path as text that is safe to print and to write to a UTF-8 file."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


@dataclass(frozen=True)
class FileList:
    """Paths in an unnamed temporary file, so that memory use is constant and the list cannot change.

    Args:
        file: One path per line, as a JSON string.
        count: The number of paths.
        sha256: Of the content, as hex digits.
    """

    file: BinaryIO
    count: int
    sha256: str

    def batches(self, size: int, *, first: int = 0) -> Iterator[list[Path]]:
        """Yield batches of paths, starting at the path of index `first`."""
        self.file.seek(0)
        remaining = (Path(json.loads(line)) for line in islice(self.file, first, None))
        while batch := list(islice(remaining, size)):
            yield batch


@contextmanager
def store_file_list(paths: Iterable[Path], folder: Path | None = None) -> Iterator[FileList]:
    """Write paths to a temporary file that is deleted with the process.

    Args:
        paths: In the order of the predictions.
        folder: On a disk with about 100 bytes of space per file. None: the system's temporary folder.

    Raises:
        OSError: If the file cannot be written.
    """
    digest, count = hashlib.sha256(), 0
    try:
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - `with file` below
    except OSError as error:
        # Otherwise, Python reports the random name of the temporary file.
        error.filename = str(folder or tempfile.gettempdir())
        raise
    with file:
        try:
            for path in paths:
                name = f"{json.dumps(os.fspath(path))}\n".encode()
                file.write(name)
                digest.update(name)
                count += 1
            file.flush()
        except OSError as error:
            error.filename = error.filename or "the list of files"
            raise
        yield FileList(file, count, digest.hexdigest())
