"""Two sites in one table: `target: {domains: [b]}` is the source's table again, and the source takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kerastl.errors import Problems, RequestError
from kerastl.recipe.plugins import Reader
from kerastl.recipe.schema import Recipe
from kerastl.recipe.tree import quoted
from kerastl.recipe.values import WrongValueError
from kerastl.recipe.words import nearest

DomainsOf = Callable[[str, Any], Sequence[str]]


def with_shared_table(recipe: Recipe, domains_of: DomainsOf | None) -> Recipe:
    """Return a recipe in which source and target each name their own domains.

    Args:
        recipe: sound; where its target has domains, the source's reader has an option `domains`.
        domains_of: a reader's name and options to the domains of its pictures; asked only where the source
            does not name its own.

    Raises:
        WrongValueError: nothing is left for the source, or it cannot be known.
    """
    target, reader = recipe.target, recipe.data.reader
    if target is None or reader is None or not target.domains:
        return recipe
    rest = tuple(
        name for name in _domains(reader, target.domains, domains_of) if name not in target.domains
    )
    if not rest:
        raise WrongValueError("takes every domain of the table: nothing is left for the source.")
    # The same table has the same column of patients, who must not be torn apart at the target either.
    split = replace(target.split, group_by=target.split.group_by or recipe.data.split.group_by)
    theirs = replace(target, reader=_of(reader, target.domains), domains=(), split=split)
    return replace(recipe, data=replace(recipe.data, reader=_of(reader, rest)), target=theirs)


def _of(reader: Reader, domains: tuple[str, ...]) -> Reader:
    return replace(reader, options=replace(reader.options, domains=domains))


def _domains(reader: Reader, wanted: Sequence[str], domains_of: DomainsOf | None) -> Sequence[str]:
    if reader.options.domains:
        return tuple(reader.options.domains)
    remedy = "Say which domains are the source's: data.reader.domains=[NAME]"
    if domains_of is None:
        raise WrongValueError(f"leaves open what the source is. {remedy}")
    try:
        known = domains_of(reader.name, reader.options)
    except RequestError as error:
        raise WrongValueError(
            f"what else the table holds cannot be seen: {_in_one_line(error)}. {remedy}"
        ) from None
    for name in wanted:
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {quoted(near)}?" if near else f"Known: {', '.join(known)}."
            raise WrongValueError(f"no row is of the domain {quoted(name)}. {hint}")
    return known


def _in_one_line(error: RequestError) -> str:
    """Return what is wrong, fit for a terminal; of many problems the first."""
    text = str(error.problems[0] if isinstance(error, Problems) else error)
    return "".join(letter for letter in text if letter.isprintable()).rstrip(".")
