"""Show what the methods that change pixels make of some pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerastl import adaptation, report
from kerastl import recipe as recipes
from kerastl.data import Record
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.phases import target_pool
from kerastl.stages.pictures import Pictures

ROWS = 4


def show_styles(
    recipe: Recipe, methods: Sequence[recipes.Method], pictures: Pictures, run: Run
) -> None:
    """Write `style_preview.png`: training pictures of both domains, and what each method makes of them.

    Args:
        recipe: how pictures are read.
        methods: the candidates; where none changes pixels, nothing is written.
        pictures: the splits; no test picture is opened.
        run: where the sheet goes.
    """
    changing = [one for one in methods if adaptation.method_named(one.name).changes_pixels]
    if not changing:
        return
    own, others = pictures.of("train"), target_pool(pictures)
    rows = min(ROWS, len(own), len(others), recipe.data.known_batch_size)
    batches = {
        "source": _batch(recipe, pictures, _spread(own, rows)),
        "target": _batch(recipe, pictures, _spread(others, rows)),
    }
    changed = dict(_changed(recipe, one, pictures, batches) for one in changing)
    source, target = batches["source"][0], batches["target"][0]
    report.write_style_sheet(run.path, source, target, changed)


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    """Return some records from all over a list: those of one class or patient stand together."""
    return [records[len(records) * place // count] for place in range(count)]


def _batch(recipe: Recipe, pictures: Pictures, records: Sequence[Record]) -> Any:
    return next(iter(pictures.source_of(recipe, records).indexed_batches(0)))


def _changed(
    recipe: Recipe, method: recipes.Method, pictures: Pictures, batches: Any
) -> tuple[str, Any]:
    """Return a method's name, with the domain whose pictures it changes unless that is the source, and what it makes of them."""
    options = adaptation.named_options(method.name, method.options)
    if hasattr(options, "share"):
        options = options.model_copy(update={"share": 1.0})
    step: Any = adaptation.build_step(
        method.name, options, num_classes=len(pictures.class_names), num_features=1,
        seed=recipe.seed,
    )  # fmt: skip
    name = method.name.replace("_", " ")
    head = name if step.changes == "source" else f"{name}, of the {step.changes}"
    return head, step.changed(batches, tf.constant(0.0)).numpy()
