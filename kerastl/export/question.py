"""Which pictures an export is asked about, and what it is to answer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import DESCRIPTION, MODEL, load_trained
from kerastl.export.findings import Expected
from kerastl.export.manifest import read_manifest
from kerastl.export.predict import find_images
from kerastl.export.probe_pictures import (
    MOST_PICTURES,
    expected_from,
    read_probe_pictures,
    read_samples,
    run_pictures,
)


@dataclass(frozen=True)
class Question:
    """Pictures, and the answers to expect.

    Args:
        encoded: whole files that can be decoded, at least one.
        expected: None where nothing tells what is right.
        problems: of files that were named and left out, one line each.
    """

    encoded: tuple[bytes, ...]
    expected: Expected | None
    problems: tuple[str, ...] = ()


def run_around(folder: Path) -> Path | None:
    """Return the run folder that an export lies in."""
    for parent in folder.resolve().parents:
        if (parent / DESCRIPTION).is_file() and (parent / MODEL).is_file():
            return parent
    return None


def question_for(
    folder: Path, *, pictures: Sequence[Path], run: Path | None, limit: int = MOST_PICTURES
) -> Question:
    """Return what an export is asked.

    Args:
        folder: the numbered folder.
        pictures: files and folders; none: test pictures of `run`, or else the export's own samples.
        run: that was exported; None: not at hand.
        limit: pictures, at most.

    Raises:
        RequestError: there are no pictures, or `run` is no finished run.
    """
    manifest = read_manifest(folder)
    trained = load_trained(run) if run is not None else None
    files = list(find_images(pictures))[:limit]
    if not pictures and run is not None and trained is not None:
        files = run_pictures(run, trained, limit)
    if not files and not pictures and (samples := read_samples(folder)) is not None:
        encoded, stored = samples
        return Question(
            encoded, expected_from(trained, encoded, manifest.how) if trained else stored
        )
    found = read_probe_pictures(files, max_pixels=(trained or manifest).max_pixels)
    if not found.encoded:
        why = "".join(f"\n  Left out: {problem}" for problem in found.problems[:5])
        raise RequestError(
            f"There are no pictures to check {folder} on. Name some, and the run that was exported: "
            f"kerastl verify {shlex.quote(str(folder))} --run RUN PICTURES...{why}"
        )
    expected = expected_from(trained, found.encoded, manifest.how) if trained else None
    return Question(found.encoded, expected, found.problems)
