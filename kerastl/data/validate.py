"""Decode every file once before training, so that none can stop an epoch: name the bad ones, convert TIFF."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow as tf

from kerastl.console import track
from kerastl.data.cache import FileCheck, cache_key, read_file_checks, write_file_checks
from kerastl.data.convert import (
    HEADER_BYTES,
    NO_MEMORY,
    UnreadableError,
    is_16_bit_gray,
    no_pillow_warnings,
    read_content,
    to_decodable,
)
from kerastl.data.decode import NO_IMAGE, Window, decode_image
from kerastl.data.records import Collection, Record, pluralize
from kerastl.errors import Problem, Problems, RequestError
from kerastl.runs import write_atomic

ENDINGS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9", b"GIF8": b"\x3b"}
TAIL = 64  # bytes: some cameras and programs write a little behind the end of the image


def read_error(file: Path, *, window: Window | None = None, max_pixels: int) -> str | None:
    """Decode a file and drop the pixels.

    Args:
        file: an encoded image.
        window, max_pixels: as in `decode_image`.

    Returns:
        None when it is a good image; else why not, without the file's name.
    """
    try:
        content = read_content(file, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    return decode_error(content, window=window, max_pixels=max_pixels)


def decode_error(content: bytes, *, window: Window | None, max_pixels: int) -> str | None:
    """As `read_error`, for the bytes of a file."""
    try:
        check_content(content, window=window, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    return None


def check_content(content: bytes, *, window: Window | None, max_pixels: int) -> None:
    """Decode the bytes of a file and drop the pixels.

    Raises:
        UnreadableError: the decoder refuses them, or there is no memory for it.
    """
    if not content:
        raise UnreadableError("it is empty (zero bytes)", is_permanent=True)
    try:
        decode_image(tf.constant(content), window=window, max_pixels=max_pixels)
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableError(_in_words(error.message, content), is_permanent=True) from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UnreadableError(NO_MEMORY) from error
    except tf.errors.OpError as error:
        raise UnreadableError(_in_words(error.message, content)) from error


def _in_words(message: str, content: bytes) -> str:
    refusal = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    if refusal:
        text = refusal.group(1).strip()
        # From a file TIFF is read, too: it is converted before the decoder sees it.
        return text.replace(NO_IMAGE, NO_IMAGE.replace(" or WebP", ", WebP or TIFF"))
    for start, end in ENDINGS.items():
        if content.startswith(start) and end not in content[-TAIL:]:
            return "it is cut short: the end of the image is missing"
    return "it is damaged: it begins like an image and cannot be decoded"


MAX_THREADS = 8
SHOWN = 20


@dataclass(frozen=True)
class CheckedImages:
    """Images that can be decoded.

    Args:
        collection: without the unreadable ones; a converted image's `file` is its PNG.
        quarantined: `(path, reason)` of those that are left out.
        has_16_bit: whether any image is 16-bit grey, so that a window matters.
    """

    collection: Collection
    quarantined: tuple[tuple[str, str], ...]
    has_16_bit: bool


class TooManyUnreadableError(RequestError):
    """More files than allowed cannot be read.

    Args:
        quarantined: `(path, reason)` of every one.
        total: number of images.
        allowed: the fraction that is allowed, 0 to 1.
        whose: the data they belong to, in words; empty where there is only one.
    """

    def __init__(
        self, quarantined: Sequence[tuple[str, str]], total: int, allowed: float, dataset_name: str = ""
    ) -> None:
        self.quarantined = tuple(quarantined)
        self.total, self.allowed, self.dataset_name = total, allowed, dataset_name
        super().__init__(self.quarantined, total, allowed, dataset_name)

    def __str__(self) -> str:
        count = len(self.quarantined)
        lines = [
            f"{count:,} of {pluralize(self.total, 'image')}{_of(self.dataset_name)} cannot be read "
            f"({count / self.total:.1%}, {self.allowed:.1%} is allowed)."
        ]
        lines += [f"  {path}: {reason}" for path, reason in self.quarantined[:SHOWN]]
        if count > SHOWN:
            lines.append(
                f"  ... and {count - SHOWN:,} more: a run that allows them lists all in quarantine.csv."
            )
        lines.append("Mend or remove them, or raise data.max_unreadable_fraction. Nothing was run.")
        return "\n".join(lines)


def check_images(
    collection: Collection,
    *,
    max_pixels: int,
    cache_dir: Path | None,
    converted_dir: Path,
    max_unreadable_fraction: float = 0.05,
    dataset_name: str = "",
) -> CheckedImages:
    """Decode every image once, in parallel, with the decoder that training uses.

    Args:
        collection: what a reader gave.
        max_pixels: larger images are left out.
        cache_dir: what is found is kept there by path, size and time of change; None: nowhere.
        converted_dir: TIFF, animated WebP and rare BMP are written there as PNG.
        max_unreadable_fraction: 0 to 1; more unreadable images than that stop the run.
        whose: names the data in what is refused, `the target (b/labels.csv)`; empty where there is only one.

    Raises:
        TooManyUnreadableError: it holds the whole list.
        Problems: a class has no image left.
        RequestError: no images; a converted image cannot be written.
    """
    if not collection.records:
        raise RequestError(f"There are no images{_of(dataset_name)}.")
    found = _check_files(collection.records, max_pixels, cache_dir, converted_dir)
    quarantined, kept = [], []
    for record, verdict in zip(collection.records, found, strict=True):
        if verdict.reason is not None:
            quarantined.append((record.path, verdict.reason))
        elif verdict.needs_conversion:
            kept.append(replace(record, file=_place(record.file, converted_dir)))
        else:
            kept.append(record)
    if len(quarantined) > max_unreadable_fraction * len(found):
        raise TooManyUnreadableError(quarantined, len(found), max_unreadable_fraction, dataset_name)
    _check_no_class_is_empty(collection, kept, dataset_name)
    has_16_bit = any(one.has_16_bit for one in found if one.reason is None)
    return CheckedImages(replace(collection, records=tuple(kept)), tuple(quarantined), has_16_bit)


def _check_files(
    records: Sequence[Record], max_pixels: int, cache_dir: Path | None, converted_dir: Path
) -> list[FileCheck]:
    """Return one verdict a record, in their order."""
    keys = [_key(record.file, max_pixels) for record in records]
    known = read_file_checks(cache_dir, {key for key in keys if key})
    fresh: dict[str, FileCheck] = {}

    def judge(place: int) -> FileCheck:
        file, key = records[place].file, keys[place]
        verdict = known.get(key or "")
        if verdict and not (verdict.needs_conversion and not _place(file, converted_dir).exists()):
            return verdict
        verdict = _judge(file, max_pixels, converted_dir)
        if key:
            fresh[key] = verdict
        return verdict

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    try:
        with no_pillow_warnings(), ThreadPoolExecutor(threads) as pool:
            judged = pool.map(judge, range(len(records)))
            return list(track(judged, "checking every image", len(records)))
    finally:
        # Also after Ctrl-C: the next run goes on from here.
        write_file_checks(cache_dir, dict(fresh))


def _key(file: Path, max_pixels: int) -> str | None:
    try:
        return cache_key(file, file.stat(), max_pixels)
    except OSError:
        return None


def _judge(file: Path, max_pixels: int, converted_dir: Path) -> FileCheck:
    try:
        stored = read_content(file, max_pixels=max_pixels)
        content = to_decodable(stored, max_pixels=max_pixels)
        check_content(content, window=None, max_pixels=max_pixels)
    except UnreadableError as error:
        return FileCheck(str(error), is_permanent=error.is_permanent)
    is_converted = content is not stored
    if is_converted:
        _write_converted(_place(file, converted_dir), content)
    return FileCheck(None, is_16_bit_gray(content[:HEADER_BYTES]), is_converted)


def _write_converted(place: Path, png: bytes) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, png)
    except OSError as error:
        raise RequestError(
            f"A converted image cannot be written to {place.parent}: {error.strerror}."
        ) from error


def _place(file: Path, converted_dir: Path) -> Path:
    """Return where a converted image lies: named by path, size and time, so that it is never stale."""
    found = file.stat()
    state = f"{file}\0{found.st_size}\0{found.st_mtime_ns}".encode(errors="surrogateescape")
    return converted_dir.absolute() / f"{hashlib.sha256(state).hexdigest()[:24]}.png"


def _of(dataset_name: str) -> str:
    return f" of {dataset_name}" if dataset_name else ""


def _check_no_class_is_empty(collection: Collection, kept: Sequence[Record], dataset_name: str) -> None:
    left = {record.label for record in kept}
    gone = [name for name in collection.class_names if name not in left]
    if gone:
        problems = [Problem(f"class {name!r}", "none of its images can be read") for name in gone]
        raise Problems(f"The data set{_of(dataset_name)}", problems, "Mend or remove them. Nothing was run.")
