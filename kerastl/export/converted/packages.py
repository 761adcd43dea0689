"""Are the packages there that a format needs? Asked before anything is loaded, trained or written."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from kerastl import registry
from kerastl.errors import RequestError, listed


def check_formats(names: Iterable[str], quantize: str | None = None) -> None:
    """Check that formats can be written. Loads nothing.

    Args:
        names: of formats.
        quantize: what those of them that offer it are asked for; None: nothing.

    Raises:
        RequestError: packages are missing, the text names the extras; or no format offers `quantize`.
    """
    asked = list(names)
    problems = [problem for name in asked if (problem := _lacking(name))]
    if quantize is not None and not any(quantize in choices_of(name) for name in asked):
        problems.append(_cannot_quantize(asked, quantize))
    if problems:
        raise RequestError("\n".join(problems))


def choices_of(name: str) -> tuple[str, ...]:
    """Return what a format can be quantized to."""
    return tuple(getattr(registry.module("format", name), "QUANTIZES", ()))


def _lacking(name: str) -> str:
    needs = getattr(registry.module("format", name), "NEEDS", ())
    missing = [package for package in needs if find_spec(package) is None]
    if not missing:
        return ""
    verb = "are" if len(missing) > 1 else "is"
    return (
        f"The format {name} needs {listed(missing, 'and')}, which {verb} not installed: "
        f"pip install 'kerastl[{name}]'"
    )


def _cannot_quantize(asked: list[str], quantize: str) -> str:
    offers = {name: choices_of(name) for name in registry.names("format")}
    known = "; ".join(f"{name}: {', '.join(found)}" for name, found in offers.items() if found)
    return (
        f"{', '.join(asked) or 'No format'} cannot be quantized to {quantize}. What can be quantized: {known}. "
        "Leave it out, or name such a format."
    )
