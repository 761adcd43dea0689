"""Train every run of a curve, once, and write down what they come to."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import keras

from kerastl import recipe as recipes
from kerastl import report, runner
from kerastl.console import duration, say
from kerastl.curve.begun import (
    RECIPE,
    REQUEST,
    check_same,
    out_problems,
    request_of,
    resume_command,
    to_resume,
)
from kerastl.curve.checks import Seen, look, raise_all
from kerastl.curve.collect import collect, write_points
from kerastl.curve.plan import ADAPTED, SOURCE, Job, Plan
from kerastl.curve.quiet import without_retracing_warnings
from kerastl.curve.request import (
    LABELS_OPTION,
    count_problems,
    label_problems,
    recipe_problems,
    seed_problems,
)
from kerastl.errors import Problem, WouldFailAgain
from kerastl.recipe import Recipe
from kerastl.runs import BEGUN, Run, new_run, sweep, write_atomic
from kerastl.stages import write_summary

LABELS = (0, 1, 2, 5, 10)
PICTURE = "curve.png"
CONFIDENTIAL = (
    "The folders under runs/ hold paths, groups and pictures of the data: they are as confidential as these are. "
    "curve.json, curve.csv, curve.png and report.html hold scores and counts alone.\n"
)


@dataclass(frozen=True)
class Outcome:
    """What a curve came to.

    Args:
        run: its folder.
        curve: the points.
        reading: what they mean, one sentence each.
    """

    run: Run
    curve: report.Curve
    reading: tuple[str, ...]


def adapt_curve(
    recipe: Recipe,
    *,
    name: str,
    labels: Sequence[int] = LABELS,
    seeds: int = 3,
    scratch_epochs: int = 100,
    out: Path | None = None,
    resume: bool = False,
    problems: Sequence[Problem] = (),
) -> Outcome:
    """Score at hospital B against the number of B's patients whose labels may be used.

    Three ways: A's model fine-tuned (`fine_tune`); first adapted without labels, then fine-tuned
    (`adapt_then_fine_tune`); the same network from random weights on the same patients (`scratch`). Each model is a run
    folder of its own under `runs/`.

    Args:
        recipe: checked, with a target and phases of both domains; its `target.labels` and `target.few` are replaced.
        name: of the recipe; the folder is `runs/<name>-curve-<n>` where `out` is None.
        labels: labelled groups (patients) of each class, ascending; 0, A's model as it is, is always among them.
        seeds: how many; the first is the recipe's.
        scratch_epochs: of each run from random weights; enough to come to a plateau.
        out: the folder, new or empty.
        resume: go on with a curve that was stopped; finished runs are not trained again.
        problems: found wrong with the request before; told together with what is wrong beside them.

    Returns:
        The folder and what lies in it.

    Raises:
        Problems: the request, the pictures, the weights or the phases will not do; all that is wrong. Nothing was
            trained or written.
        RequestError: there is nothing to resume, or it began otherwise.
        RunFailed: a model of A broke down. A run on labels that breaks down is a point without a value.
    """
    if resume:
        to_resume(name, out)  # before any picture is opened
    plan, seen = _checked(
        recipe, labels, seeds=seeds, scratch_epochs=scratch_epochs,
        out=None if resume else out, problems=list(problems),
    )  # fmt: skip
    with (
        _opened(name, out, plan, seen, resume=resume) as run,
        without_retracing_warnings(),
    ):
        return _progress_text(plan, seen, run, _train(plan, seen, run))


def _progress_text(plan: Plan, seen: Seen, run: Run, failed: dict[Job, str]) -> Outcome:
    """Write down what all runs came to, and mark the curve as finished."""
    # One that goes on is started with the recipe that lies in its folder, whose name says nothing.
    name = run.read_json(REQUEST)["recipe"]
    curve = collect(plan, run, name=name, metric=seen.metric, unit=seen.unit, failed=failed)
    reading = tuple(report.reading_of(curve))
    run.write_json("curve.json", curve.to_json(reading))
    write_points(run.file("curve.csv"), curve)
    report.write_curve_picture(run.file(PICTURE), curve)
    write_summary(run)
    report.write_curve_page(run.path, curve, reading)
    run.finish()
    return Outcome(run, curve, reading)


def _checked(
    recipe: Recipe,
    labels: Sequence[int],
    *,
    seeds: int,
    scratch_epochs: int,
    out: Path | None,
    problems: list[Problem],
) -> tuple[Plan, Seen]:
    """Return the plan and what was seen of its pictures, or raise all that is wrong.

    Where the numbers are wrong, the pictures are looked at for the least there is, to tell what is wrong with them, too.
    """
    if not any(one.where == LABELS_OPTION for one in problems):
        problems += label_problems(labels)
    refused = any(one.where == LABELS_OPTION for one in problems)
    numbers = (0, 1) if refused else tuple(dict.fromkeys((0, *labels)))
    counts = [*count_problems(seeds, scratch_epochs), *seed_problems(recipe, seeds)]
    if counts:
        problems += counts
        seeds, scratch_epochs = 1, 1
    problems += out_problems(out)
    if wrong := list(recipe_problems(recipe)):
        raise_all([*problems, *wrong])
    first = recipe.seed
    plan = Plan(recipe, numbers, tuple(range(first, first + seeds)), scratch_epochs)
    return plan, look(plan, problems, out)


@contextmanager
def _opened(name: str, out: Path | None, plan: Plan, seen: Seen, *, resume: bool) -> Iterator[Run]:
    """Hold a new folder of a curve, or the one to go on with, against other writers.

    Raises:
        RequestError: the folder is taken, or there is nothing to resume, or it began otherwise.
    """
    run = to_resume(name, out) if resume else new_run(f"{name}-curve", out)
    with run.locked():
        asked = request_of(plan, seen)
        if resume:
            check_same(plan, asked, run)
            sweep(run.path, but_below=BEGUN)
        else:
            write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
            run.file("runs").mkdir()
            run.write_json(REQUEST, {"recipe": name, **asked})
            write_atomic(run.file(RECIPE), recipes.write(plan.recipe))
        try:
            yield run
        except BaseException:
            say(f"The curve goes on with: {resume_command(asked, run)}")
            raise


def _train(plan: Plan, seen: Seen, run: Run) -> dict[Job, str]:
    """Train every run that is not finished yet; return why some have no model."""
    runs, jobs = run.file("runs"), plan.jobs()
    seconds: dict[str, list[float]] = defaultdict(list)
    failed: dict[Job, str] = {}
    for number, job in enumerate(jobs, 1):
        inner = Run(runs / job.name)
        if inner.finished:
            continue
        labelled = f" {seen.unit}{'s'[: job.groups_per_class != 1]} a class"
        words = job.words + (labelled if job.groups_per_class else "")
        say(f"Run {number} of {len(jobs)}: {words}{_left(jobs[number - 1 :], runs, seconds)}")
        started = time.perf_counter()
        try:
            _run(plan, job, inner)
        except WouldFailAgain as error:
            if job.way in (SOURCE, ADAPTED):
                raise
            failed[job] = str(error).splitlines()[0]
            say(f"Warning: {job.name} has no model: {failed[job]}")
        seconds[job.way].append(time.perf_counter() - started)
    return failed


def _run(plan: Plan, job: Job, inner: Run) -> None:
    """Train one run from its beginning, or from where it was stopped."""
    resume = inner.file(BEGUN).is_file()
    if not resume and inner.path.exists():
        # Killed before its first step: what lies there was made by this curve, which holds the folder above.
        shutil.rmtree(inner.path)
    # As in a process of its own: what runs before it leaves no trace in names, and no graph in memory.
    keras.backend.clear_session()
    runner.run(
        plan.recipe_of(job, inner.path.parent),
        name=job.name,
        out=inner.path,
        resume=resume,
        # AdaBN is not chosen but taken where the recipe names no methods: it is judged, too.
        oracle=job.way == ADAPTED and plan.recipe.adaptation is None,
    )


def _left(jobs: Sequence[Job], runs: Path, seconds: dict[str, list[float]]) -> str:
    """Return the time left in words, from the runs of each way that have ended; nothing before the first."""
    known = [one for some in seconds.values() for one in some]
    if not known:
        return ""
    usual = fmean(known)
    left = sum(
        fmean(seconds[job.way]) if seconds[job.way] else usual
        for job in jobs
        if not Run(runs / job.name).finished
    )
    return f" (about {duration(left)} left)"
