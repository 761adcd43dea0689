"""Check a recipe with every look-up there is: plug-ins, the tables of the backbones, the domains of a table."""

from __future__ import annotations

from collections.abc import Sequence

from kerastl import augment, models, registry
from kerastl import recipe as recipes


def check_recipe(found: recipes.Found, sets: Sequence[str]) -> recipes.Recipe:
    """Return the recipe with every default filled in.

    Raises:
        Problems: every problem at once.
    """
    from kerastl.adaptation import method

    return recipes.check(
        found.text,
        name=found.word,
        tables=models,
        read_domains=registry.read_domains,
        read_columns=registry.read_columns,
        policy_of=augment.named_policy,
        models=method,
        sets=sets,
    )
