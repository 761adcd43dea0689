"""Check a recipe with all available information: plug-ins, backbone tables and table columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerastl import augment, models
from kerastl import recipe as recipes
from kerastl.data.readers import reader_name


def check_recipe(
    recipe_text: recipes.RecipeText,
    sets: Sequence[str],
    *,
    data: Path | None = None,
    target: Path | None = None,
) -> recipes.Recipe:
    """Return the checked recipe, with all defaults.

    Args:
        recipe_text: The text of the recipe.
        sets: Changes in the form of `--set`, `PATH=VALUE`.
        data, target: Paths of images in the form of `--data` and `--target`.

    Raises:
        Problems: All problems of the recipe.
    """
    from kerastl.adaptation import method

    return recipes.check(
        recipe_text.text,
        name=recipe_text.word,
        tables=models,
        policy_of=augment.named_policy,
        models=method,
        readers=readers_of(data, target),
        sets=sets,
        paths=True,
    )


def readers_of(data: Path | None, target: Path | None) -> dict[str, tuple[str, Path]]:
    """Return the name and the path of the readers of `--data` and `--target`."""
    given = {"data": data, "target": target}
    return {section: (reader_name(path), path) for section, path in given.items() if path is not None}
