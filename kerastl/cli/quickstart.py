"""`kerastl quickstart`: adapt a classifier to another hospital on phantoms, offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from kerastl import export, report, runs, workflows
from kerastl.cli._output import Choice, option, out_option, shell_path
from kerastl.console import load_tensorflow


@click.command()
@out_option("Run folder, new or empty.  [default: runs/quickstart-N]")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed.  [default: the seed of the recipe]")
@option(
    "--backbone",
    type=Choice(["small_cnn", "mobilenet_v2"]),
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
    runs.check_run_folder("quickstart", out, resume=False)
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


OUTCOMES = {
    "better": "Adaptation with {patients} labeled patients improved the model at hospital B",
    "worse": "Adaptation with {patients} labeled patients made the model worse at hospital B",
    "cannot_tell": "It is unknown whether adaptation with {patients} labeled patients improved the model at hospital B",
}


def _print(outcome: workflows.QuickstartResult, findings: Any, seconds: float) -> None:
    click.echo(f"\n{'AUC per simulated patient':<44} value (95% interval)")
    for title, metric in (*outcome.rows, *outcome.differences):
        click.echo(f"{title:<44} {report.format_metric(metric)}")
    (_, gain), *_ = outcome.differences
    passed = sum(finding.ok for finding in findings)
    click.echo(
        f"\n{OUTCOMES[gain.outcome].format(patients=outcome.num_patients)}; the exported model passed {passed} of "
        f"{len(findings)} checks ({seconds:.0f} s; simulated images have no clinical meaning)."
    )
    click.echo(f"\nReport: {shell_path(outcome.run.file('report.html'))}")
