"""From a recipe to an evaluated and exported model: one run, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kerastl import recipe as recipes
from kerastl import report
from kerastl.console import print_facts, status
from kerastl.errors import recipe_syntax
from kerastl.evaluation.trained_model import MODEL
from kerastl.recipe import Recipe
from kerastl.runs import Run, Summary
from kerastl.workflows.adapt import select, train_candidates
from kerastl.workflows.check_recipe import check_requirements
from kerastl.workflows.datasets import load_datasets, warn_about_target
from kerastl.workflows.evaluate import evaluate
from kerastl.workflows.exports import check_consistency, decode_sample, write_exports
from kerastl.workflows.model import build_initial_model
from kerastl.workflows.resolve import resolve
from kerastl.workflows.run_writer import open_run, set_determinism, write_network, write_start
from kerastl.workflows.train import train


@recipe_syntax()
def run(
    recipe: Recipe, *, name: str, out: Path | None = None, resume: bool = False, oracle: bool = False
) -> Run:
    """Run a recipe: load the data, train, adapt, evaluate, export and report.

    Args:
        recipe: A checked recipe.
        name: Name of the recipe. If `out` is None, the run folder is `runs/<name>-<n>`.
        out: The run folder. It must be new or empty unless `resume` is true.
        resume: Whether to continue an interrupted run in `out`, or to start one that was killed before it started.
        oracle: Whether to also evaluate every candidate of an adaptation on the labeled test images of the
            target, after the selection.

    Returns:
        The run folder with all its files.

    Raises:
        RequestError: The data, the weights or the folder cannot be used. Nothing was trained.
        RunFailed: Training failed or a consistency check failed. Finished epochs are kept.
    """
    check_requirements(recipe, name=name, out=out, resume=resume)
    set_determinism(recipe.seed)
    with open_run(name, out, recipes.write(recipe), resume=resume) as folder:
        resume = folder.started
        datasets = load_datasets(recipe, folder)
        datasets.print()
        datasets = warn_about_target(recipe, datasets, oracle=oracle)
        with status("Building the model"):
            initial = build_initial_model(recipe, datasets)
            plan = resolve(recipe, initial, datasets, folder, resume=resume)
            datasets = replace(datasets, batch_size=plan.recipe.data.known_batch_size)
            sample = decode_sample(datasets)
        write_start(plan.recipe, initial, datasets, folder, resume=resume)
        start = Summary(data=datasets.summary, model=initial.summarize(plan.recipe.backbone))
        print_facts(
            [*report.summary_facts(start, "model", planned=plan.count_trained(initial.model)), *plan.facts]
        )
        trained = train(initial, plan, datasets, folder, resume=resume)
        candidates = train_candidates(initial, trained, plan, datasets, sample, folder, resume=resume)
        adaptation = select(candidates, plan, trained.model)
        write_network(trained.model, folder.file(MODEL))
        with status("Evaluating the model"):
            evaluate(trained, candidates.trained, adaptation, plan, datasets, start, folder, oracle=oracle)
        exports = write_exports(plan.recipe.export, datasets.class_names, folder)
        check_consistency(
            trained.model, sample, trained.history.freeze_reports, exports, folder,
            candidate_faults=candidates.faults,
        )  # fmt: skip
        with status("Writing the report"):
            report.write_report(folder.path)
        folder.finish()
    return folder
