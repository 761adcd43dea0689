"""Images on which an export is verified, and the expected predictions."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from kerastl.data.convert import UnreadableError, extension_of, read_image
from kerastl.data.records import evenly_spaced
from kerastl.errors import report_damage
from kerastl.evaluation.predictions import read_run_predictions, resolve_image
from kerastl.evaluation.trained_model import DESCRIPTION, MODEL, Trained, load_trained, read_description
from kerastl.export.findings import ExpectedPredictions
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import (
    NO_POSTPROCESSING,
    Postprocessing,
    expected_postprocessing,
    operating_points,
)
from kerastl.export.predict import find_images, printable_path
from kerastl.runs import EXPORT_AGAIN, SAMPLES, TEST_SPLITS, write_atomic, write_json

MAX_IMAGES = 32
MAX_SAMPLES = 8
EXPECTED = "expected.json"
MAX_DEPTH = 100
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class ProbeSet:
    """Images on which an export is verified.

    Args:
        encoded: Whole image files that can be decoded.
        expected: The expected predictions; None if unavailable.
        problems: `file: reason` for each file that cannot be decoded.
    """

    encoded: tuple[bytes, ...]
    expected: ExpectedPredictions | None = None
    problems: tuple[str, ...] = ()


def select_test_images(run_folder: Path, limit: int = MAX_IMAGES) -> list[Path]:
    """Return test images of a run, evenly spread over the range of its predicted probabilities."""
    description, predictions = read_description(run_folder), read_run_predictions(run_folder)
    if predictions is None:
        return []
    rows = zip(predictions.probabilities[:, 0].tolist(), predictions.paths, predictions.splits, strict=True)
    images = sorted(
        (probability, path, file)
        for probability, path, split in rows
        if split in TEST_SPLITS and (file := resolve_image(description.root_of(split), path)) is not None
    )
    return [file for _, _, file in evenly_spaced(images, limit)]


def spread_over_folders(files: Sequence[Path], depth: int = 0) -> list[Path]:
    """Return the files in an order in which the first ones are from different folders, at each level, or far apart.

    The images of a folder of classes are sorted by class, and all classes are needed to verify predictions.

    Args:
        files: The files.
        depth: Number of folders that their paths have in common.
    """
    below = defaultdict[tuple[str, ...], list[Path]](list)
    for file in files:
        below[file.parts[depth : depth + 1]].append(file)
    if depth > MAX_DEPTH or set(below) <= {()}:
        return list(files)
    # Multiples of the golden ratio modulo 1 are spread over the list without a period.
    order = sorted(enumerate(below.values()), key=lambda item: item[0] * GOLDEN_RATIO % 1)
    branches = [spread_over_folders(inner, depth + 1) for _, inner in order]
    return [file for row in zip_longest(*branches) for file in row if file is not None]


def read_probe_images(files: Sequence[Path], *, max_pixels: int) -> ProbeSet:
    """Read images. Those that cannot be decoded are omitted and reported as problems."""
    from kerastl.data.validate import check_content

    encoded, problems = [], []
    for file in files:
        try:
            content = read_image(file, max_pixels=max_pixels)
            check_content(content, max_pixels=max_pixels)
            encoded.append(content)
        except UnreadableError as error:
            problems.append(f"{printable_path(file)}: {error}")
    return ProbeSet(tuple(encoded), problems=tuple(problems))


def expected_predictions(
    trained: Trained, encoded: Sequence[bytes], postprocessing: Postprocessing = NO_POSTPROCESSING
) -> ExpectedPredictions:
    """Return the predictions that an export of a run's model must reproduce.

    Args:
        trained: The run's model.
        encoded: Whole image files that can be decoded.
        postprocessing: The postprocessing of the export.
    """
    from kerastl.export.saved_model import model_fields

    logits, names = trained.logits(encoded), trained.class_names
    if trained.folder is not None:
        postprocessing = expected_postprocessing(trained.folder, names, postprocessing)
    return ExpectedPredictions(
        class_names=names,
        probabilities=postprocessing.apply(logits).astype(np.float32),
        predicted=tuple(postprocessing.predict_labels(logits, names)),
        settings=model_fields(trained) | {"postprocessing": postprocessing},
        thresholds=operating_points(trained.folder) if trained.folder is not None else (),
    )


def write_samples(export: Path, encoded: Sequence[bytes], expected: ExpectedPredictions) -> None:
    """Write images into an export under neutral names, with the expected predictions.

    The files are unchanged, including camera metadata.
    """
    folder = export / SAMPLES
    folder.mkdir()
    try:
        names = []
        for number, content in enumerate(encoded, start=1):
            extension = extension_of(content)
            names.append(f"sample_{number}.{extension}" if extension else f"sample_{number}")
            write_atomic(folder / names[-1], content)
        predictions = {
            "class_names": list(expected.class_names),
            "probabilities": dict(zip(names, expected.probabilities.tolist(), strict=True)),
            "predicted": dict(zip(names, expected.predicted, strict=True)),
        }
        write_json(folder / EXPECTED, predictions)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_samples(export: Path) -> ProbeSet | None:
    """Return the images of an export and the predictions stored with them; None if it has none.

    Raises:
        RequestError: The samples are damaged.
    """
    folder = export / SAMPLES
    if not (folder / EXPECTED).is_file():
        return None
    max_pixels = read_manifest(export).max_pixels
    with report_damage(folder, EXPORT_AGAIN):
        if not _is_inside(folder, EXPECTED):
            raise ValueError(f"{EXPECTED} is a link")
        content = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))
        class_names = tuple(str(name) for name in content["class_names"])
        rows = content["probabilities"]
        encoded = tuple(_read_sample(folder, name, max_pixels) for name in rows)
        probabilities = np.asarray(list(rows.values()), np.float32).reshape(len(encoded), len(class_names))
        predicted = tuple(str(content["predicted"][name]) for name in rows)
    return ProbeSet(encoded, ExpectedPredictions(class_names, probabilities, predicted))


def _read_sample(folder: Path, name: str, max_pixels: int) -> bytes:
    from kerastl.data.validate import decode_error

    shown = printable_path(Path(name))
    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError("the name of a sample is not a file name")
    if not _is_inside(folder, name):
        raise ValueError(f"{shown} is a link or is missing")
    content = (folder / name).read_bytes()
    if reason := decode_error(content, max_pixels=max_pixels):
        raise ValueError(f"{shown}: {reason}")
    return content


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a file is in this folder itself: a link could send any file of this user to a server."""
    file = folder / name
    return file.is_file() and file.resolve() == folder.resolve() / name


