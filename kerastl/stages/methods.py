"""Which ways to adapt are candidates, and whether each has something to learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kerastl import adaptation
from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import say
from kerastl.errors import Problem, Problems, RequestError
from kerastl.recipe import Phase, Recipe
from kerastl.stages.phases import phases_of_methods, target_pool
from kerastl.stages.pictures import Pictures


def candidates(recipe: Recipe) -> list[recipes.Method]:
    """Return the methods that there is something to learn from: source only first, then as the recipe names them."""
    if recipe.adapts_by is None:
        return []
    asked = {one.name: one for one in recipe.adapts_by.methods}
    first = asked.pop(SOURCE_ONLY, recipes.Method(name=SOURCE_ONLY))
    return [first, *(one for one in asked.values() if not _lacks_labels(recipe, one))]


def step_of(recipe: Recipe, method: recipes.Method, model: keras.Model) -> Any:
    """Return what `fit` takes as `step_for`, for one method."""
    return adaptation.step_for(
        method.name, model, method.options, seed=recipe.seed,
        without_source=recipe.source is not None,
    )  # fmt: skip


def check_methods(recipe: Recipe, pictures: Pictures, model: keras.Model) -> None:
    """See that every method has something to learn in the phases at the target.

    Args:
        recipe: names them.
        pictures: the splits.
        model: that will be adapted.

    Raises:
        Problems: all that is wrong. Nothing was trained.
    """
    if recipe.adapts_by is None:
        return
    problems = list(_faults(recipe, pictures, model))
    if problems:
        raise Problems("The adaptation", problems, "Nothing was trained.")
    for method in recipe.adapts_by.methods:
        if _lacks_labels(recipe, method):
            say(
                f"{method.name} learns from labels of the target, and there are none (target.labels: none): left out"
            )


def _faults(recipe: Recipe, pictures: Pictures, model: keras.Model) -> Iterator[Problem]:
    if not target_pool(pictures):
        yield Problem(
            "target",
            "no picture is left to adapt to: all are in its validation or test. Lower target.split.test_fraction.",
        )
    seen = {record.label for record in pictures.of("val")}
    absent = [name for name in pictures.class_names if name not in seen]
    if absent and recipe.source is None:
        yield Problem(
            "data.split",
            f"class '{absent[0]}' has no validation picture at the source, and the choice needs some of each class. "
            "Raise val_fraction.",
        )
    methods = candidates(recipe)
    if len(methods) == 1:
        yield Problem(
            "adaptation.methods",
            f"there is nothing to choose from: source_only alone is left. Add {'shot' if recipe.source else 'coral'} or adabn"
            + (", or write target.labels: few." if _without_labels(recipe) else "."),
        )
    for phase in phases_of_methods(recipe):
        steered = phase.keep == "best" or phase.early_stopping is not None
        if steered and not pictures.of("target_val"):
            yield Problem(
                f"phase {phase.name}",
                "the target has no labelled validation pictures, so the source's would name the best epoch. "
                "Write keep: last, and no early_stopping.",
            )
    for method in methods[1:]:
        for phase in phases_of(recipe, method, model):
            try:
                adaptation.check_phase(
                    method.name, adaptation.method_named(method.name), model, phase
                )
            except RequestError as error:
                yield Problem("adaptation.methods", str(error))


def phases_of(recipe: Recipe, method: recipes.Method, model: keras.Model) -> list[Phase]:
    """Return the phases of one candidate, as training knows them.

    A method that may move nothing but BatchNorm gets phases in which nothing else learns, whatever the recipe says of them.
    One that can do without the source by moving no weight has done its work after one epoch.
    """
    phases = phases_of_methods(recipe)
    if recipe.source is not None and adaptation.method_named(method.name).source_optional:
        rule = "statistics" if phases[-1].batch_norm == "trainable" else phases[-1].batch_norm
        return [
            phases[-1].model_copy(
                update={"epochs": 1, "trainable": "none", "batch_norm": rule, "cache": "none"}
            )
        ]
    if not adaptation.method_named(method.name).only_batch_norm:
        return phases
    alone = adaptation.batch_norm_alone(model)
    only_norms = {"trainable": alone, "batch_norm": "trainable", "cache": "none"}
    return [phase.model_copy(update=only_norms) for phase in phases]


def _without_labels(recipe: Recipe) -> bool:
    return recipe.target is None or recipe.target.labels == "none"


def _lacks_labels(recipe: Recipe, method: recipes.Method) -> bool:
    return _without_labels(recipe) and adaptation.method_named(method.name).target_labels == "some"
