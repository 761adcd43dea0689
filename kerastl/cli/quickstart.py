"""`kerastl quickstart`: adapt a classifier to another hospital on phantoms, offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from kerastl import export, report, workflows
from kerastl.cli._output import option, out_option, shell_path
from kerastl.console import load_tensorflow


@click.command()
@out_option("Run folder, new or empty.  [default: runs/quickstart-N]")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed.  [default: the seed of the recipe]")
@option(
    "--backbone",
    type=click.Choice(["small_cnn", "mobilenet_v2"]),
    default="small_cnn",
    help="Backbone; mobilenet_v2 needs cached ImageNet weights. Nothing is downloaded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(out: Path | None, seed: int | None, backbone: str, as_json: bool) -> None:
    """Run transfer learning between two phantom hospitals. Works offline, takes minutes and needs no GPU.

    The run trains at hospital A, evaluates the model at hospital B, adapts it with a few labeled patients from B, compares
    it with training from scratch on the same patients, evaluates on test patients from B, and exports and verifies the
    model. The phantoms have no clinical meaning.

    \b
    Example:
      kerastl quickstart
    """
    started = time.perf_counter()
    load_tensorflow()
    outcome = workflows.run_quickstart(out=out, seed=seed, backbone=backbone)
    folder = outcome.run.path / export.EXPORT_FOLDER / "saved_model"
    findings = export.check_export(folder, run=outcome.run.path).findings
    seconds = time.perf_counter() - started
    if as_json:
        click.echo(json.dumps(_as_json(outcome, findings, seconds), indent=1))
    else:
        _print(outcome, findings, seconds)
    if any(not finding.ok for finding in findings):
        raise SystemExit(1)


def _as_json(outcome: workflows.QuickstartResult, findings: Any, seconds: float) -> dict[str, Any]:
    return {
        "run": str(outcome.run.path),
        "rows": {title: metric.to_json() for title, metric in outcome.rows},
        "differences": {title: metric.to_json() for title, metric in outcome.differences},
        "labeled_groups": outcome.num_patients,
        "verified": all(finding.ok for finding in findings),
        "seconds": round(seconds, 1),
    }


def _print(outcome: workflows.QuickstartResult, findings: Any, seconds: float) -> None:
    click.echo("\nArea under the ROC curve per patient (95% bootstrap interval over patients)")
    for title, metric in outcome.rows:
        click.echo(f"  {title:<42} {report.format_metric(metric)}")
    for title, metric in outcome.differences:
        click.echo(f"  {title:<42} {report.format_metric(metric)}: {metric.outcome.replace('_', ' ')}")
    run = outcome.run
    passed = sum(finding.ok for finding in findings)
    click.echo(
        f"\nDone in {seconds:.0f} s: trained at A, adapted with {outcome.num_patients} labeled patients from B, "
        f"evaluated on test patients,\nexported to {shell_path(run.file('export') / 'saved_model')} "
        f"and verified in a process without kerastl ({passed} of {len(findings)} checks passed).\n"
        "The hospitals are phantoms: the scores show how the tool works and have no clinical meaning."
    )
    click.echo(f"\nReport: {shell_path(run.file('report.html'))}")
    click.echo("To use your own images, with one subfolder per class:")
    click.echo("  kerastl run folder-classifier --data IMAGES --out runs/mine")
    click.echo("  kerastl predict runs/mine NEW_IMAGES --out predictions.csv")
    click.echo("  kerastl verify runs/mine/export/saved_model")
