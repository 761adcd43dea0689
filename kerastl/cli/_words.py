"""Figures and names in words that are fit for a terminal."""

from __future__ import annotations

from typing import Any

LONGEST = 60


def with_interval(metric: dict[str, Any] | None) -> str:
    """Return `0.912 (0.871 to 0.948)`; a dash where there is no value."""
    if not metric or metric.get("value") is None:
        return "-"
    if metric.get("low") is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def printable(name: str) -> str:
    """Return a name from the data without what moves the cursor or colours the screen, and not too long."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
