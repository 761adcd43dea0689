"""Validation of images before training: every file is decoded once, unreadable files are listed, TIFF is converted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.console import print_status, track
from kerastl.data.cache import (
    FileCheck,
    cache_folder,
    cache_key,
    mark_in_use,
    read_file_checks,
    write_file_checks,
)
from kerastl.data.convert import (
    NO_MEMORY,
    NUM_THREADS,
    InvalidImageError,
    UnreadableError,
    extension_of,
    is_16_bit_gray,
    is_animation,
    no_pillow_warnings,
    read_content,
    to_decodable,
)
from kerastl.data.decode import FULL_WINDOW, MAX_PIXELS, NO_IMAGE, Window, decode_image
from kerastl.data.records import Collection, Record
from kerastl.data.window import LEVELS, percentiles
from kerastl.errors import Problem, Problems, RequestError, pluralize, raise_problems
from kerastl.runs import write_atomic

Array = np.ndarray[Any, Any]
GRAY_TOLERANCE = 2
"""The largest difference of two channels, of 255, that is due to rounding."""


def decode_error(content: bytes, *, max_pixels: int) -> str | None:
    """Return why the bytes of a file cannot be decoded, or None if they can be decoded."""
    try:
        check_content(content, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    return None


def check_content(content: bytes, *, max_pixels: int) -> Array:
    """Decode the bytes of a file, and return the pixels `[height, width, 3]` float32 in [0, 255].

    Raises:
        UnreadableError: The bytes cannot be decoded, or there is not enough memory.
    """
    if not content:
        raise InvalidImageError("the file is empty")
    try:
        return decode_image(tf.constant(content), max_pixels=max_pixels).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise InvalidImageError(_decode_reason(error.message)) from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UnreadableError(NO_MEMORY) from error
    except tf.errors.OpError as error:
        raise UnreadableError(_decode_reason(error.message)) from error


def _decode_reason(message: str) -> str:
    refusal = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    if refusal:
        text = refusal.group(1).strip()
        # Other formats are converted before they are decoded.
        return text.replace(NO_IMAGE, NO_IMAGE.replace(" or WebP", ", WebP, TIFF, HEIC or AVIF"))
    return "the file is truncated or damaged: it has the header of an image but cannot be decoded"


SHOWN = 20


@dataclass(frozen=True)
class CheckedImages:
    """Images that can be decoded.

    Args:
        collection: The readable images. The `file` of a converted image is its PNG.
        quarantined: `(path, reason)` of the unreadable images.
        checks: The kind and the size of each readable image, in the order of the collection.
    """

    collection: Collection
    quarantined: tuple[tuple[str, str], ...]
    checks: tuple[FileCheck, ...]

    @property
    def has_16_bit(self) -> bool:
        """Whether any image is 16-bit grayscale, which needs a window."""
        return any(check.is_16_bit for check in self.checks)


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
        collection: Images from a reader.
        max_pixels: Maximum height times width. Larger images count as unreadable.
        cache_dir: Folder that caches the results by path, size and modification time. None disables the cache.
        converted_dir: Folder for TIFF, HEIC, AVIF and other images that are converted to PNG.
        max_unreadable_fraction: Fraction of unreadable images that is allowed, 0 to 1.
        dataset_name: Name of the dataset in errors, e.g. `the target (b/labels.csv)`. Empty if there is only one.

    Raises:
        Problems: More images than allowed are unreadable, or a class has no readable image.
        RequestError: There are no images, or a converted image cannot be written.
    """
    if not collection.records:
        raise RequestError(f"There are no images{_of(dataset_name)}.")
    checks = _check_files(collection.records, max_pixels, cache_dir, converted_dir)
    quarantined, kept = [], []
    for record, check in zip(collection.records, checks, strict=True):
        if check.reason is not None:
            quarantined.append((record.path, check.reason))
        else:
            file = _converted_path(record.file, converted_dir) if check.needs_conversion else record.file
            kept.append(replace(record, file=file, sha256=check.sha256))
    if len(quarantined) > max_unreadable_fraction * len(checks):
        count, total = len(quarantined), len(checks)
        raise Problems(
            f"The dataset{_of(dataset_name)}",
            [Problem(path, reason) for path, reason in quarantined],
            f"{count:,} of {pluralize(total, 'image')} cannot be read ({count / total:.1%}), but only "
            f"{max_unreadable_fraction:.1%} may be unreadable. Fix or remove them, or increase "
            "data.max_unreadable_fraction. A run that allows them lists all in quarantine.csv. Nothing was run.",
            SHOWN,
        )
    present = {record.label for record in kept}
    missing = [name for name in collection.class_names if name not in present]
    problems = [Problem(f"class {name!r}", "none of its images can be read") for name in missing]
    raise_problems(f"The dataset{_of(dataset_name)}", problems, "Fix or remove them. Nothing was run.")
    readable = tuple(check for check in checks if check.reason is None)
    return CheckedImages(collection.with_records(kept), tuple(quarantined), readable)


