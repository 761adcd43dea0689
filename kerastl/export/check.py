"""Check an export of whatever form: find out which it is, ask it, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerastl.errors import RequestError
from kerastl.export.converted.find import find_converted
from kerastl.export.converted.verify import verify_converted
from kerastl.export.findings import Finding
from kerastl.export.live_clients import Server
from kerastl.export.portable import verify_portable
from kerastl.export.probe_pictures import MOST_PICTURES
from kerastl.export.question import Question, question_for, run_around
from kerastl.export.read_export import find_export, find_portable
from kerastl.export.verify import verify


@dataclass(frozen=True)
class Checked:
    """What became of a check.

    Args:
        folder: the numbered folder that was checked.
        findings: one for each check.
        num_pictures: it was asked about.
        problems: of pictures that were named and left out, one line each.
    """

    folder: Path
    findings: tuple[Finding, ...]
    num_pictures: int = 0
    problems: tuple[str, ...] = ()


def check_export(
    path: Path,
    *,
    pictures: Sequence[Path] = (),
    run: Path | None = None,
    server: Server | None = None,
    limit: int = MOST_PICTURES,
) -> Checked:
    """Check the files and the answers of an export.

    Args:
        path: the export, or a folder of numbered ones, of which the highest counts.
        pictures: files and folders; none: test pictures of the run, or else the export's own samples.
        run: that was exported; None: the run folder that it lies in, if it does.
        server: a running TF Serving to ask as well; the pictures are sent to it.
        limit: pictures, at most.

    Raises:
        RequestError: it is no export, there are no pictures, the runtime is not installed, or a server is to run what it cannot.
    """
    served, converted = find_export(path), find_converted(path)
    found = served or (converted.folder if converted else find_portable(path))
    if found is None:
        raise RequestError(
            f"{path} is not an export: it holds no saved_model.pb, and no file of another format."
        )
    if served is None and server is not None:
        raise RequestError(
            f"TensorFlow Serving does not run {found}: leave out --url and --rest-url."
        )
    run = run or run_around(found)
    if served is None and converted is None:
        # No server runs it: the files and the weights are what there is to check.
        return Checked(found, tuple(verify_portable(found, run)))
    asked: Question = question_for(found, pictures=pictures, run=run, limit=limit)
    if served is not None:
        findings = verify(served, pictures=asked.encoded, expected=asked.expected, server=server)
    else:
        assert converted is not None
        findings = verify_converted(converted, pictures=asked.encoded, expected=asked.expected)
    return Checked(found, tuple(findings), len(asked.encoded), asked.problems)
