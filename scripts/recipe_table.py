"""Write the tables of docs/recipes.md from the schema and the plug-ins.

Usage: python scripts/recipe_table.py. A test checks that the page is up to date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from kerastl import registry
from kerastl.errors import recipe_syntax
from kerastl.options import Plugin, StrictModel, allowed, hints, is_model, members
from kerastl.recipe import Recipe

KINDS = ("reader", "operation", "mixing", "adaptation", "validator")
DOCS = Path(__file__).parent.parent / "docs" / "recipes.md"
BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->\n"
ARGUMENT = re.compile(r"^        (\w+): (.+?)(?=^        \w|\Z)", re.MULTILINE | re.DOTALL)


def meanings(schema: type[StrictModel]) -> dict[str, str]:
    """Return the description of each field from `Args` in the class docstring."""
    _, _, text = (schema.__doc__ or "").partition("Args:\n")
    return {name: " ".join(words.split()) for name, words in ARGUMENT.findall(text + "\n")}


def _parts(annotation: Any) -> list[tuple[str, type[StrictModel]]]:
    """Return the models in an annotation, each with the suffix of its path (`[]` in a list)."""
    models = []
    for part in members(annotation):
        models += [("[]", item) for item in getattr(part, "__args__", ()) if is_model(item)]
        models += [("", part)] if is_model(part) else []
    return models


def _default(field: FieldInfo, structured: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if structured and value is not None and not isinstance(value, str | tuple):
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(getattr(item, 'name', item) for item in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def rows(model: type[StrictModel], path: str = "") -> list[tuple[str, str, str, str]]:
    """Return `(key, allowed values, default, meaning)` of every field, depth first."""
    lines = []
    for name, field in model.model_fields.items():
        if name == "options" and issubclass(model, Plugin):
            continue
        annotation = hints(model)[name]
        where = f"{path}.{name}" if path else name
        parts = _parts(annotation)
        meaning = meanings(model).get(name, "")
        lines.append((where, allowed(annotation), _default(field, bool(parts)), meaning))
        for suffix, part in parts:
            lines += rows(part, where + suffix)
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(lines: list[tuple[str, str, str, str]]) -> str:
    """Return rows as a Markdown table."""
    head = "| key | value | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{key}` | {_cell(kinds)} | {f'`{default}`' if default not in ('', 'required') else default} "
        f"| {_cell(meaning)} |\n"
        for key, kinds, default, meaning in lines
    )


def plug_ins(kind: str) -> str:
    """Return a table of the options of all plug-ins of a kind."""
    lines = []
    for name in registry.names(kind):
        options = registry.options_of(kind, name)
        lines += rows(options, name) if options else []
    return table(lines)


@recipe_syntax()
def written(text: str) -> str:
    """Return the page with updated tables."""
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
