"""Runs in Python: run a recipe, and read a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import keras

from kerastl import recipe as recipes
from kerastl.console import print_facts, quiet
from kerastl.data.readers import as_path
from kerastl.errors import RequestError, suggest_arguments
from kerastl.evaluation import Predictions, load_trained, missing_message, read_description, read_predictions
from kerastl.options import checked
from kerastl.report import summary_facts
from kerastl.runs import Adaptation, Freeze, Scores, Summary
from kerastl.workflows.check_recipe import check_recipe
from kerastl.workflows.run import run as run_recipe


class FinishedRun:
    """A finished run. Its files are read on first access.

    Args:
        path: The run folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<FinishedRun: {self.path}>"

    @cached_property
    def scores(self) -> Scores:
        """The contents of `scores.json`."""
        return Scores.read(self.path)

    @cached_property
    def summary(self) -> Summary:
        """The contents of `summary.json`."""
        return Summary.read(self.path)

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """The contents of `adaptation.json`; None for a run without a target."""
        return Adaptation.read_if_present(self.path)

    @cached_property
    def freeze(self) -> Freeze:
        """The contents of `freeze.json`: the freeze checks and the consistency checks."""
        return Freeze.read(self.path)

    @cached_property
    def predictions(self) -> Predictions:
        """The predictions for validation and test images."""
        return read_predictions(self.path / "predictions.csv")

    @cached_property
    def model(self) -> keras.Model:
        """The trained `keras.Model`, which returns logits.

        `kerastl.evaluate` and `kerastl.export_model` scale them with its attribute `temperature`, as the run does.
        """
        trained = load_trained(self.path)
        trained.model.temperature = trained.temperature
        return trained.model


def load_run(path: str | Path) -> FinishedRun:
    """Read a finished run.

    Args:
        path: The run folder.

    Raises:
        RequestError: The folder does not contain a run, or one whose consistency checks were not made. The message
            contains the command that finishes it.

    Example:
        >>> kerastl.load_run("runs/mine").scores.test.overall["auc"].value
        0.93
    """
    folder = as_path(path)
    read_description(folder)  # the last file of an evaluation
    # Failed consistency checks are results, too.
    if not (folder / Summary.FILE).is_file() or Freeze.read(folder).determinism is None:
        raise RequestError(missing_message(folder, "consistency checks"))
    return FinishedRun(path)


@suggest_arguments
@checked
def run(
    recipe: str | Path,
    *,
    data: str | Path | None = None,
    target: str | Path | None = None,
    sets: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    oracle: bool = False,
    verbose: bool = True,
) -> FinishedRun:
    """Run a recipe, with the same checks and the same run folder as `kerastl run`.

    Args:
        recipe: Name of a shipped recipe, or the path of a recipe file.
        data: The images: a folder with one subfolder per class, or a CSV or Parquet table.
        target: The images of the target domain, in the same form.
        sets: Changes to the recipe, as with `--set`, for example `["data.batch_size=16"]`.
        out: The run folder, new or empty. The default is `runs/<recipe>-<n>`.
        resume: Whether to continue an interrupted run in `out`, or to start one that was killed before it started.
        oracle: Whether to also evaluate every candidate of an adaptation on the labeled test images of the
            target.
        verbose: Whether to print progress and results to stderr.

    Raises:
        RequestError: The recipe or the data cannot be used. All problems are listed, and nothing was trained.
        RunFailed: Training or a consistency check failed.

    Example:
        >>> run = kerastl.run("folder-classifier", data="photos")
        >>> run.scores.test.overall["accuracy"].value
        0.91
    """
    recipe_text = recipes.find(str(recipe))
    data, target, out = (None if path is None else Path(path) for path in (data, target, out))
    checked = check_recipe(recipe_text, sets, data=data, target=target)
    with quiet(not verbose):
        folder = run_recipe(checked, name=recipe_text.name, out=out, resume=resume, oracle=oracle)
        finished = FinishedRun(folder.path)
        print_facts(summary_facts(finished.summary, "result", adaptation=finished.adaptation))
    return finished