def find_enclosing_run(folder: Path) -> Path | None:
    """Return the run folder that contains an export; None if there is none."""
    for parent in folder.resolve().parents:
        if (parent / DESCRIPTION).is_file() and (parent / MODEL).is_file():
            return parent
    return None


def load_probe_set(
    folder: Path, *, images: Sequence[Path], run: Path | None, limit: int = MAX_IMAGES
) -> ProbeSet:
    """Return the images on which an export is verified, possibly none, and the expected predictions.

    Args:
        folder: The version folder.
        images: Files and folders, of which images from different folders are used; if empty, test images of `run`, or
            else the samples of the export.
        run: The run that was exported; None if unavailable.
        limit: Maximum number of images.

    Raises:
        RequestError: `run` is not a finished run, or the samples are damaged.
    """
    manifest = read_manifest(folder)
    trained = load_trained(run) if run is not None else None
    files = spread_over_folders(list(find_images(images)))[:limit]
    if not images and run is not None:
        files = select_test_images(run, limit)
    samples = read_samples(folder) if not files and not images else None
    probes = samples or read_probe_images(files, max_pixels=(trained or manifest).max_pixels)
    if trained is None or not probes.encoded:
        return probes
    expected = expected_predictions(trained, probes.encoded, manifest.postprocessing)
    return replace(probes, expected=expected)
