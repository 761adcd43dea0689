"""`kerastl report`: write the report of a run."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl import report
from kerastl.cli._output import RunPath


@click.command()
@click.argument("run", type=RunPath())
def command(run: Path) -> None:
    """Regenerate the report of a run. RUN/report.html shows scores, curves, errors and consistency checks.

    The page is a single file. It contains paths and images of the data and is as confidential as the data.

    \b
    Example:
      kerastl report runs/folder-classifier-1
    """
    click.echo(f"Wrote {report.write_report(run)}")
