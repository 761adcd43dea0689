"""`kerastl verify`: does an export answer as kerastl does?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerastl.cli._output import NonEmptyPath

if TYPE_CHECKING:
    from kerastl.export import VerificationResult

FAULT = 1
WORDS = {True: "ok", False: "FAULT", None: "not checked"}


@click.command()
@click.argument("export", type=NonEmptyPath())
@click.argument("images", nargs=-1, type=NonEmptyPath())
@click.option("--run", type=NonEmptyPath(), help="The run that was exported.")
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
@click.option("--model-name", default="kerastl", show_default=True, help="What the server calls the model.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
@click.pass_context
def command(
    context: click.Context,
    export: Path,
    images: tuple[Path, ...],
    run: Path | None,
    url: str | None,
    rest_url: str | None,
    model_name: str,
    as_json: bool,
) -> None:
    """Load EXPORT in a fresh process without kerastl and check its answers on real images.

    IMAGES are files or folders. Without them: the test images of --run, or of the run folder that
    EXPORT lies in, or else the export's own samples. Of the format keras, which no server runs, files and weights are
    checked, and no image is asked for. Those of onnx, litert and openvino are opened by their
    own runtimes. With --url a running TF Serving is asked as well, by gRPC and by REST: is
    this version the one that answers, and does it answer as the export does? The images are sent to it, not
    encrypted. Exit code 1 when a check finds a fault.

    \b
    Examples:
      kerastl verify runs/folder-classifier-1/export/saved_model
      kerastl verify EXPORT --url localhost IMAGES...
      kerastl verify EXPORT --url 10.0.0.7:8500 --rest-url 10.0.0.7:80 IMAGES...
    """
    from kerastl.cli._output import load_tensorflow
    from kerastl.export.live_clients import read_server

    server = read_server(url, rest_url, model_name)
    load_tensorflow()
    from kerastl.export import check_export

    checked = check_export(export, images=images, run=run, server=server)
    for problem in checked.problems:
        click.echo(f"Left out: {problem}", err=True)
    _print(checked, as_json)
    if any(not finding.ok for finding in checked.findings):
        context.exit(FAULT)


def _print(checked: VerificationResult, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in checked.findings], indent=1))
        return
    width = max(len(finding.check) for finding in checked.findings)
    for finding in checked.findings:
        word = WORDS[finding.passed]
        # File and class names of an export are anybody's: none may move the cursor.
        detail = "".join(one if one.isprintable() or one == "\n" else "?" for one in finding.detail)
        click.echo(f"{finding.check:<{width}}  {word:<11}  {detail}")
    faults = sum(not finding.ok for finding in checked.findings)
    outcome = f"{faults} faults" if faults > 1 else "1 fault" if faults else "no fault"
    # An export for Keras is compared by its files and weights: it answers no image.
    asked = f" on {checked.num_images} images" if checked.num_images else ""
    click.echo(f"{checked.folder}: {outcome} in {len(checked.findings)} checks{asked}.")
