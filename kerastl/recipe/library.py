"""The recipes that ship, and the recipes in files: one word finds either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerastl.errors import RequestError
from kerastl.recipe.check import PolicyOf, check
from kerastl.recipe.read import MAX_CHARACTERS
from kerastl.recipe.schema import Recipe
from kerastl.recipe.sharing import DomainsOf
from kerastl.recipe.tables import Tables
from kerastl.recipe.tree import quoted
from kerastl.recipe.walk import NamesOf, OptionsOf
from kerastl.recipe.without_source import Models
from kerastl.recipe.words import nearest

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Found:
    """A recipe that was found.

    Args:
        name: its short name, for folders of runs: `flowers` for `recipes/flowers.yaml`.
        word: as the person typed it.
        text: YAML.
    """

    name: str
    word: str
    text: str

    @property
    def why(self) -> str:
        """The first line of its header."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""


def folder() -> Path:
    """Return the folder of shipped recipes: inside the package when installed, else in the checkout."""
    shipped = PACKAGE / "_recipes"
    return shipped if shipped.is_dir() else PACKAGE.parent / "recipes"


def names() -> list[str]:
    """Return the names of the shipped recipes, in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(word: str) -> Found:
    """Return the recipe of a shipped name or a file.

    Raises:
        RequestError: there is no such recipe, or the file cannot be read as text.
    """
    if word in names():
        return Found(word, word, _text_of(folder() / f"{word}.yaml"))
    path = Path(word)
    try:
        exists = "\0" not in word and path.exists()
    except OSError:  # a name that is too long
        exists = False
    if exists:
        return Found(path.stem, word, _text_of(path))
    near = nearest(path.stem, names())
    hint = f"Did you mean '{near}'?" if near else f"Shipped: {', '.join(names())}."
    raise RequestError(
        f"There is no recipe {quoted(word)}: neither a shipped name nor a file. {hint}\n"
        "All that ship: kerastl ls"
    )


def _text_of(path: Path) -> str:
    shown = quoted(str(path), "")
    if path.is_dir():
        own = path / "recipe.resolved.yaml"
        hint = f" The recipe of this run: {quoted(str(own), '')}" if own.is_file() else ""
        raise RequestError(f"{shown} is a folder; a recipe is a file or a shipped name.{hint}")
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_CHARACTERS + 1)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{shown} is no recipe: it is not UTF-8 text.") from None
    except OSError as error:
        raise RequestError(f"{shown} cannot be read: {error.strerror}.") from None


def load(
    word: str,
    *,
    options_of: OptionsOf,
    names_of: NamesOf,
    tables: Tables | None = None,
    domains_of: DomainsOf | None = None,
    policy_of: PolicyOf | None = None,
    models: Models | None = None,
    sets: Sequence[str] = (),
) -> Recipe:
    """Find and check a recipe: `find`, then `check`.

    Raises:
        RequestError: it does not exist.
        Problems: it has problems.
    """
    found = find(word)
    return check(
        found.text,
        name=word,
        options_of=options_of,
        names_of=names_of,
        tables=tables,
        domains_of=domains_of,
        policy_of=policy_of,
        models=models,
        sets=sets,
    )
