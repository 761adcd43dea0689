"""Regenerate the golden files of this folder: `python tests/golden/regenerate.py [PART]...`.

Parts: help, keys, requests, runs, or the name of a recipe for its run only. Default: all parts. Commit an intended change separately, with the reason.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")
sys.path.insert(0, str(Path(__file__).parents[2]))

import golden_files
import recipe_keys
import tiny_runs
import wrong_requests
from command_line import help_texts


def write_help(folder: Path) -> None:
    """Write the text of every `--help`."""
    golden_files.write_sections(golden_files.HELP, help_texts(folder))


def write_keys(_: Path) -> None:
    """Write the keys of recipes and the options of plug-ins."""
    golden_files.write_lines(golden_files.RECIPE_KEYS, recipe_keys.recipe_keys())


def write_requests(folder: Path) -> None:
    """Write exit code and text of the wrong requests."""
    wrong_requests.write_files(folder)
    golden_files.write_sections(golden_files.REQUESTS, wrong_requests.answers(folder))


def write_runs(folder: Path, recipes: Iterable[str] = tuple(tiny_runs.SETTINGS)) -> None:
    """Run tiny recipes, and write what they decided, what they predicted, and their JSON keys."""
    for recipe in recipes:
        run = tiny_runs.run_recipe(recipe, folder)
        golden_files.write_json(golden_files.run_file(recipe), tiny_runs.results_of(run))
        golden_files.write_json_keys(recipe, tiny_runs.json_keys(run))


PARTS: dict[str, Callable[[Path], None]] = {
    "help": write_help,
    "keys": write_keys,
    "requests": write_requests,
    "runs": write_runs,
    **{recipe: partial(write_runs, recipes=[recipe]) for recipe in tiny_runs.SETTINGS},
}

if __name__ == "__main__":
    for part in sys.argv[1:] or ("help", "keys", "requests", "runs"):
        with tempfile.TemporaryDirectory() as name:
            os.environ["KERASTL_CACHE"] = f"{name}/cache"
            work = Path(name) / "work"
            work.mkdir()
            PARTS[part](work)
