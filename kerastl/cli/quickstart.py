"""`kerastl quickstart`: the main job, offline, in minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerastl.cli._output import NonEmptyPath

if TYPE_CHECKING:
    from kerastl.workflows.quickstart import QuickstartResult


@click.command()
@click.option("--out", type=NonEmptyPath(), help="Run folder, new or empty.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the recipe's.")
@click.option(
    "--backbone",
    type=click.Choice(["small_cnn", "mobilenet_v2"]),
    default="small_cnn",
    show_default=True,
    help="mobilenet_v2 starts from ImageNet weights where they are cached; nothing is downloaded.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the outcome as JSON to stdout.")
def command(out: Path | None, seed: int | None, backbone: str, as_json: bool) -> None:
    """Do the main job on drawn phantom hospitals, offline, in minutes, without a GPU.

    Train at hospital A, see the score drop at hospital B, adapt with a few labelled patients of B,
    compare with training from scratch on the same few, judge on B's untouched patients, export, verify.
    Phantoms prove nothing clinical.

    \b
    Example:
      kerastl quickstart
    """
    started = time.perf_counter()
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl.export import verify_run
    from kerastl.workflows.quickstart import run_quickstart

    outcome = run_quickstart(out=out, seed=seed, backbone=backbone)
    findings = verify_run(outcome.run.path)
    seconds = time.perf_counter() - started
    if as_json:
        click.echo(json.dumps(_as_json(outcome, findings, seconds), indent=1))
    else:
        _print(outcome, findings, seconds)
    if any(not finding.ok for finding in findings):
        raise SystemExit(1)


def _as_json(outcome: QuickstartResult, findings: Any, seconds: float) -> dict[str, Any]:
    return {
        "run": str(outcome.run.path),
        "rows": dict(outcome.rows),
        "differences": dict(outcome.differences),
        "labelled_groups": outcome.num_patients,
        "verified": all(finding.ok for finding in findings),
        "seconds": round(seconds, 1),
    }


def _print(outcome: QuickstartResult, findings: Any, seconds: float) -> None:
    from kerastl.cli._output import shell_path, format_metric

    click.echo("\nArea under the ROC curve by patient (95 % interval, bootstrap over patients)")
    for what, metric in outcome.rows:
        click.echo(f"  {what:<42} {format_metric(metric)}")
    for what, metric in outcome.differences:
        words = metric["outcome"].replace("_", " ")
        click.echo(f"  {what:<42} {format_metric(metric)}: {words}")
    run = outcome.run
    checked = sum(finding.ok for finding in findings)
    click.echo(
        f"\nDone in {seconds:.0f} s: trained at A, adapted with {outcome.num_patients} labelled patients of B, "
        f"judged on patients no model had seen,\nexported to {shell_path(run.file('export') / 'saved_model')} "
        f"and verified in a process without kerastl ({checked} of {len(findings)} checks passed).\n"
        "These hospitals are drawn phantoms: the figures show how the tool works and prove nothing clinical."
    )
    click.echo(f"\nThe page to look at: {shell_path(run.file('report.html'))}")
    click.echo("The same with your own images, one sub-folder a class:")
    click.echo("  kerastl run folder-classifier --set data.reader.path=IMAGES --out runs/mine")
    click.echo("  kerastl predict runs/mine NEW_IMAGES --out answers.csv")
    click.echo("  kerastl verify runs/mine/export/saved_model")
