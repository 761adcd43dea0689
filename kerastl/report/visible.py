"""Letters that cannot be seen, and those that turn the text around them, shown by their number."""

from __future__ import annotations

import unicodedata
from typing import Any

BREAKS = "\n\r\t"
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Persian, Hindi and many signs are written with these."""
HIDDEN = ("Cc", "Cf", "Cs")


def visible(value: Any) -> Any:
    """Return text with `\\u202e` for U+202E, and so on; anything else as it is.

    It is the `finalize` of the templates: called on whatever is filled in, before that is escaped.
    """
    if not isinstance(value, str) or value.isprintable():
        return value
    hidden = {ord(one): _code_point(one) for one in set(value) if _is_hidden(one)}
    return value.translate(hidden)  # of Markup it gives Markup


def _is_hidden(letter: str) -> bool:
    return letter not in BREAKS + JOINERS and unicodedata.category(letter) in HIDDEN


def _code_point(letter: str) -> str:
    return ascii(letter)[1:-1]