def check_cached(collection: Collection, *, max_unreadable_fraction: float) -> Collection:
    """Return the images that can be decoded, as `check_images` does. Converted images are stored in the cache folder.

    Notes about the collection and unreadable images are printed.
    """
    cache = cache_folder()
    converted_dir = cache / "converted" / hashlib.sha256(str(collection.root).encode()).hexdigest()[:24]
    checked = check_images(
        collection, max_pixels=MAX_PIXELS, cache_dir=cache, converted_dir=converted_dir,
        max_unreadable_fraction=max_unreadable_fraction,
    )  # fmt: skip
    if converted_dir.is_dir():
        mark_in_use(converted_dir)
    excluded = [f"Excluded {path}: {reason}" for path, reason in checked.quarantined]
    hidden = [f"Excluded {len(excluded) - SHOWN:,} more unreadable images"] if len(excluded) > SHOWN else []
    for line in (*collection.notes, *excluded[:SHOWN], *hidden):
        print_status(line)
    return checked.collection


def _check_files(
    records: Sequence[Record], max_pixels: int, cache_dir: Path | None, converted_dir: Path
) -> list[FileCheck]:
    """Check the file of each record."""
    keys = [_key(record.file, max_pixels) for record in records]
    known = read_file_checks(cache_dir, {key for key in keys if key})
    fresh: dict[str, FileCheck] = {}

    def check(record: Record, key: str | None) -> FileCheck:
        result = known.get(key or "")
        if result and (not result.needs_conversion or _converted_path(record.file, converted_dir).exists()):
            return result
        result = _check_file(record.file, max_pixels, converted_dir)
        if key:
            fresh[key] = result
        return result

    try:
        with no_pillow_warnings(), ThreadPoolExecutor(NUM_THREADS) as pool:
            checks = pool.map(check, records, keys)
            return list(track(checks, "checking images", len(records)))
    finally:
        # Also after Ctrl-C, so that the next run continues here.
        write_file_checks(cache_dir, dict(fresh))


def _key(file: Path, max_pixels: int) -> str | None:
    try:
        return cache_key(file, file.stat(), max_pixels)
    except OSError:
        return None


def _check_file(file: Path, max_pixels: int, converted_dir: Path) -> FileCheck:
    try:
        stored = read_content(file, max_pixels=max_pixels)
        content = to_decodable(stored, max_pixels=max_pixels)
        pixels = check_content(content, max_pixels=max_pixels)
    except UnreadableError as error:
        return FileCheck(str(error), is_permanent=error.is_permanent)
    is_converted = content is not stored
    if is_converted:
        _write_converted(_converted_path(file, converted_dir), content)
    height, width, _ = pixels.shape
    kind = ("animated " if is_animation(stored) else "") + (extension_of(stored) or file.suffix[1:].lower())
    is_gray, sha256 = _has_no_color(pixels), hashlib.sha256(stored).hexdigest()
    return FileCheck(None, is_16_bit_gray(content), is_converted, kind, width, height, is_gray, sha256)


def _has_no_color(pixels: Array) -> bool:
    """Return whether the channels are equal, apart from rounding. Of large images, rows and columns are sampled."""
    sample = pixels[:: 1 + len(pixels) // 256, :: 1 + pixels.shape[1] // 256]
    return bool((sample.max(axis=-1) - sample.min(axis=-1)).max() <= GRAY_TOLERANCE)


def _write_converted(path: Path, png: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, png)
    except OSError as error:
        raise RequestError(f"Cannot write a converted image to {path.parent}: {error.strerror}.") from error


def _converted_path(file: Path, converted_dir: Path) -> Path:
    """Return the path of a converted image, which depends on the path, size and modification time of the file."""
    status = file.stat()
    state = f"{file}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
    return converted_dir.absolute() / f"{hashlib.sha256(state).hexdigest()[:24]}.png"


def _of(dataset_name: str) -> str:
    """Return the dataset name as part of a sentence."""
    return f" of {dataset_name}" if dataset_name else ""


@dataclass(frozen=True)
class PixelStatistics:
    """Pixel statistics of a sample of images.

    Args:
        num_constant: Number of images with the same value in all pixels.
        num_16_bit: Number of 16-bit grayscale images.
        fraction_outside_window: Fraction of the pixels of 16-bit grayscale images that are outside the window. None
            without such images or without a window.
        range_16_bit: 0.5 and 99.5 percentiles of the stored values of 16-bit grayscale images, or None without any.
    """

    num_constant: int
    num_16_bit: int
    fraction_outside_window: float | None
    range_16_bit: Window | None = None


def pixel_statistics(records: Sequence[Record], *, window: Window | None, max_pixels: int) -> PixelStatistics:
    """Decode images and compute their pixel statistics. `window` and `max_pixels` are those of `decode_image`."""
    num_constant, num_16_bit = 0, 0
    counts = np.zeros(LEVELS, np.int64)
    for record in records:
        content = record.file.read_bytes()
        pixels = decode_image(tf.constant(content), max_pixels=max_pixels).numpy()
        num_constant += bool(pixels.min() == pixels.max())
        if is_16_bit_gray(content):
            num_16_bit += 1
            # The full window maps 65,536 levels to 0 to 255.
            counts += np.bincount(np.rint(pixels[..., 0] * 257).astype(np.int64).ravel(), minlength=LEVELS)
    if not num_16_bit:
        return PixelStatistics(num_constant, 0, None)
    levels = np.arange(LEVELS)
    low, high = window or FULL_WINDOW
    outside = counts[(levels < low) | (levels > high)].sum() / counts.sum()
    return PixelStatistics(num_constant, num_16_bit, window and float(outside), percentiles(counts))
