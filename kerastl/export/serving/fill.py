"""The templates of this room, and how a name that somebody chose is made harmless in Markdown."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("templates")
MEANT = re.compile(r"[\\`*_{}\[\]|~@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown would read as more than itself inside a line: code, emphasis, links, a table's cell, an address."""


def environment(**options: Any) -> Any:
    """Return what fills the templates; an unknown name in one is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def in_markdown(value: Any) -> Any:
    """Return text that Markdown and HTML show as it is, on one line; other values as they are."""
    if not isinstance(value, str):
        return value
    line = "".join(one if one.isprintable() else " " for one in value)
    return MEANT.sub(r"\\\g<0>", html.escape(line, quote=False))
