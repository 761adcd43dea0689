"""`kerastl report`: one page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl.cli._output import NonEmptyPath


@click.command()
@click.argument("run", type=NonEmptyPath())
def command(run: Path) -> None:
    """Write RUN/report.html again: scores, curves, errors, what was frozen, in one file.

    The page loads nothing from elsewhere. It shows paths and images of the data: it is as confidential
    as they are.

    \b
    Example:
      kerastl report runs/folder-classifier-1
    """
    from kerastl.report import write_report

    click.echo(f"Wrote {write_report(run)}")
