"""A Recipe out as YAML that reads back to an equal Recipe: every default written, every path absolute."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from kerastl.recipe.read import CoreLoader
from kerastl.recipe.schema import Recipe
from kerastl.recipe.words import hints, members, unwrap

LINE_WIDTH = 100


class _Quoted(str):
    """Text that keeps its quotes, because as a bare word it would mean null."""


UNICODE_LINE_BREAKS = "\x85\u2028\u2029"


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or YAML 1.2 would take for something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write equal parts twice: an anchor is harder to edit."""
        return True


for _start, _resolvers in CoreLoader.yaml_implicit_resolvers.items():
    for _tag, _regex in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _regex, [_start])
_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")
)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write text with a line break of Unicode in it escaped: PyYAML would fold it into a space."""
    style = '"' if any(mark in text for mark in UNICODE_LINE_BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def write(recipe: Recipe) -> str:
    """Return a recipe as YAML text.

    Reading it with the same plug-ins gives an equal recipe.
    """
    return yaml.dump(
        as_plain(recipe),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=LINE_WIDTH,
    )


def as_plain(value: Any) -> dict[str, Any]:
    """Return a dataclass of the schema as plain mappings, lists and scalars, in the order of its fields.

    The options of a plug-in lie beside its name, as in a recipe.
    """
    plain: dict[str, Any] = {}
    for name, annotation in hints(type(value)).items():
        item = getattr(value, name)
        if name == "options" and hasattr(value, "KIND"):
            plain |= as_plain(item) if item is not None else {}
        else:
            plain[name] = _plain(annotation, item)
    return plain


def _plain(annotation: Any, value: Any) -> Any:
    if is_dataclass(value):
        return as_plain(value)
    if isinstance(value, tuple):
        return [_plain(None, item) for item in value]
    if isinstance(value, Path):
        return str(value)
    optional = type(None) in members(unwrap(annotation)[0])
    if isinstance(value, str) and optional and value.lower() == "none":
        return _Quoted(value)
    return value
