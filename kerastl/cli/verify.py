"""`kerastl verify`: does an export answer as kerastl does?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.export import Expected, Finding

FAULT = 1
WORDS = {True: "ok", False: "FAULT", None: "not checked"}


@click.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="The run that was exported.")
@click.option(
    "--url",
    metavar="HOST[:PORT]",
    help="Ask a running TF Serving too: its gRPC port (8500). REST is asked for at port 8501 of that host.",
)
@click.option(
    "--rest-url",
    metavar="HOST[:PORT]",
    help="Its REST port, where that is another one; without --url the server is asked by REST alone.",
)
@click.option(
    "--model-name", default="kerastl", show_default=True, help="What the server calls the model."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
@click.pass_context
def command(
    context: click.Context,
    export: Path,
    pictures: tuple[Path, ...],
    run: Path | None,
    url: str | None,
    rest_url: str | None,
    model_name: str,
    as_json: bool,
) -> None:
    """Load EXPORT in a fresh process without kerastl and check its answers on real pictures.

    PICTURES are files or folders. Without them: the test pictures of --run, or of the run folder that
    EXPORT lies in, or else the export's own samples. Of the format keras, which no server runs, files and weights are
    checked, and no picture is asked for. With --url a running TF Serving is asked as well, by gRPC and by REST: is
    this version the one that answers, and does it answer as the export does? The pictures are sent to it, not
    encrypted. Exit code 1 when a check finds a fault.

    \b
    Examples:
      kerastl verify runs/folder-classifier-1/export/saved_model
      kerastl verify EXPORT --url localhost PICTURES...
      kerastl verify EXPORT --url 10.0.0.7:8500 --rest-url 10.0.0.7:80 PICTURES...
    """
    from kerastl.cli._quiet import load_tensorflow
    from kerastl.export.live.server import read_server

    server = read_server(url, rest_url, model_name)
    load_tensorflow()
    from kerastl.export import find_export, find_portable, verify, verify_portable

    folder, portable = find_export(export), find_portable(export)
    encoded: tuple[bytes, ...] = ()
    if folder is not None:
        encoded, expected = _question(folder, pictures, run or _run_around(folder))
        findings = verify(folder, pictures=encoded, expected=expected, server=server)
    elif portable is not None:
        # No server runs it: the files and the weights are what there is to check.
        if server is not None:
            raise RequestError(f"No server runs {portable}: leave out --url and --rest-url.")
        folder = portable
        findings = verify_portable(folder, run or _run_around(folder))
    else:
        raise RequestError(f"{export} is not an export: it holds no saved_model.pb.")
    _print(findings, folder, len(encoded), as_json)
    if any(not finding.good for finding in findings):
        context.exit(FAULT)


def _run_around(folder: Path) -> Path | None:
    """Return the run folder that an export lies in."""
    from kerastl.evaluation.trained import DESCRIPTION, MODEL

    for parent in folder.resolve().parents:
        if (parent / DESCRIPTION).is_file() and (parent / MODEL).is_file():
            return parent
    return None


def _question(
    folder: Path, pictures: Sequence[Path], run: Path | None
) -> tuple[tuple[bytes, ...], Expected | None]:
    """Return the pictures to ask for and the answers to expect."""
    from kerastl.evaluation.trained import load_trained
    from kerastl.export import (
        expected_from,
        find_pictures,
        read_probe_pictures,
        read_samples,
        run_pictures,
    )
    from kerastl.export.manifest import read_manifest
    from kerastl.export.probe_pictures import MOST_PICTURES

    trained = load_trained(run) if run is not None else None
    files = list(find_pictures(pictures))[:MOST_PICTURES]
    if not pictures and run is not None and trained is not None:
        files = run_pictures(run, trained)
    if not files and not pictures and (samples := read_samples(folder)) is not None:
        encoded, expected = samples
        if trained is not None:
            expected = expected_from(trained, encoded, read_manifest(folder).how)
        return encoded, expected
    manifest = read_manifest(folder)
    max_pixels = trained.max_pixels if trained else manifest.max_pixels
    found = read_probe_pictures(files, max_pixels=max_pixels)
    for problem in found.problems:
        click.echo(f"Left out: {problem}", err=True)
    if not found.encoded:
        raise RequestError(
            f"There are no pictures to check {folder} on. Name some, and the run that was exported: "
            f"kerastl verify {shlex.quote(str(folder))} --run RUN PICTURES..."
        )
    return found.encoded, expected_from(trained, found.encoded, manifest.how) if trained else None


def _print(findings: Sequence[Finding], folder: Path, num_pictures: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        word = WORDS[finding.passed]
        # File and class names of an export are anybody's: none may move the cursor.
        detail = "".join(one if one.isprintable() or one == "\n" else "?" for one in finding.detail)
        click.echo(f"{finding.check:<{width}}  {word:<11}  {detail}")
    faults = sum(not finding.good for finding in findings)
    outcome = f"{faults} faults" if faults > 1 else "1 fault" if faults else "no fault"
    click.echo(f"{folder}: {outcome} in {len(findings)} checks on {num_pictures} pictures.")
