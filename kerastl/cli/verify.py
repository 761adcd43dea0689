"""`kerastl verify`: check that an export gives the same predictions as kerastl."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from kerastl import export as exports
from kerastl.cli._output import Choice, NonEmptyPath, json_option


@click.command()
@click.argument("export", type=NonEmptyPath())
@click.argument("images", nargs=-1, type=NonEmptyPath())
@click.option("--run", type=NonEmptyPath(), help="The run that was exported.")
@click.option(
    "--url",
    metavar="HOST[:PORT]",
    help="Also check a running server: TF Serving at this gRPC address (default port: 8500) and over REST on port 8501, or a "
    "KServe server, such as Triton, at this HTTP address.",
)
@click.option(
    "--rest-url",
    metavar="HOST[:PORT]",
    help="REST address, if different. Without --url, only REST is checked.",
)
@click.option(
    "--protocol",
    type=Choice(["tf_serving", "kserve_v1", "kserve_v2"]),
    help="Protocol of the server. The default port of kserve_v1 is 8080, that of kserve_v2 is 8000.  [default: detected]",
)
@click.option("--model-name", help="Name of the model on the server.  [default: that of the export]")
@click.option(
    "--quick", is_flag=True, help="Use at most 8 images and only the signatures serving_default and pixels."
)
@json_option
def command(
    export: Path,
    images: tuple[Path, ...],
    run: Path | None,
    url: str | None,
    rest_url: str | None,
    protocol: str | None,
    model_name: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Verify an export in a new process without kerastl. Compares predictions on real images with those of kerastl.

    IMAGES are files or folders. The default is the test images of --run, or of the run folder that contains EXPORT, or
    the samples of the export. Exports of the formats onnx, litert and openvino are loaded by their own runtimes. For
    the format keras, only files and weights are checked.

    With --url, the served version and its predictions are also checked: TF Serving over gRPC and REST, KServe v1 and v2
    over HTTP. Checks that the protocol does not support are listed with the reason. The images are sent to the server
    without encryption. The exit code is 1 if a check fails.

    \b
    Examples:
      kerastl verify runs/folder-classifier-1/export/saved_model
      kerastl verify EXPORT --url localhost IMAGES...
      kerastl verify runs/folder-classifier-1/export/onnx --url localhost:8000
      kerastl verify EXPORT --url 10.0.0.7:8500 --rest-url 10.0.0.7:80 IMAGES...
    """
    server = exports.read_server(url, rest_url, model_name, protocol)
    if server is not None and model_name is None and (version := exports.find_export(export)):
        server = replace(server, model_name=exports.read_model_name(version.folder) or server.model_name)
    checked = exports.check_export(export, images=images, run=run, server=server, quick=quick)
    for problem in checked.problems:
        click.echo(f"Skipped: {problem}", err=True)
    _print(checked, as_json)
    if any(not finding.ok for finding in checked.findings):
        raise SystemExit(1)


def _print(checked: exports.VerificationResult, as_json: bool) -> None:
    if as_json:
        findings = [{**asdict(finding), "result": finding.result} for finding in checked.findings]
        click.echo(json.dumps(findings, indent=1))
        return
    click.echo(_summary(checked))
    width = max(len(finding.check) for finding in checked.findings)
    results = max(len(finding.result) for finding in checked.findings)
    for finding in checked.findings:
        # File and class names of an export are untrusted: control characters are replaced.
        detail = "".join(
            letter if letter.isprintable() or letter == "\n" else "?" for letter in finding.detail
        )
        click.echo(f"{finding.check:<{width}}  {finding.result:<{results}}  {detail}")


def _summary(checked: exports.VerificationResult) -> str:
    failed = [finding for finding in checked.findings if not finding.ok]
    outcome = "; ".join(f"{finding.check}: {finding.result}" for finding in failed) or "no fault"
    images = f" on {checked.num_images} images" if checked.num_images else ""
    return f"{checked.folder}: {outcome} in {len(checked.findings)} checks{images}."
