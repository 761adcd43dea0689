"""Write what others are to serve, in each format that the recipe names."""

from __future__ import annotations

from kerastl import export
from kerastl.console import say
from kerastl.evaluation import read_description
from kerastl.recipe import Recipe
from kerastl.runs import Run


def check_exports(recipe: Recipe) -> None:
    """Check that what a recipe exports can be written on this machine.

    Raises:
        RequestError: a format's packages are missing; the text names the extra.
    """
    export.check_formats(recipe.export.formats)


def write_exports(recipe: Recipe, run: Run) -> None:
    """Export the model of a run that was judged; an export of this very model that is whole already is left alone.

    Args:
        recipe: names the formats and how they answer; what the run cannot give of it is said and left out.
        run: holds model and scores.
    """
    wanted = recipe.export
    asked = export.Asked(wanted.temperature, wanted.prevalence, wanted.threshold)
    if not wanted.formats:
        return
    _, lacks = export.answering_of(run.path, read_description(run.path).class_names, asked)
    for lack in lacks:
        say(f"Export without: {lack}")
    for name in wanted.formats:
        offered = wanted.quantize in export.choices_of(name)
        quantize = wanted.quantize if offered else None
        export.export_once(run.path, name, asked=asked, quantize=quantize)
