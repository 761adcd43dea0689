"""From a recipe to a judged and exported model: the whole toolkit in one screen."""

from __future__ import annotations

from pathlib import Path

from kerastl import report
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.workflows.adapt_step import adapt
from kerastl.workflows.datasets import gather_images, note_target
from kerastl.workflows.evaluate_run import judge
from kerastl.workflows.exports import check_exports, prove, write_exports
from kerastl.workflows.model import find_weights, start_model
from kerastl.workflows.resolve import decide_phases
from kerastl.workflows.run_writer import make_repeatable, open_run, write_beginning, write_end, write_model
from kerastl.workflows.train_phases import learn


def run(
    recipe: Recipe, *, name: str, out: Path | None = None, resume: bool = False, oracle: bool = False
) -> Run:
    """Run a recipe whole.

    Args:
        recipe: checked.
        name: of the recipe; the run folder is `runs/<name>-<n>` where `out` is None.
        out: the run folder, new or empty.
        resume: go on with a run that was stopped.
        oracle: tell how every way to adapt does on the target's test images, too, after the choice.

    Returns:
        The run folder, with every file in it.

    Raises:
        RequestError: the data, the weights or the folder will not do; nothing was trained.
        RunFailed: training broke down or a proof did not hold; finished epochs are kept.
    """
    make_repeatable(recipe.seed)
    find_weights(recipe)
    check_exports(recipe)
    with open_run(name, out, resume=resume) as folder:
        images = note_target(recipe, gather_images(recipe, folder), oracle=oracle)
        start = start_model(recipe, images)
        recipe = decide_phases(recipe, start, images, folder, resume=resume)
        write_beginning(recipe, start, images, folder, resume=resume)
        learn(recipe, start, images, folder, resume=resume)
        adapt(recipe, start, images, folder, resume=resume)
        write_model(recipe, start.model, images, folder)
        judge(recipe, start.model, images, folder, oracle=oracle)
        write_exports(recipe, folder)
        prove(recipe, start.model, images, folder)
        report.write_report(folder.path)
        write_end(folder)
    return folder
