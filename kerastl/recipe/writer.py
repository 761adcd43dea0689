"""Write a Recipe as YAML that reads back to an equal Recipe: every default filled in, every path absolute."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from kerastl.options import Plugin, StrictModel, hints, members
from kerastl.recipe.loader import BOOL, FLOAT, INT, NULL, read_plain
from kerastl.recipe.schema import Recipe

LINE_WIDTH = 100
# Text that YAML 1.1 would read as something else: other programs may read the file with it.
YAML_1_1 = re.compile(r"y|n|yes|no|on|off|[-+]?[0-9.][0-9_:.]*", re.IGNORECASE)
UNICODE_LINE_BREAKS = "\x85\u2028\u2029"
MAX_VALUE_LENGTH = 80
MISSING = object()
"""Marks a value that a recipe does not have."""


class _Representer(SafeRepresenter):
    """Quotes text that would be read as something else, and writes equal parts twice instead of as an alias."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> ScalarNode:
        style: str | None = None
        if any(mark in text for mark in UNICODE_LINE_BREAKS):
            style = '"'
        elif any(kind.fullmatch(text) for kind in (NULL, BOOL, INT, FLOAT, YAML_1_1)):
            style = "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def represent_number(self, number: float) -> ScalarNode:
        """Write a number with a point, without which YAML 1.1 reads `1e-05` as text."""
        text = repr(number)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)

    def represent_quoted(self, text: _Quoted) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", str(text), style="'")


class _Quoted(str):
    """Text that needs quotes, because the bare word means null."""


_Representer.add_representer(str, _Representer.represent_text)
_Representer.add_representer(float, _Representer.represent_number)
_Representer.add_representer(_Quoted, _Representer.represent_quoted)


def write(recipe: Recipe) -> str:
    """Return a recipe as YAML text, which reads back to an equal recipe."""
    return to_yaml(as_plain(recipe))


def to_yaml(plain: Any, *, in_one_line: bool = False) -> str:
    """Return dicts, lists and scalars as YAML text."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = in_one_line
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 10**6 if in_one_line else LINE_WIDTH
    stream = io.StringIO()
    yaml.dump(plain, stream)
    return stream.getvalue().removesuffix("\n...\n").strip() if in_one_line else stream.getvalue()


def as_plain(model: StrictModel) -> dict[str, Any]:
    """Return a model as dicts, lists and scalars in the order of its fields; options are written next to the plug-in's name."""
    plain: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name == "options" and isinstance(model, Plugin):
            plain |= as_plain(value) if value is not None else {}
        else:
            is_text = str in members(hints(type(model))[name])
            is_none = isinstance(value, str) and value.lower() == "none"
            plain[name] = _Quoted(value) if is_text and is_none else _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, StrictModel):
        return as_plain(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def diff_recipes(old_text: str, new_text: str) -> list[str]:
    """Return one line per value that differs, with its dotted key; empty if the old text is not YAML.

    Args:
        old_text, new_text: Resolved recipes.
    """
    try:
        old = read_plain(old_text)
    except ValueError:
        return []
    return diff_values(old, read_plain(new_text))


def diff_values(old: Any, new: Any) -> list[str]:
    """Return one line per value that differs between two nested structures of plain values, with its dotted key."""
    return list(_diff("", old, new))


def _diff(key: str, old: Any, new: Any) -> Iterator[str]:
    """Report the differences of two values; one of them may be `MISSING`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            child = f"{key}.{name}" if key else str(name)
            yield from _diff(child, old.get(name, MISSING), new.get(name, MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _diff_lists(key, old, new)
    elif old is MISSING:
        yield f"{key}: added {_short(new)}"
    elif new is MISSING:
        yield f"{key}: removed {_short(old)}"
    elif old != new:
        yield f"{key}: changed from {_short(old)} to {_short(new)}"


def _diff_lists(key: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Report inserted, removed and changed items, but not equal items at a different index."""
    old_items, new_items = ([json.dumps(item, default=str) for item in items] for items in (old, new))
    matcher = SequenceMatcher(None, old_items, new_items, autojunk=False)
    for _, first, last, new_first, new_last in matcher.get_opcodes():
        removed, added = old[first:last], new[new_first:new_last]
        if len(removed) == len(added):
            for index, (old_item, new_item) in enumerate(zip(removed, added, strict=True), first):
                yield from _diff(f"{key}[{index}]", old_item, new_item)
            continue
        for index, item in enumerate(removed, first):
            yield from _diff(f"{key}[{index}]", item, MISSING)
        for index, item in enumerate(added, new_first):
            yield from _diff(f"{key}[{index}]", MISSING, item)


def _short(value: Any) -> str:
    text = to_yaml(value, in_one_line=True)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
