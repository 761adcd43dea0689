"""Images to check an export on, and what kerastl itself answers for them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastl.data.convert import UnreadableError, extension_of, read_image
from kerastl.errors import RequestError, report_damage
from kerastl.evaluation.predictions import image_under, read_rows
from kerastl.evaluation.trained_model import DESCRIPTION, MODEL, ModelDescription, Trained, load_trained
from kerastl.export.findings import ExpectedPredictions
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing, expected_postprocessing
from kerastl.export.predict import find_images, printable_path
from kerastl.runs import EXPORT_AGAIN, SAMPLES, write_atomic, write_json

TEST_SPLITS = ("test", "target_test")
MOST_IMAGES = 32
MOST_SAMPLES = 8
EXPECTED = "expected.json"


@dataclass(frozen=True)
class ProbeImages:
    """Images that can be decoded, and those that were named and cannot.

    Args:
        encoded: whole files.
        problems: `file: why`, one line each.
    """

    encoded: tuple[bytes, ...]
    problems: tuple[str, ...] = ()


def select_test_images(run_folder: Path, described: ModelDescription, limit: int = MOST_IMAGES) -> list[Path]:
    """Return test images of a run, spread over its answers from one class to the other."""
    rows = [row for row in read_rows(run_folder) if row.split in TEST_SPLITS]
    found = [
        (next(iter(row.probabilities.values()), 0.0), row.path, file)
        for row in rows
        if (file := image_under(described.root_of(row.split), row.path)) is not None
    ]
    found.sort(key=lambda one: one[:2])
    count = min(limit, len(found))
    chosen = sorted({round(index) for index in np.linspace(0, len(found) - 1, count)})
    return [found[index][2] for index in chosen]


def read_probe_images(files: Sequence[Path], *, max_pixels: int) -> ProbeImages:
    """Read images and leave out, by name, those that cannot be decoded."""
    from kerastl.data.validate import decode_error

    encoded, problems = [], []
    for file in files:
        try:
            content = read_image(file, max_pixels=max_pixels)
        except UnreadableError as error:
            problems.append(f"{printable_path(file)}: {error}")
            continue
        reason = decode_error(content, window=None, max_pixels=max_pixels)
        if reason is None:
            encoded.append(content)
        else:
            problems.append(f"{printable_path(file)}: {reason}")
    return ProbeImages(tuple(encoded), tuple(problems))


def expected_predictions(
    trained: Trained, encoded: Sequence[bytes], postprocessing: Postprocessing = NO_POSTPROCESSING
) -> ExpectedPredictions:
    """Return what an export of a run's model is to answer, that tells it as `postprocessing` has it."""
    from kerastl.export.saved_model import weights_fingerprint

    own, names = trained.probabilities(encoded), trained.class_names
    right = postprocessing
    if trained.folder is not None:
        right = expected_postprocessing(trained.folder, names, postprocessing)
    return ExpectedPredictions(
        class_names=names,
        probabilities=right.apply(own).astype(np.float32),
        predicted=tuple(right.predict_labels(own, names)),
        settings={
            "class_names": trained.class_names,
            "image_size_px": trained.image_size_px,
            "window": trained.window,
            "max_pixels": trained.max_pixels,
            "model_sha256": weights_fingerprint(trained.model),
            "postprocessing": right.to_json(names),
        },
    )


