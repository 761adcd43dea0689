"""Print the scores of a run with their intervals, and the next commands."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from kerastl import evaluation, export, report, runs
from kerastl import recipe as recipes
from kerastl.console import format_facts
from kerastl.errors import (
    Problem,
    Problems,
    RequestError,
    message_of,
    problems_of,
    raise_request,
    shell_quote,
    suggest,
)
from kerastl.tasks import SINGLE_LABEL
from kerastl.workflows.check_recipe import check_data, check_outside, check_recipe

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)
"""A decorated function or command, as in click."""


MAX_CLASSES = 5
MAX_VALUES = 6


def print_template(template: str, **content: Any) -> None:
    """Print a template of `kerastl.report` with its content."""
    text = report.render(
        template,
        filters={"decimal": format_value, "metric": report.format_metric, "printable": report.printable, "repr": repr},
        headline=_headline, sort_values=evaluation.sort_values,
        doubt_about_estimates=report.doubt_about_estimates, missing_prevalence=report.missing_prevalence, max_classes=MAX_CLASSES, max_values=MAX_VALUES, **content,
    )  # fmt: skip
    if lines := text.rstrip("\n"):
        click.echo(lines)


def _headline(values: dict[str, runs.Metrics]) -> str:
    """Return the first headline metric that most subgroups have."""

    def num_values(metric: str) -> int:
        return sum(metric in metrics and metrics[metric].value is not None for metrics in values.values())

    return max(SINGLE_LABEL.headlines, key=num_values)


METRICS = ("accuracy", "balanced_accuracy", "auc", "group_auc")


def shell_path(path: Path) -> str:
    """Return a path relative to the working directory if it is below it, quoted for a shell."""
    relative = os.path.relpath(path)
    # A file name that starts with - would be read as an option.
    relative = f"./{relative}" if relative.startswith("-") else relative
    return shell_quote(path if relative.startswith("..") else relative)


def print_scores(run: runs.Run, *, as_json: bool) -> None:
    """Print the scores of every split of a run, and the next commands."""
    scores = runs.Scores.read(run.path)
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "scores": scores.to_json()}, indent=1))
        return
    adaptation = runs.Adaptation.read_if_present(run.path)
    summary = runs.Summary.read_if_present(run.path) or runs.Summary()
    facts = [
        *report.summary_facts(summary, "result", adaptation=adaptation), ("Run", shell_path(run.path)),
        ("Report", shell_path(run.file("report.html"))),
    ]  # fmt: skip
    print_template(
        "scores.txt.jinja", scores=scores, adaptation=adaptation, metrics=METRICS,
        facts=format_facts(facts, stream=sys.stdout),
        min_groups=evaluation.MIN_GROUPS, folder=shell_path(run.path),
        exports=[shell_path(folder) for folder in _verifiable(run)],
    )  # fmt: skip


def _verifiable(run: runs.Run) -> list[Path]:
    """Return the exports that `verify` can check; none if the test images are not files."""
    exports = run.file("export")
    if not exports.is_dir():
        return []
    images = export.select_test_images(run.path, limit=1)
    return sorted(exports.iterdir()) if images else []


def print_conversion(folder: Path) -> None:
    """Print the input, the size and the quantization of a converted export; nothing for other formats."""
    manifest = export.read_manifest(folder)
    if manifest.conversion is not None:
        titles = SINGLE_LABEL.metric_titles
        print_template("conversion.txt.jinja", manifest=manifest, metric_titles=titles)


def format_value(value: float | None) -> str:
    """Return `0.912`, or a dash if there is no value."""
    return "-" if value is None else f"{value:.3f}"


def out_option(description: str) -> Callable[[FC], FC]:
    """Return the option `--out` of a command."""
    return click.option("--out", type=NonEmptyPath(), help=description)


def option(*names: str, **settings: Any) -> Callable[[FC], FC]:
    """Return an option of a command whose default value is shown in the help."""
    return click.option(*names, show_default=True, **settings)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class RecipeName(click.ParamType[str]):
    """The name of a shipped recipe, or the path of a recipe file, with shell completion."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the recipes whose names start with the incomplete word."""
        files = sorted(str(file) for file in Path(os.path.dirname(incomplete)).glob("*.yaml"))  # noqa: PTH120 - keeps ./
        known = [*recipes.names(), *files]
        items = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


def recipe_options(command: FC) -> FC:
    """Add the options `--data`, `--target` and `--set` to a command."""
    kinds = "a folder, or a CSV or Parquet table; sets the reader"
    for_target = click.option("--target", type=NonEmptyPath(), help=f"Images of the target: {kinds}.")
    for_data = click.option("--data", type=NonEmptyPath(), help=f"Images: {kinds}.")
    help_of_sets = "Change a value of the recipe; can be repeated."
    for_sets = click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help=help_of_sets)
    return for_data(for_target(for_sets(command)))


def load_recipe(
    recipe: str, sets: Sequence[str], data: Path | None = None, target: Path | None = None, *,
    problems: Iterable[Problem] = (), problems_of_recipe: Callable[[recipes.Recipe], Iterable[Problem]] = lambda _: (), outside: Path | None = None,
) -> tuple[recipes.RecipeText, recipes.Recipe]:  # fmt: skip
    """Return the text of a recipe and the checked recipe. Its data are checked, but no image is decoded.

    Args:
        recipe, sets, data, target: The argument and the options of the command.
        problems: Problems of the other options of the command.
        problems_of_recipe: Returns the reasons why the command cannot use a valid recipe.
        outside: An output folder that must be outside the folders of the data.

    Raises:
        Problems: All problems of the command, its recipe and its data.
    """
    all_problems = list(problems)
    try:
        recipe_text = recipes.find(recipe)
        checked = check_recipe(recipe_text, sets, data=data, target=target)
        all_problems += [*problems_of_recipe(checked), *problems_of("", check_outside, checked, outside)]
        check_data(checked)
    except RequestError as error:
        if not all_problems:
            raise
        if isinstance(error, Problems) and error.subject == recipe:
            raise Problems(recipe, [*all_problems, *error.problems], error.footer) from error
        all_problems.append(Problem("", message_of(error)))
    raise_request(all_problems)
    return recipe_text, checked


class NumberRange(click.FloatRange):
    """A number in a range. Unlike `click.FloatRange`, it rejects NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or raise `BadParameter` if it is NaN or outside the range."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("NaN is not a number.", param, ctx)
        return number


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset shell variable would otherwise select the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or raise `BadParameter` if it is empty."""
        if value == "":
            self.fail("the path is empty. Use '.' for the current folder.", param, ctx)
        return super().convert(value, param, ctx)


class Choice(click.Choice[str]):
    """A choice of names. Its error suggests a name for misspellings and for terms of other tools."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the message for an invalid choice."""
        message = super().get_invalid_choice_message(value, ctx)
        return f"{message} {suggest(str(value), [str(choice) for choice in self.choices])}".strip()


class RunPath(NonEmptyPath):
    """A run folder, with shell completion of the runs in `runs/`."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the runs whose paths start with the incomplete word, or complete any path."""
        folders = sorted(str(file.parent) for file in Path("runs").glob(f"*/{runs.RESOLVED_RECIPE}"))
        items = [CompletionItem(folder) for folder in folders if folder.startswith(incomplete)]
        return items or super().shell_complete(ctx, param, incomplete)
