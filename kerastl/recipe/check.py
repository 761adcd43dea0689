"""A recipe's text in, a frozen Recipe or every problem at once out. No TensorFlow, no data, no network."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kerastl.errors import Problems
from kerastl.recipe.overrides import apply
from kerastl.recipe.phases import BatchNorm
from kerastl.recipe.plugins import Operation
from kerastl.recipe.read import read
from kerastl.recipe.rules import RULES
from kerastl.recipe.schema import DEFAULT_JUDGES, Augment, Few, Recipe
from kerastl.recipe.sharing import DomainsOf, with_shared_table
from kerastl.recipe.subgroups import ColumnsOf, absent_columns
from kerastl.recipe.tables import Tables, backbone_findings, reader_findings
from kerastl.recipe.tree import Node
from kerastl.recipe.unfreezing import unfrozen_by_epoch
from kerastl.recipe.values import WrongValueError
from kerastl.recipe.walk import Broken, NamesOf, OptionsOf, Walker
from kerastl.recipe.without_source import Models, put_in, source_findings

PolicyOf = Callable[[str], Sequence[tuple[str, Any]]]


def check(
    text: str,
    *,
    name: str,
    options_of: OptionsOf,
    names_of: NamesOf,
    tables: Tables | None = None,
    domains_of: DomainsOf | None = None,
    columns_of: ColumnsOf | None = None,
    policy_of: PolicyOf | None = None,
    models: Models | None = None,
    sets: Sequence[str] = (),
) -> Recipe:
    """Check a recipe and return it with every default filled in.

    Args:
        text: YAML.
        name: what the person calls the recipe: a shipped name or a file, as typed.
        options_of: `(kind, name)` to the dataclass of a plug-in's options; `registry.options_of`.
        names_of: `kind` to the names of its plug-ins; `registry.names`.
        tables: look-ups in the tables of the backbones; `kerastl.backbones`. None: they are not asked.
        domains_of: the domains of a reader's pictures; `registry.domains_of`. It is asked, and so the table read,
            only where `target.domains` shares the source's table and the source does not name its own domains.
        columns_of: the columns of a reader's table; `registry.columns_of`. It is asked only where `evaluation.subgroups`
            names some; a table that cannot be read is left to the run. None: whether they are there is left to it, too.
        policy_of: a policy's name to (name, options) of its operations; `kerastl.augment.named_policy`. None:
            only the policy `none` is known.
        models: look-ups in trained models; `kerastl.adaptation.source_free`. None: they are not asked. A model is read only
            where the recipe has a `source`.
        sets: changes before the check, as `data.batch_size=8`.

    Returns:
        The recipe; relative paths are made absolute from the working directory, and what one field decides for
        another (`batch_norm`, `few`, the domains of a shared table) is written out, a phase that unfreezes by epoch is
        written as its phases, and a named policy as its operations, so that the recipe repeats the run even where the policy is another one by then.

    Raises:
        Problems: every problem, in the order of the file.
    """
    changes = "".join(f" --set {shlex.quote(change)}" for change in sets)
    # What no terminal could print, as a byte that is not UTF-8, is told by its number.
    changes = changes.encode(errors="backslashreplace").decode()
    footer = f"Nothing was run. Check again: kerastl check {shlex.quote(name)}{changes}"
    tree, found = read(text, subject=name, footer=footer)
    apply(tree, sets, found)
    handed = put_in(tree, models, names_of("backbone"))
    walker = Walker(found, options_of=options_of, names_of=names_of, rules=RULES)
    recipe = walker.value(Recipe, tree, "")
    for path, message in (
        *_refused_by_plug_ins(walker, tables if handed.known else None),
        *source_findings(tree, walker, handed, models),
    ):
        walker.note(path, message, tree)
    if not found.problems and isinstance(recipe, Recipe):
        recipe = _by_tables(recipe, walker, tree, domains_of, columns_of)
    if found.problems or isinstance(recipe, Broken):
        raise Problems(name, found.problems, footer)
    assert isinstance(recipe, Recipe)
    recipe = replace(recipe, augment=_without_a_name(recipe.augment, policy_of))
    recipe = _with_validators(recipe, options_of, models)
    return _filled(recipe if tables is None else unfrozen_by_epoch(recipe, tables))


def _by_tables(
    recipe: Recipe,
    walker: Walker,
    tree: Node,
    domains_of: DomainsOf | None,
    columns_of: ColumnsOf | None,
) -> Recipe:
    """Return a recipe without a fault with what its tables decide; note what they lack."""
    try:
        recipe = with_shared_table(recipe, domains_of)
    except WrongValueError as error:
        walker.note("target.domains", str(error), tree)
        return recipe
    for message in absent_columns(recipe, columns_of) if columns_of is not None else ():
        walker.note("evaluation.subgroups", message, tree)
    return recipe


def _refused_by_plug_ins(walker: Walker, tables: Tables | None) -> list[tuple[str, str]]:
    findings = list(reader_findings(walker.values, walker.options_of, walker.names_of))
    if tables is not None:
        findings += backbone_findings(walker.values, walker.options_of, tables)
    return findings


def _with_validators(recipe: Recipe, options_of: OptionsOf, models: Models | None) -> Recipe:
    """Return the same with validators that nobody named written out: those that can be asked, and their options."""
    if recipe.adaptation is None:
        return recipe
    judges = recipe.adaptation.select_by
    if judges is DEFAULT_JUDGES and recipe.source is not None and models is not None:
        judges = tuple(one for one in judges if models.works_without_source("validator", one.name))
    filled = tuple(
        replace(one, options=options()) if one.options is None and options else one
        for one in judges
        for options in [options_of("validator", one.name)]
    )
    return replace(recipe, adaptation=replace(recipe.adaptation, select_by=filled))


def _without_a_name(augment: Augment, policy_of: PolicyOf | None) -> Augment:
    """Return the same with the operations of its named policy written out, before its own."""
    if augment.policy == "none":
        return augment
    if policy_of is None:
        raise TypeError(f"nobody says what the policy {augment.policy} is: hand in policy_of")
    named = tuple(Operation(name, options) for name, options in policy_of(augment.policy))
    return replace(augment, policy="none", operations=(*named, *augment.operations))


def _filled(recipe: Recipe) -> Recipe:
    """Write out what depends on another field.

    Random weights need a BatchNorm that learns; borrowed ones lose what they know when it moves unasked.
    """
    rule: BatchNorm = "trainable" if recipe.backbone.weights == "none" else "frozen"
    phases = tuple(
        phase if phase.batch_norm else replace(phase, batch_norm=rule) for phase in recipe.phases
    )
    target = recipe.target
    if target is not None and target.labels == "few" and target.few is None:
        target = replace(target, few=Few())
    return replace(recipe, phases=phases, target=target)
