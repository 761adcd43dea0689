"""What a curve began with, which lies in its folder, and how one that was stopped goes on. No TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl import recipe as recipes
from kerastl.curve.plan import Plan
from kerastl.errors import Problem, RequestError
from kerastl.runs import Run, is_free, unfinished_run
from kerastl.stages.differences import differences

if TYPE_CHECKING:
    from kerastl.curve.checks import Seen

RECIPE, REQUEST = "recipe.yaml", "request.json"
"""Written when a curve begins, `RECIPE` last: a folder that holds it can be resumed."""
MAX_KEYS_SHOWN = 10


def to_resume(name: str, out: Path | None) -> Run:
    """Return the folder of the curve to go on with: `out`, or the only unfinished one of a recipe.

    Raises:
        RequestError: there is none, or more than one, or it is finished.
    """
    run = unfinished_run(f"{name}-curve", out, begun=RECIPE)
    if run.finished:
        raise RequestError(f"{run.path} is finished: there is nothing to resume.")
    return run


def request_of(plan: Plan, seen: Seen) -> dict[str, Any]:
    """Return what a curve is asked for, beside its recipe."""
    return {
        "labels": list(plan.labels),
        "seeds": list(plan.seeds),
        "scratch_epochs": plan.scratch_epochs,
        "data_sha256": seen.fingerprints,
    }


def check_same(plan: Plan, asked: dict[str, Any], run: Run) -> None:
    """See that a curve goes on as it began.

    Raises:
        RequestError: it does not; all that differs is told.
    """
    began = run.read_json(REQUEST)
    words = {"data_sha256": "the pictures", "scratch_epochs": "--scratch-epochs"}
    wrong = [
        f"  {words.get(key, f'--{key}')}: not those it began with"
        + (f" ({began.get(key)}, now {value})" if key != "data_sha256" else "")
        for key, value in asked.items()
        if began.get(key) != value
    ]
    before = run.file(RECIPE).read_text(encoding="utf-8")
    others = differences(before, recipes.write(plan.recipe))
    wrong += [f"  {line}" for line in others[:MAX_KEYS_SHOWN]]
    if len(others) > MAX_KEYS_SHOWN:
        wrong.append(f"  ... and {len(others) - MAX_KEYS_SHOWN} more keys of the recipe.")
    if wrong:
        raise RequestError(
            "\n".join([f"{run.path} cannot be resumed:", *wrong])
            + "\nStart a curve of its own instead."
        )


def resume_command(asked: Mapping[str, Any], run: Run) -> str:
    """Return the command that goes on with a curve.

    Args:
        asked: as `request_of` returns it.
        run: the folder of the curve.
    """
    words = (
        "kerastl", "adapt-curve", run.file(RECIPE), "--labels", ",".join(map(str, asked["labels"])),
        "--seeds", len(asked["seeds"]), "--scratch-epochs", asked["scratch_epochs"], "--out", run.path, "--resume",
    )  # fmt: skip
    return shlex.join(map(str, words))


def out_problems(out: Path | None) -> Iterator[Problem]:
    """Yield that the folder of a new curve is taken, and how to go on with a curve that was stopped in it."""
    if out is None or is_free(out):
        return
    told = f"{out} exists already and is left as it is. Name another."
    run = Run(out)
    if run.file(RECIPE).is_file() and not run.finished:
        # Whatever else lies there was written by others, and may be anything.
        with suppress(OSError, ValueError, KeyError, TypeError):
            command = resume_command(run.read_json(REQUEST), run)
            told += f" Or go on with the curve that was stopped in it: {command}"
    yield Problem("--out", told)
