"""Recipes that ship with kerastl, recipes in files, and a summary of what a recipe does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerastl.errors import RequestError, join_words, quote, shell_command, suggest

if TYPE_CHECKING:
    from kerastl.recipe.phase import Phase
    from kerastl.recipe.schema import Backbone, Reader, Recipe

PACKAGE = Path(__file__).parent.parent
MAX_CHARACTERS = 200_000


@dataclass(frozen=True)
class RecipeText:
    """The text of a recipe.

    Args:
        name: The short name of the recipe, for run folders: `flowers` for `recipes/flowers.yaml`.
        word: The name as typed.
        text: YAML.
    """

    name: str
    word: str
    text: str

    @property
    def purpose(self) -> str:
        """The first line of its header."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""


def folder() -> Path:
    """Return the folder of shipped recipes: inside the package if installed, else in the checkout."""
    shipped = PACKAGE / "_recipes"
    return shipped if shipped.is_dir() else PACKAGE.parent / "recipes"


def names() -> list[str]:
    """Return the names of the shipped recipes, in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(word: str) -> RecipeText:
    """Return the recipe of a shipped name or a file.

    Raises:
        RequestError: There is no such recipe, or the file cannot be read as text.
    """
    if word in names():
        return RecipeText(word, word, _text_of(folder() / f"{word}.yaml"))
    path = Path(word)
    if os.path.exists(word):  # noqa: PTH110 - Path raises if the name is too long
        return RecipeText(path.stem, word, _text_of(path))
    files = sorted(map(str, Path().glob("*.y*ml")))
    hint = suggest(path.stem, [*files, *names()]).strip() or f"Shipped: {', '.join(names())}."
    raise RequestError(
        f"Recipe {quote(word)} not found: it is neither a shipped recipe nor a file. {hint}\n"
        "List the shipped recipes: kerastl ls"
    )


def _text_of(path: Path) -> str:
    shown = quote(str(path), "")
    if path.is_dir():
        own = path / "recipe.resolved.yaml"
        train = (
            f" To train on its images: {shell_command('kerastl', 'run', 'folder-classifier', '--data', path)}"
        )
        hint = f" The recipe of this run: {quote(str(own), '')}" if own.is_file() else train
        raise RequestError(f"{shown} is a folder; a recipe is a file or the name of a shipped recipe.{hint}")
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_CHARACTERS + 1)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{shown} is not a recipe: it is not UTF-8 text.") from None
    except OSError as error:
        raise RequestError(f"{shown} cannot be read: {error.strerror}.") from None


def summary(recipe: Recipe) -> str:
    """Return one line: the network, its initial weights, the images, and what is trained for how long."""
    parts = [_start(recipe)]
    if recipe.target is not None:
        labels = {"none": "without labels", "few": "with few labels", "all": "with all labels"}
        parts.append(f"target: {_images(recipe.target.reader)}, {labels[recipe.target.labels]}")
    parts.append(f"phases: {join_words([_phase(phase) for phase in recipe.phases], 'then')}")
    if recipe.adapts_by is not None:
        methods = join_words([method.name for method in recipe.adapts_by.methods], "and")
        validators = join_words([validator.name for validator in recipe.adapts_by.select_by], "and")
        parts.append(f"adapts by {methods}, selected by {validators}")
    formats = recipe.export.formats
    parts.append(f"exports {join_words(formats, 'and')}" if formats else "exports nothing")
    return "; ".join(parts) + f". Seed {recipe.seed}."


def _start(recipe: Recipe) -> str:
    if recipe.data.reader is not None:
        return f"{_network(recipe.backbone)} is trained on {_images(recipe.data.reader)}"
    return f"{_network(recipe.backbone)} is adapted without source images"


def _network(backbone: Backbone) -> str:
    weights = {"imagenet": "ImageNet weights", "preset": "its own weights", "none": "random weights"}
    start = weights.get(str(backbone.weights)) or quote(str(backbone.weights), "")
    return f"{backbone.name} ({start})"


def _images(reader: Reader) -> str:
    """Return the reader and the first path or text among its options, which identifies the images."""
    values = dict(reader.options).values() if reader.options is not None else ()
    named = [str(value) for value in values if isinstance(value, Path | str)]
    return f"{reader.name} {quote(named[0], '')}" if named else reader.name


def _phase(phase: Phase) -> str:
    from kerastl.recipe.phase import FromBlock, LayerNames, TopFraction

    what = {"all": "all layers", "none": "the head"}.get(str(phase.trainable), "the last block first")
    if isinstance(phase.trainable, TopFraction):
        what = f"the last {phase.trainable.top_fraction:.0%}"
    elif isinstance(phase.trainable, FromBlock):
        what = f"from {quote(phase.trainable.from_block, '')} on"
    elif isinstance(phase.trainable, LayerNames):
        what = f"layers {quote(phase.trainable.names)}"
    domain = " at the target" if phase.domain == "target" else ""
    epochs = f"{phase.epochs} epoch{'s' if phase.epochs != 1 else ''}"
    return f"{phase.name} ({what}{domain}, {epochs} at {phase.learning_rate:g})"
