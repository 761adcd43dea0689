"""From a recipe to an evaluated and exported model: one run, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kerastl import report
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.workflows.adapt import adapt
from kerastl.workflows.datasets import load_datasets, warn_about_target
from kerastl.workflows.evaluate import evaluate
from kerastl.workflows.exports import check_consistency, check_exports, write_exports
from kerastl.workflows.model import build_initial_model, check_weights
from kerastl.workflows.resolve import resolve
from kerastl.workflows.run_writer import finish_run, open_run, set_determinism, write_model, write_start
from kerastl.workflows.train import train


def run(
    recipe: Recipe, *, name: str, out: Path | None = None, resume: bool = False, oracle: bool = False
) -> Run:
    """Run a recipe: load the data, train, adapt, evaluate, export and report.

    Args:
        recipe: A checked recipe.
        name: Name of the recipe. Without `out`, the run folder is `runs/<name>-<n>`.
        out: The run folder. It must be new or empty unless `resume` is true.
        resume: Continue an interrupted run in `out`.
        oracle: Also evaluate every candidate of an adaptation on the labeled test images of the target, after the
            selection.

    Returns:
        The run folder with all its files.

    Raises:
        RequestError: The data, the weights or the folder cannot be used. Nothing was trained.
        RunFailed: Training failed or a consistency check failed. Finished epochs are kept.
    """
    set_determinism(recipe.seed)
    check_weights(recipe)
    check_exports(recipe)
    with open_run(name, out, resume=resume) as folder:
        datasets = warn_about_target(recipe, load_datasets(recipe, folder), oracle=oracle)
        initial = build_initial_model(recipe, datasets)
        recipe = resolve(recipe, initial, datasets, folder, resume=resume)
        datasets = replace(datasets, batch_size=recipe.data.known_batch_size)
        write_start(recipe, initial, datasets, folder, resume=resume)
        train(recipe, initial, datasets, folder, resume=resume)
        adaptation = adapt(recipe, initial, datasets, folder, resume=resume)
        write_model(recipe, initial.model, datasets, folder)
        evaluate(recipe, initial.model, datasets, folder, adaptation, oracle=oracle)
        write_exports(recipe, folder)
        check_consistency(recipe, initial.model, datasets, folder)
        report.write_report(folder.path)
        finish_run(folder)
    return folder
