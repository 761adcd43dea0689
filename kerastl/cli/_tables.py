"""Print what a run came to: a short table with intervals, and what to type next."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click

from kerastl.cli._sites import TESTS, print_sites
from kerastl.cli._words import with_interval
from kerastl.runs import Run

ADAPTATION = "adaptation.json"
JUDGED = ("val", "test", "target_val", "target_test")
SHOWN = ("accuracy", "balanced_accuracy", "auc", "group_auc")


def near(path: Path) -> str:
    """Return the shortest way to write a path from here, quoted for a shell."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def print_scores(run: Run, *, as_json: bool) -> None:
    """Print the scores of every split of a run, and the next commands."""
    from kerastl.evaluation.bootstrap import FEWEST_GROUPS

    scores = run.read_json("scores.json")
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "scores": scores}, indent=1))
        return
    click.echo(f"\nRun folder: {near(run.path)}")
    for split in JUDGED:
        if split in scores:
            overall = scores[split]["overall"]
            shown = [
                f"{name} {with_interval(overall[name])}"
                for name in SHOWN
                if overall.get(name, {}).get("value") is not None
            ]
            click.echo(f"  {split:<12} " + ", ".join(shown))
    _print_points(scores)
    adaptation = run.read_json(ADAPTATION) if run.file(ADAPTATION).is_file() else {}
    _print_difference(adaptation)
    print_sites(scores, adaptation)
    if "interval" in scores and any(split in scores for split in JUDGED):
        drawn = "group" if scores["interval"]["unit"] == "group" else "picture"
        click.echo(
            f"In brackets: 95 % intervals, where {FEWEST_GROUPS} {drawn}s or more allow one."
        )
    else:
        click.echo("Nothing was judged: no picture is held out for validation or test.")
    click.echo("Next:")
    click.echo(f"  open {near(run.file('report.html'))}")
    click.echo(f"  kerastl predict {near(run.path)} PICTURES...")
    for folder in _verifiable(run):
        click.echo(f"  kerastl verify {near(folder)}")


def _print_points(scores: dict[str, Any]) -> None:
    """Print what validation's thresholds come to on the test pictures, where a class is the positive one."""
    for split in TESTS:
        told = scores.get(split, {}).get("operating_points", {})
        for point in told.get("points", []):
            if point["threshold"] is None:
                continue
            found = point["overall"]
            rates = ", ".join(
                f"{name} {with_interval(found[name])}" for name in ("sensitivity", "specificity")
            )
            where = f"threshold for {point['fixed']} {point['at']:g} on {told['threshold_from']}"
            click.echo(f"  {split:<12} {told['positive']}, {where}: {rates}")


def _print_difference(told: dict[str, Any]) -> None:
    """Print what adaptation changed at the target, where the run adapted and its test pictures are labelled."""
    if not told:
        return
    if len(told["candidates"]) > 1 and "ranking" in told:
        click.echo(
            f"  chosen       {told['chosen']}, {told['verdict'].replace('_', ' ')}: {told['reason']}"
        )
    judged = told["target_test"]
    if judged and told["chosen"] != "source_only":
        change = judged["difference"]
        outcome = change["outcome"].replace("_", " ")
        what = f"{change['metric']}, adapted minus unchanged"
        click.echo(f"  target_test  {what}: {with_interval(change)}: {outcome}")


def _verifiable(run: Run) -> list[Path]:
    """Return the exports that `verify` can check: none where no test picture lies in a file to open."""
    from kerastl.evaluation.trained_model import read_description
    from kerastl.export import run_pictures

    exports = run.file("export")
    if not exports.is_dir() or not run_pictures(run.path, read_description(run.path), limit=1):
        return []
    return sorted(exports.iterdir())
