"""`kerastl augment`: see and judge how training pictures are changed."""

from __future__ import annotations

import click

from kerastl.cli._augment_audit import audit
from kerastl.cli._augment_bench import bench
from kerastl.cli._augment_preview import preview


@click.group()
def command() -> None:
    """How training pictures are changed: what it looks like, what it costs, whether it is safe for the label.

    \b
    Examples:
      kerastl augment audit folder-classifier --set data.reader.path=photos
      kerastl augment preview folder-classifier --set data.reader.path=photos --set augment=medium
      kerastl augment bench folder-classifier --set data.reader.path=photos
    """


command.add_command(audit)
command.add_command(bench)
command.add_command(preview)