def write_samples(export: Path, encoded: Sequence[bytes], expected: ExpectedPredictions) -> None:
    """Put images into an export under neutral names, with the model's own answers.

    The bytes are unchanged: whatever a camera wrote into a file goes along.
    """
    folder = export / SAMPLES
    folder.mkdir()
    try:
        names = []
        for number, content in enumerate(encoded, start=1):
            extension = extension_of(content)
            names.append(f"sample_{number}.{extension}" if extension else f"sample_{number}")
            write_atomic(folder / names[-1], content)
        rows = expected.probabilities.tolist()
        answers = dict(zip(names, rows, strict=True))
        told = {"class_names": list(expected.class_names), "probabilities": answers}
        if expected.predicted is not None:
            told["predicted"] = dict(zip(names, expected.predicted, strict=True))
        write_json(folder / EXPECTED, told)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_samples(export: Path) -> tuple[tuple[bytes, ...], ExpectedPredictions] | None:
    """Return the images in an export and the answers stored with them; None: it holds none.

    Raises:
        RequestError: the samples are damaged.
    """
    folder = export / SAMPLES
    if not (folder / EXPECTED).is_file():
        return None
    max_pixels = read_manifest(export).max_pixels
    with report_damage(folder, EXPORT_AGAIN):
        if not _lies_in(folder, EXPECTED):
            raise ValueError(f"{EXPECTED} is a link")
        content = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))
        names = tuple(str(name) for name in content["class_names"])
        answers = content["probabilities"]
        encoded = tuple(_sample(folder, name, max_pixels) for name in answers)
        probabilities = np.asarray(list(answers.values()), np.float32)
        probabilities = probabilities.reshape(len(encoded), len(names))
        told = content.get("predicted")
        predicted = None if told is None else tuple(str(told[name]) for name in answers)
    return encoded, ExpectedPredictions(names, probabilities, predicted)


def _sample(folder: Path, name: str, max_pixels: int) -> bytes:
    from kerastl.data.validate import decode_error

    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError("a sample's name leads out of the folder")
    if not _lies_in(folder, name):
        raise ValueError(f"{printable_path(Path(name))} is a link, or no file")
    content = (folder / name).read_bytes()
    reason = decode_error(content, window=None, max_pixels=max_pixels)
    if reason is not None:
        raise ValueError(f"{printable_path(Path(name))}: {reason}")
    return content


def _lies_in(folder: Path, name: str) -> bool:
    """Tell whether a name is a file of this very folder: a link may lead to what is not to be shown to a server."""
    file = folder / name
    return file.is_file() and file.resolve() == folder.resolve() / name


@dataclass(frozen=True)
class Question:
    """Images, and the answers to expect.

    Args:
        encoded: whole files that can be decoded, at least one.
        expected: None where nothing tells what is right.
        problems: of files that were named and left out, one line each.
    """

    encoded: tuple[bytes, ...]
    expected: ExpectedPredictions | None
    problems: tuple[str, ...] = ()


def run_around(folder: Path) -> Path | None:
    """Return the run folder that an export lies in."""
    for parent in folder.resolve().parents:
        if (parent / DESCRIPTION).is_file() and (parent / MODEL).is_file():
            return parent
    return None


def question_for(
    folder: Path, *, images: Sequence[Path], run: Path | None, limit: int = MOST_IMAGES
) -> Question:
    """Return what an export is asked.

    Args:
        folder: the numbered folder.
        images: files and folders; none: test images of `run`, or else the export's own samples.
        run: that was exported; None: not at hand.
        limit: images, at most.

    Raises:
        RequestError: there are no images, or `run` is no finished run.
    """
    manifest = read_manifest(folder)
    trained = load_trained(run) if run is not None else None
    files = list(find_images(images))[:limit]
    if not images and run is not None and trained is not None:
        files = select_test_images(run, trained, limit)
    if not files and not images and (samples := read_samples(folder)) is not None:
        encoded, stored = samples
        return Question(encoded, expected_predictions(trained, encoded, manifest.how) if trained else stored)
    found = read_probe_images(files, max_pixels=(trained or manifest).max_pixels)
    if not found.encoded:
        why = "".join(f"\n  Left out: {problem}" for problem in found.problems[:5])
        raise RequestError(
            f"There are no images to check {folder} on. Name some, and the run that was exported: "
            f"kerastl verify {shlex.quote(str(folder))} --run RUN IMAGES...{why}"
        )
    expected = expected_predictions(trained, found.encoded, manifest.how) if trained else None
    return Question(found.encoded, expected, found.problems)
