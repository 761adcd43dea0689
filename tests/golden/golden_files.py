"""Read and write the golden files of this folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
HELP = FOLDER / "help.txt"
REQUESTS = FOLDER / "wrong_requests.txt"
RECIPE_KEYS = FOLDER / "recipe_keys.txt"
JSON_KEYS = FOLDER / "json_keys.txt"


def read_sections(file: Path) -> dict[str, str]:
    """Return the sections of a file by title. Titles are lines that start with `=== `."""
    _, *parts = re.split(r"^=== (.*)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title: text.rstrip("\n") + "\n" for title, text in zip(parts[::2], parts[1::2], strict=True)}


def write_sections(file: Path, texts: dict[str, str]) -> None:
    """Write texts below their titles."""
    text = "\n".join(f"=== {title}\n{text}" for title, text in texts.items())
    file.write_text(text, encoding="utf-8")


def read_lines(file: Path) -> list[str]:
    """Return the lines of a file."""
    return file.read_text(encoding="utf-8").splitlines()


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write lines."""
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_json_keys() -> dict[str, set[str]]:
    """Return the JSON keys of the run of each recipe."""
    keys: dict[str, set[str]] = {}
    for line in read_lines(JSON_KEYS) if JSON_KEYS.exists() else ():
        path, names, recipes = re.fullmatch(r"(.*) \{(.*)\} # (.*)", line).groups()  # type: ignore[union-attr]
        for recipe in recipes.split(", "):
            keys.setdefault(recipe, set()).update(f"{path} {name}" for name in names.split(", "))
    return keys


def write_json_keys(recipe: str, keys: set[str]) -> None:
    """Write the JSON keys of one run next to those of the others.

    A line holds keys that have the path above them and the recipes in common.
    """
    keys_by_recipe = {**read_json_keys(), recipe: keys}
    lines: dict[tuple[str, str], list[str]] = {}
    for key in sorted(set().union(*keys_by_recipe.values())):
        path, _, name = key.rpartition(" ")
        recipes = ", ".join(recipe for recipe in sorted(keys_by_recipe) if key in keys_by_recipe[recipe])
        lines.setdefault((path, recipes), []).append(name)
    write_lines(
        JSON_KEYS, (f"{path} {{{', '.join(names)}}} # {recipes}" for (path, recipes), names in lines.items())
    )


def run_file(recipe: str) -> Path:
    """Return the file of what the run of a recipe decided and predicted."""
    return FOLDER / "runs" / f"{recipe}.json"


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, one short object or list a line."""
    file.parent.mkdir(exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    text = re.sub(r"([\[{])\n\s+([^\[\]{}]*?)\n\s+([\]}])", _one_line, text)
    file.write_text(text + "\n", encoding="utf-8")


def _one_line(match: re.Match[str]) -> str:
    inner = re.sub(r"\n\s+", " ", match[2])
    return f"{match[1]}{inner}{match[3]}" if len(inner) < 100 else match[0]
