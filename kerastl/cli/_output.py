"""Print the scores of a run with their intervals, and the next commands."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kerastl import evaluation, export, report, runs
from kerastl import recipe as recipes
from kerastl.tasks import SINGLE_LABEL
from kerastl.workflows.check_recipe import check_recipe

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)
"""A decorated function or command, as in click."""
MAX_NAME_LENGTH = 60


def format_metric(metric: runs.Estimate | None) -> str:
    """Return `0.912 (0.871 to 0.948)`, or a dash if there is no value."""
    if metric is None or metric.value is None:
        return "-"
    if metric.low is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def printable(name: str) -> str:
    """Return a name from the data without control characters, shortened to one line."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"


MAX_CLASSES = 5
MAX_VALUES = 6


def print_template(template: str, **content: Any) -> None:
    """Print a template of `kerastl.report` with its content."""
    text = report.render(
        template,
        filters={"decimal": format_value, "metric": format_metric, "printable": printable, "repr": repr},
        headline=_headline, sort_values=evaluation.sort_values,
        doubt_about_estimates=report.doubt_about_estimates, max_classes=MAX_CLASSES, max_values=MAX_VALUES, **content,
    )  # fmt: skip
    click.echo(text, nl=False)


def _headline(values: dict[str, runs.Metrics]) -> str:
    """Return the first headline metric that most subgroups have."""

    def num_values(metric: str) -> int:
        return sum(metric in metrics and metrics[metric].value is not None for metrics in values.values())

    return max(SINGLE_LABEL.headlines, key=num_values)


SPLITS = ("val", "test", "target_val", "target_test")
METRICS = ("accuracy", "balanced_accuracy", "auc", "group_auc")


def shell_path(path: Path) -> str:
    """Return a path relative to the working directory if it is below it, quoted for a shell."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def print_scores(run: runs.Run, *, as_json: bool) -> None:
    """Print the scores of every split of a run, and the next commands."""
    scores = runs.Scores.read(run.path)
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "scores": scores.to_json()}, indent=1))
        return
    print_template(
        "scores.txt.jinja", scores=scores, adaptation=runs.Adaptation.read_if_present(run.path), metrics=METRICS,
        splits={name: split for name, split in scores.splits.items() if name in SPLITS},
        min_groups=evaluation.MIN_GROUPS, folder=shell_path(run.path), report=shell_path(run.file("report.html")),
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


sets_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a value of the recipe; can be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load_recipe(recipe: str, sets: Sequence[str]) -> tuple[recipes.RecipeText, recipes.Recipe]:
    """Return the text of a recipe and its checked form. If it has no problems, import TensorFlow."""
    recipe_text = recipes.find(recipe)
    checked = check_recipe(recipe_text, sets)
    load_tensorflow()
    return recipe_text, checked


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset shell variable would otherwise select the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or raise `BadParameter` if it is empty."""
        if value == "":
            self.fail("the path is empty. Use '.' for the current folder.", param, ctx)
        return super().convert(value, param, ctx)


def load_tensorflow() -> None:
    """Import TensorFlow without its startup messages, which are shown only if the import fails.

    TensorFlow writes to file descriptor 2 before any setting can silence it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            import keras  # noqa: F401 - imported for its side effects on the terminal
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
