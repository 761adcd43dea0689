"""Write the tables of docs/recipes.md from the schema and the plug-ins, so that they cannot drift.

`python scripts/recipe_table.py` writes them; a test compares.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from kerastl import registry
from kerastl.recipe.schema import Recipe
from kerastl.recipe.words import allowed, hints, members, unwrap

KINDS = ("reader", "operation", "mixing", "adaptation", "validator")
DOCS = Path(__file__).parent.parent / "docs" / "recipes.md"
BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->\n"
ARGUMENT = re.compile(r"^        (\w+): (.+?)(?=^        \w|\Z)", re.MULTILINE | re.DOTALL)


def meanings(schema: type[Any]) -> dict[str, str]:
    """Return the text of each field from the class docstring's `Args`."""
    _, _, text = (schema.__doc__ or "").partition("Args:\n")
    return {name: " ".join(words.split()) for name, words in ARGUMENT.findall(text + "\n")}


def _parts(annotation: Any) -> list[tuple[str, type[Any]]]:
    """Return the dataclasses inside an annotation, each with what the path gains: `[]` in a list."""
    kind, _ = unwrap(annotation)
    found = []
    for one in members(kind):
        inner = [item for item in getattr(one, "__args__", ()) if is_dataclass(item)]
        found += [("[]", item) for item in inner]
        found += [("", one)] if is_dataclass(one) else []
    return found


def _default(field: Any, structured: bool) -> str:
    if field.default is MISSING:
        return "needed"
    if structured and field.default is not None and not isinstance(field.default, str | tuple):
        return ""
    words = {None: "null", (): "[]", True: "true", False: "false"}
    if isinstance(field.default, tuple) and field.default:
        return f"[{', '.join(getattr(one, 'name', one) for one in field.default)}]"
    if isinstance(field.default, bool) or field.default in (None, ()):
        return words[field.default]
    return str(field.default)


def rows(schema: type[Any], path: str = "") -> list[tuple[str, str, str, str]]:
    """Return `(key, what it may be, default, meaning)` for every field, depth first."""
    found = []
    for field in fields(schema):
        if field.name == "options" and hasattr(schema, "KIND"):
            continue
        annotation = hints(schema)[field.name]
        where = f"{path}.{field.name}" if path else field.name
        parts = _parts(annotation)
        meaning = meanings(schema).get(field.name, "")
        found.append((where, allowed(annotation), _default(field, bool(parts)), meaning))
        for suffix, part in parts:
            found += rows(part, where + suffix)
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(found: list[tuple[str, str, str, str]]) -> str:
    """Return rows as a Markdown table."""
    head = "| key | may be | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{key}` | {_cell(kinds)} | {f'`{default}`' if default not in ('', 'needed') else default} "
        f"| {_cell(meaning)} |\n"
        for key, kinds, default, meaning in found
    )


def plug_ins(kind: str) -> str:
    """Return one table with the options of every plug-in of a kind."""
    found = []
    for name in registry.names(kind):
        options = registry.options_of(kind, name)
        found += rows(options, name) if options else []
    return table(found)


def written(text: str) -> str:
    """Return the page with its tables made anew."""
    parts = {"schema": table(rows(Recipe))}
    parts |= {kind: plug_ins(kind) for kind in KINDS}
    for name, new in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + new + end + after
    return text


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))
