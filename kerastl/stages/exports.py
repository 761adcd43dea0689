"""Write what others are to serve, in each format that the recipe names."""

from __future__ import annotations

from kerastl import export
from kerastl.evaluation import read_description
from kerastl.progress import say
from kerastl.recipe import Recipe
from kerastl.runs import Run


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
        say(f"Export: {lack}")
    for name in wanted.formats:
        export.export_once(run.path, name, asked=asked)
