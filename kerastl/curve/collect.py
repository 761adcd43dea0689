"""From the run folders of a curve to its points. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from kerastl.curve.plan import ADAPTED, FALLBACK, SOURCE, Job, Plan
from kerastl.recipe import Recipe
from kerastl.report import Curve, Point, Tested
from kerastl.report.label_budget_page import ADAPT_THEN_FINE_TUNE, FINE_TUNE, SCRATCH, WAYS
from kerastl.runs import Run, read_csv, write_csv

TESTED, LABELLED = "target_test", "target_train"
STILL_FALLING = 0.9
"""A loss whose last fifth of epochs lies below this part of the fifth before has not come to a plateau."""
LEARNT = 0.05
"""A loss below which there is nothing left to learn, whether it falls or not."""


def collect(
    plan: Plan, run: Run, *, name: str, metric: str, unit: str, failed: Mapping[Job, str]
) -> Curve:
    """Return the points of all runs.

    Args:
        plan: the curve.
        run: its folder; each run lies under `runs/`.
        name: of the recipe.
        metric, unit: of the curve.
        failed: why a run has no model.
    """
    return Curve(
        recipe=name,
        network=_network(plan.recipe),
        metric=metric,
        unit=unit,
        ways=WAYS,
        labels=plan.labels,
        seeds=plan.seeds,
        points=tuple(_points(plan, run, metric, failed)),
        tested=tuple(_tested(plan, run, seed) for seed in plan.seeds),
        notes=tuple(_notes(plan, run, failed)),
    )


def write_points(file: Path, curve: Curve) -> None:
    """Write `curve.csv`: a row a run."""
    names = [one.name for one in fields(Point)]
    rows = [[curve.metric, *(getattr(point, name) for name in names)] for point in curve.points]
    write_csv(file, ["metric", *names], rows)


def _points(plan: Plan, run: Run, metric: str, failed: Mapping[Job, str]) -> Iterator[Point]:
    runs = run.file("runs")
    for way in WAYS:
        for number in plan.labels:
            for seed in plan.seeds:
                if number:
                    job = Job(way, seed, number)
                    yield _point(job, runs / job.name, run, metric, failed.get(job, ""))
                elif way != SCRATCH:
                    start = plan.start_of(Job(way, seed, 1), runs)
                    yield _point(Job(way, seed), start, run, metric, "")


def _point(job: Job, folder: Path, run: Run, metric: str, reason: str) -> Point:
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "reason": reason}
    if not reason:
        found |= Run(folder).read_json("scores.json")[TESTED]["overall"][metric]
    groups, pictures = _labelled(folder) if job.groups_per_class else (0, 0)
    return Point(
        way=job.way, groups_per_class=job.groups_per_class, groups=groups, pictures=pictures, seed=job.seed,
        run=folder.relative_to(run.path).as_posix(), **found,
    )  # fmt: skip


def _labelled(folder: Path) -> tuple[int, int]:
    """Return how many groups and pictures of the target lent their labels to a run."""
    rows = [row for row in read_csv(folder / "split.csv") if row["split"] == LABELLED]
    groups = {(row["domain"], row["group"] or f"\0{row['path']}") for row in rows}
    return len(groups), len(rows)


def _tested(plan: Plan, run: Run, seed: int) -> Tested:
    runs = run.file("runs")
    scored = Run(runs / Job(SOURCE, seed).name).read_json("scores.json")[TESTED]
    adapted = Run(runs / Job(ADAPTED, seed).name).read_json("adaptation.json")
    chosen = plan.recipe.adaptation is not None
    return Tested(
        seed, scored["groups"], scored["count"],
        adapted["chosen"] if chosen else FALLBACK, adapted["verdict"] if chosen else "",
    )  # fmt: skip


def _network(recipe: Recipe) -> str:
    words = {"imagenet": "ImageNet weights", "none": "random weights"}
    start = words.get(str(recipe.backbone.weights), "weights of a file or a run")
    return f"{recipe.backbone.name}, A's model from {start}"


def _notes(plan: Plan, run: Run, failed: Mapping[Job, str]) -> Iterator[str]:
    for job, reason in failed.items():
        yield f"{job.name} has no model: {reason}"
    scratch = [
        Job(SCRATCH, seed, number) for seed in plan.seeds for number in plan.labels if number
    ]
    ended = [job for job in scratch if job not in failed]
    falling = [job for job in ended if is_still_falling(_losses(run.file("runs") / job.name))]
    if falling:
        yield (
            f"The training loss of {len(falling)} of {len(ended)} run{'s'[: len(ended) != 1]} from scratch had not come to a plateau after "
            f"{plan.scratch_epochs} epoch{'s'[: plan.scratch_epochs != 1]} ({', '.join(job.name for job in falling)}): from scratch may be "
            f"better than it looks. Raise --scratch-epochs in a curve of its own."
        )
    steered = [
        phase.name
        for phase in plan.recipe.phases
        if phase.domain == "target" and (phase.keep == "best" or phase.early_stopping is not None)
    ]
    if steered:
        yield (
            f"Phase {', '.join(steered)}: ends with its last epoch ({FINE_TUNE}, {ADAPT_THEN_FINE_TUNE}), as B has no "
            "labelled patient to validate with beside those that are counted."
        )


def _losses(folder: Path) -> list[float]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["loss"]) for line in lines]


def is_still_falling(losses: list[float]) -> bool:
    """Tell whether a training loss was still falling when it ended: whether longer training would learn more.

    Args:
        losses: one an epoch.
    """
    fifth = len(losses) // 5
    if not fifth:
        return True  # too few epochs to see a plateau
    last, before = fmean(losses[-fifth:]), fmean(losses[-2 * fifth : -fifth])
    return last > LEARNT and last < STILL_FALLING * before
