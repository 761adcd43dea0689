"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path that has a name: an empty word, as an unset variable of a script leaves it, would mean the current folder."""

    def __init__(self, **how: Any) -> None:
        super().__init__(path_type=Path, **how)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            BadParameter: it is empty.
        """
        if value == "":
            self.fail("it is empty; is a variable unset? '.' is the current folder.", param, ctx)
        return super().convert(value, param, ctx)
