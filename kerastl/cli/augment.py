"""`kerastl augment`: preview and check the augmentation of a recipe."""

from __future__ import annotations

import click

from kerastl.cli._augment_audit import audit
from kerastl.cli._augment_preview import preview


@click.group()
def command() -> None:
    """Preview how training images are augmented, and check that it does not change their class.

    \b
    Examples:
      kerastl augment audit folder-classifier --set data.reader.path=photos
      kerastl augment preview folder-classifier --set data.reader.path=photos --set augment=medium
    """


command.add_command(audit)
command.add_command(preview)
