"""Check a recipe with all available information: plug-ins, backbone tables and table columns."""

from __future__ import annotations

from collections.abc import Sequence

from kerastl import augment, models
from kerastl import recipe as recipes


def check_recipe(recipe_text: recipes.RecipeText, sets: Sequence[str]) -> recipes.Recipe:
    """Return the checked recipe, with all defaults.

    Args:
        recipe_text: The text of the recipe.
        sets: Changes in the form of `--set`, `PATH=VALUE`.

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
        sets=sets,
    )
