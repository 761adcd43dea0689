"""Figures as they are written down: plain data, rounded to digits that do not hang on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIGITS = 9
"""Significant digits that are told: sums of more depend on how many threads a matrix product uses."""


def plain(value: Any) -> Any:
    """Return plain data: dictionaries, lists, texts and rounded numbers."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value
