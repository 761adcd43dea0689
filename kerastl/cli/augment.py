"""`kerastl augment`: see and judge how training pictures are changed."""

from __future__ import annotations

import click


@click.group()
def command() -> None:
    """How training pictures are changed: what it looks like, what it costs, whether it is safe for the label."""
