"""From the text of a recipe to a validated Recipe, or to every problem at once. No TensorFlow, no images, no network."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from kerastl.errors import Problems
from kerastl.options import MISSING, Loc, join_path, located_errors, partial_model, section_of, split_path
from kerastl.recipe import loader, rules
from kerastl.recipe.schema import Augment, Few, Operation, Recipe
from kerastl.recipe.source_free import Models, fill_from_model, source_findings

PolicyOf = Callable[[str], Sequence[tuple[str, Any]]]
PLACEHOLDER = re.compile(r"Add: \w+: (DIR|[A-Z]+\.\w+)$")


def check(
    text: str,
    *,
    name: str,
    tables: rules.Tables | None = None,
    read_domains: rules.DomainsOf | None = None,
    read_columns: rules.ColumnsOf | None = None,
    policy_of: PolicyOf | None = None,
    models: Models | None = None,
    sets: Sequence[str] = (),
) -> Recipe:
    """Check a recipe and return it with every default filled in.

    Args:
        text: YAML.
        name: the recipe as the user calls it: a shipped name or a file.
        tables: look-ups in the tables of the backbones; `kerastl.models`. None: they are not checked.
        read_domains: a reader's name and options to the domains of its images; `registry.read_domains`. It is called, which
            reads the table, only if `target.domains` shares the source's table and the source does not name its own.
        read_columns: a reader's name and options to the columns of its table; `registry.read_columns`. It is called only if
            `evaluation.subgroups` names some; a table that cannot be read is reported by the run. None: not checked.
        policy_of: the name of a policy to `(name, options)` of its operations; `kerastl.augment.named_policy`. None:
            only the policy `none` is known.
        models: look-ups in trained models; `kerastl.adaptation.method`. None: they are not checked. A model is read
            only if the recipe has a `source`.
        sets: changes before the check, such as `data.batch_size=8`.

    Returns:
        The recipe. Paths are absolute, and values that depend on others (`batch_norm`, `few`, the domains of a shared table,
        the operations of a named policy) are filled in, so that the recipe repeats the run.

    Raises:
        Problems: every problem, in the order of the file.
    """
    changes = "".join(f" --set {shlex.quote(change)}" for change in sets)
    # Bytes that are not UTF-8 cannot be printed: they are shown by their numbers.
    changes = changes.encode(errors="backslashreplace").decode()
    footer = f"Nothing was run. Check again: kerastl check {shlex.quote(name)}{changes}"
    document = loader.read(text, subject=name, footer=footer)
    loader.apply_sets(document, sets)
    from_model = fill_from_model(document, models)
    recipe: Any = None
    try:
        recipe = Recipe.model_validate(document.data)
    except ValidationError as error:
        for loc, message in located_errors(error):
            _add(document, loc, message)
        recipe = partial_model(error)
    if recipe is not None:
        findings = [*rules.reader_findings(recipe)]
        if tables is not None and from_model.is_known:
            findings += _readable(rules.backbone_findings(recipe, tables))
        findings += _readable(source_findings(recipe, document, from_model, models))
        for path, message in findings:
            _add(document, split_path(path) or (), message)
    if not document.problems:
        recipe = _with_tables(recipe, document, read_domains, read_columns)
    if document.problems:
        raise Problems(name, document.sorted_problems(), footer)
    augment = _without_policy_name(recipe.augment, policy_of)
    recipe = recipe.model_copy(update={"augment": augment})
    return _with_defaults(_with_validators(recipe, models))


def _add(document: loader.Document, loc: Loc, message: str) -> None:
    placeholder = PLACEHOLDER.search(message)
    if placeholder and message.startswith(MISSING):
        message = f"{message}, or use --set {join_path('', loc)}={placeholder[1]}"
    document.add(section_of(loc, message), message)


def _readable(findings: Iterable[rules.Finding]) -> Iterator[rules.Finding]:
    """Yield findings up to the first value that could not be read."""
    try:
        yield from findings
    except AttributeError:
        return


def _with_tables(
    recipe: Recipe,
    document: loader.Document,
    read_domains: rules.DomainsOf | None,
    read_columns: rules.ColumnsOf | None,
) -> Recipe:
    """Return a valid recipe with what its tables define, and add a problem for what they lack."""
    try:
        recipe = rules.with_shared_table(recipe, read_domains)
    except ValueError as error:
        document.add(("target", "domains"), str(error))
        return recipe
    for message in rules.missing_columns(recipe, read_columns) if read_columns is not None else ():
        document.add(("evaluation", "subgroups"), message)
    return recipe


def _with_validators(recipe: Recipe, models: Models | None) -> Recipe:
    """Return a recipe in which the default validators are those that work with its images."""
    block = recipe.adaptation
    if block is None or recipe.source is None or models is None:
        return recipe
    if "select_by" in block.model_fields_set:
        return recipe
    able = tuple(item for item in block.select_by if models.works_without_source("validator", item.name))
    block = block.model_copy(update={"select_by": able})
    return recipe.model_copy(update={"adaptation": block})


def _without_policy_name(augment: Augment, policy_of: PolicyOf | None) -> Augment:
    """Return the same augmentation with the operations of its named policy before its own."""
    if augment.policy == "none":
        return augment
    if policy_of is None:
        raise TypeError(f"policy_of is needed for the policy {augment.policy}")
    named = [
        Operation.model_validate({"name": name, "options": options})
        for name, options in policy_of(augment.policy)
    ]
    return augment.model_copy(update={"policy": "none", "operations": (*named, *augment.operations)})


def _with_defaults(recipe: Recipe) -> Recipe:
    """Fill in values that depend on others.

    Random weights need a trainable BatchNorm; pretrained ones lose accuracy if it is trained unasked.
    """
    batch_norm = "trainable" if recipe.backbone.weights == "none" else "frozen"
    phases = tuple(
        phase if phase.batch_norm else phase.model_copy(update={"batch_norm": batch_norm})
        for phase in recipe.phases
    )
    target = recipe.target
    if target is not None and target.labels == "few" and target.few is None:
        target = target.model_copy(update={"few": Few()})
    return recipe.model_copy(update={"phases": phases, "target": target})
