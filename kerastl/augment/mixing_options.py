"""Turn what a caller names into mixings with checked options. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from kerastl import registry
from kerastl.augment.named import _wrong
from kerastl.errors import Problem, Problems

Mixing = tuple[str, Any]


def named_mixings(mixings: Sequence[Mixing | Mapping[str, Any]]) -> list[Mixing]:
    """Return (name, options) for each mixing.

    Args:
        mixings: `(name, options)`, or `{"name": ..., option: value, ...}`.

    Raises:
        RequestError: no such mixing.
        Problems: options that are unknown or out of bounds, of all mixings together.
    """
    found: list[Mixing] = []
    problems: list[Problem] = []
    for place, mixing in enumerate(mixings):
        where = f"mixing[{place}]"
        try:
            name, options = _built(mixing)
        except TypeError as error:
            problems.append(Problem(where, str(error)))
            continue
        problems += [Problem(f"{where}, {name}", wrong) for wrong in _wrong(options)]
        found.append((name, options))
    if problems:
        raise Problems("The mixing", problems)
    return found


def _built(mixing: Mixing | Mapping[str, Any]) -> Mixing:
    if not isinstance(mixing, Mapping):
        return mixing
    values = dict(mixing)
    if "name" not in values:
        raise TypeError("has no name: a mixing is {'name': ..., option: value, ...}.")
    name = str(values.pop("name"))
    kind: Any = registry.options_of("mixing", name)
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TypeError(f"{name} has no option '{unknown[0]}'. Known: {', '.join(known)}.")
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.name not in values]
    if needed:
        raise TypeError(f"{name} needs {', '.join(needed)}.")
    return name, kind(**values)
