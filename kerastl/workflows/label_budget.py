"""The label-budget curve: the score at hospital B against the number of labeled patients."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import keras

from kerastl import recipe as recipes
from kerastl import report, runs
from kerastl.console import format_duration, print_status, quiet, status
from kerastl.data import Record, group_key
from kerastl.errors import (
    PermanentFailure,
    Problem,
    Problems,
    RequestError,
    pluralize,
    problems_of,
    raise_problems,
)
from kerastl.recipe import Recipe
from kerastl.report import Curve, Point, TargetTest
from kerastl.report.label_budget_page import ADAPT_THEN_FINE_TUNE, FINE_TUNE, SCRATCH, STRATEGIES
from kerastl.report.tables import column_title
from kerastl.runs import Run
from kerastl.workflows import curve_plan
from kerastl.workflows import run as runner
from kerastl.workflows.check_recipe import check_outside, check_weights
from kerastl.workflows.curve_plan import ADAPTED, SOURCE, Job, Plan
from kerastl.workflows.datasets import Datasets, load_datasets
from kerastl.workflows.model import build_initial_model
from kerastl.workflows.resolve import resolve
from kerastl.workflows.run_writer import set_determinism
from kerastl.workflows.summarize import write_summary


def request_of(plan: Plan, datasets: CurveDatasets) -> dict[str, Any]:
    """Return the settings of a curve apart from its recipe, and the hashes of its data."""
    return {
        "labels": list(plan.labels),
        "seeds": list(plan.seeds),
        "scratch_epochs": plan.scratch_epochs,
        "data_sha256": datasets.fingerprints,
    }


def check_same(plan: Plan, request: dict[str, Any], run: Run) -> None:
    """Check that a curve is resumed with the same settings, recipe and images.

    Raises:
        RequestError: Something differs; the message lists the first differences.
    """
    first = run.read_json(curve_plan.REQUEST)
    changes = [
        "the images have changed"
        if key == "data_sha256"
        else f"--{key.replace('_', '-')}: {first.get(key)} before, {value} now"
        for key, value in request.items()
        if first.get(key) != value
    ]
    old_recipe = run.file(curve_plan.RECIPE).read_text(encoding="utf-8")
    runs.refuse_changes(run.path, [*changes, *recipes.diff_recipes(old_recipe, recipes.write(plan.recipe))])


MIN_CLASSES = 2
LARGEST_LABELS = "(the largest value of --labels). Use fewer, or lower target.split.test_fraction"


@dataclass(frozen=True)
class CurveDatasets:
    """Properties of a curve that are determined by the images of all seeds.

    Args:
        metric: Metric of the curve: `group_auc` or `balanced_accuracy`.
        unit: `patient`, or `image` if the images have no groups.
        fingerprints: SHA-256 of the data by seed and domain.
    """

    metric: str
    unit: str
    fingerprints: dict[str, dict[str, str]]


def _plan(
    recipe: Recipe, labels: Sequence[int], seeds: int, scratch_epochs: int, out: Path | None
) -> tuple[Plan, CurveDatasets]:
    """Return the plan of a curve and the properties of its datasets, or raise all problems together.

    Args:
        recipe, labels, seeds, scratch_epochs: As in `adapt_curve`.
        out: Folder of a new curve, which must be outside the data folders.

    Raises:
        Problems: All problems. Nothing has been trained or written.
    """
    counts, problems = curve_plan.read_labels(labels)
    problems += curve_plan.count_problems(seeds, scratch_epochs)
    problems += curve_plan.recipe_problems(recipe, seeds)
    _raise_all(problems)
    counts = tuple(dict.fromkeys((0, *counts)))
    plan = Plan(recipe, counts, tuple(range(recipe.seed, recipe.seed + seeds)), scratch_epochs)
    problems += problems_of("", check_weights, recipe)
    description = f"Checking the images of {pluralize(seeds, 'seed')}"
    with status(description), tempfile.TemporaryDirectory() as folder, quiet():
        scratch = Run(Path(folder))
        datasets = _load_all_seeds(plan, problems, scratch)
        if not problems:
            problems += _phase_problems(plan, datasets[plan.seeds[0]], scratch)
    problems += problems_of("--out", check_outside, recipe, out, "curve")
    _raise_all(problems)
    datasets[plan.seeds[0]].print()
    fingerprints = {str(seed): images.fingerprints for seed, images in datasets.items()}
    return plan, CurveDatasets(*metric_of(list(datasets.values())), fingerprints)


def _load_all_seeds(plan: Plan, problems: list[Problem], scratch: Run) -> dict[int, Datasets]:
    """Return the images for each seed, and add their problems, each with the seeds that it occurs for."""
    datasets: dict[int, Datasets] = {}
    seeds_by_message: dict[str, list[int]] = defaultdict(list)
    for seed in plan.seeds:
        for message in _dataset_problems(plan, seed, scratch, datasets):
            seeds_by_message[message].append(seed)
    for message, seeds in seeds_by_message.items():
        where = "" if len(seeds) == len(plan.seeds) else f"seed {', '.join(map(str, seeds))}"
        problems.append(Problem(where, message))
    return datasets


def _raise_all(problems: list[Problem]) -> None:
    """Raise all problems together, if there are any."""
    raise_problems("The curve", list(dict.fromkeys(problems)), "Nothing was trained or written.")


def _dataset_problems(plan: Plan, seed: int, scratch: Run, datasets: dict[int, Datasets]) -> Iterator[str]:
    """Load the images of one seed into `datasets` and yield their problems."""
    most = plan.labels[-1]
    recipe = plan.recipe_of(Job(FINE_TUNE, seed, most), scratch.path)
    try:
        datasets[seed] = load_datasets(recipe, scratch)
        yield from _label_shortages(datasets[seed], most)
    except Problems as error:
        for problem in error.problems:
            yield f"{error.subject} {problem}".replace("(groups_per_class)", LARGEST_LABELS)
    except RequestError as error:
        yield str(error)
    if seed not in datasets:
        # Without labels, so that problems of the test split are reported, too.
        with suppress(RequestError):
            datasets[seed] = load_datasets(plan.recipe_of(Job(SOURCE, seed), scratch.path), scratch)
    if seed in datasets:
        yield from _test_problems(datasets[seed].in_split("target_test"))


def _label_shortages(datasets: Datasets, count: int) -> Iterator[str]:
    """Yield classes with too few labeled groups, which `allow_rare` permits elsewhere."""
    groups = {(record.label, group_key(record)) for record in datasets.in_split("target_train")}
    group_counts = Counter(label for label, _ in groups)
    labels_at_target = {record.label for record in datasets.in_split("target_train", "target_test")}
    for name in datasets.class_names:
        if name in labels_at_target and group_counts[name] < count:
            yield (
                f"The target has {group_counts[name]} groups of class '{name}' outside its test split, "
                f"but {count} are needed {LARGEST_LABELS}"
            )


def _test_problems(test: list[Record]) -> Iterator[str]:
    labels = {record.label for record in test} - {None}
    if len(labels) < MIN_CLASSES:
        content = "no labeled images" if not labels else f"only images of {min(map(str, labels))}"
        yield (
            f"target: the test split has {content}, but a score needs two classes. "
            "Raise target.split.test_fraction, or label more patients from B."
        )


def _phase_problems(plan: Plan, datasets: Datasets, scratch: Run) -> Iterator[Problem]:
    """Yield the problems that prevent one of the four kinds of runs from training."""
    seed = plan.seeds[0]
    source_recipe = plan.recipe_of(Job(SOURCE, seed), scratch.path)
    set_determinism(seed)
    try:
        model = build_initial_model(source_recipe, datasets)
    except RequestError as error:
        yield Problem("", str(error))
        return
    most = plan.labels[-1]
    for job in (Job(SOURCE, seed), Job(ADAPTED, seed), Job(FINE_TUNE, seed, most), Job(SCRATCH, seed, most)):  # fmt: skip
        # A's model does not exist yet, but the check depends on the layers only, not on their weights.
        recipe = plan.recipe_of(job, scratch.path).model_copy(update={"backbone": source_recipe.backbone})
        yield from problems_of(job.strategy, resolve, recipe, model, datasets, scratch, resume=False)


def metric_of(datasets: Sequence[Datasets]) -> tuple[str, str]:
    """Return the metric that is defined for all seeds, and the unit of labeling."""
    tests = [images.in_split("target_test") for images in datasets]
    has_groups = all(any(record.group is not None for record in test) for test in tests)
    is_binary = len(datasets[0].class_names) == MIN_CLASSES
    has_mixed_groups = any(_has_mixed_groups(test) for test in tests)
    metric = "group_auc" if has_groups and is_binary and not has_mixed_groups else "balanced_accuracy"
    return metric, "patient" if has_groups else "image"


def _has_mixed_groups(records: list[Record]) -> bool:
    """Return whether the images of one group have different labels."""
    grouped = [record for record in records if record.group is not None]
    labeled_groups = {(record.domain, record.group, record.label) for record in grouped}
    return len(labeled_groups) > len({(record.domain, record.group) for record in grouped})


TEST_SPLIT, LABELED_SPLIT = "target_test", "target_train"
STILL_FALLING = 0.9
"""The loss has not reached a plateau if its last fifth of epochs is below this fraction of the fifth before."""
CONVERGED_LOSS = 0.05
"""A loss below this value counts as converged."""


def _points(plan: Plan, run: Run, metric: str, failed: Mapping[Job, str]) -> Iterator[Point]:
    for strategy, count, seed in product(STRATEGIES, plan.labels, plan.seeds):
        job = Job(strategy, seed, count)
        if count:
            yield _point(job, run.inner(job.name).path, run, metric, failed.get(job, ""))
        elif strategy != SCRATCH:
            yield _point(job, plan.start_of(job, run.file("runs")), run, metric, "")


def _point(job: Job, folder: Path, run: Run, metric: str, reason: str) -> Point:
    score = runs.Estimate(reason=reason)
    if not reason:
        score = runs.Scores.read(folder).splits[TEST_SPLIT].overall[metric]
    groups, images = _labeled_counts(folder) if job.groups_per_class else (0, 0)
    return Point(
        strategy=job.strategy, groups_per_class=job.groups_per_class, groups=groups, images=images, seed=job.seed,
        run=folder.relative_to(run.path).as_posix(), **score.model_dump(),
    )  # fmt: skip


def _labeled_counts(folder: Path) -> tuple[int, int]:
    """Return the number of labeled groups and images of the target that a run was trained on."""
    rows = [row for row in runs.read_csv(folder / "split.csv") if row["split"] == LABELED_SPLIT]
    groups = {(row["domain"], row["group"] or f"\0{row['path']}") for row in rows}
    return len(groups), len(rows)


def _target_test(plan: Plan, run: Run, seed: int) -> TargetTest:
    scored = runs.Scores.read(run.inner(Job(SOURCE, seed).name).path).splits[TEST_SPLIT]
    adapted = runs.Adaptation.read(run.inner(Job(ADAPTED, seed).name).path)
    is_selected = plan.recipe.adaptation is not None
    return TargetTest(
        seed, scored.groups, scored.count,
        adapted.chosen if is_selected else curve_plan.DEFAULT_METHOD, adapted.verdict if is_selected else "",
    )  # fmt: skip


def _network(recipe: Recipe) -> str:
    titles = {"imagenet": "ImageNet weights", "preset": "its own weights", "none": "random weights"}
    weights = titles.get(str(recipe.backbone.weights), "the weights of a file or a run")
    return f"{recipe.backbone.name}; A's model starts from {weights}"


def _notes(plan: Plan, run: Run, failed: Mapping[Job, str]) -> Iterator[str]:
    for job, reason in failed.items():
        yield f"{job.name} failed: {reason}"
    trained = [job for job in plan.jobs() if job.strategy == SCRATCH and job not in failed]
    falling = [job for job in trained if is_still_falling(_losses(run.inner(job.name)))]
    if falling:
        yield (
            f"The training loss of {len(falling)} of {pluralize(len(trained), 'run')} from scratch did not reach a plateau in "
            f"{pluralize(plan.scratch_epochs, 'epoch')} ({', '.join(job.name for job in falling)}). Longer training "
            "may improve them: start a new curve with a larger --scratch-epochs."
        )
    validated = [
        phase.name
        for phase in plan.recipe.phases
        if phase.domain == "target" and (phase.keep == "best" or phase.early_stopping is not None)
    ]
    if validated:
        yield (
            f"Phase {', '.join(validated)}: the last epoch is kept ({FINE_TUNE}, {ADAPT_THEN_FINE_TUNE}), because all labeled "
            "patients from B are used for training and none are left for validation."
        )


def _losses(inner: Run) -> list[float]:
    lines = inner.file("history.jsonl").read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["loss"]) for line in lines]


def is_still_falling(losses: list[float]) -> bool:
    """Return whether the training loss, one value per epoch, was still falling at the end."""
    fifth = len(losses) // 5
    if not fifth:
        return True  # too few epochs to detect a plateau
    last, before = fmean(losses[-fifth:]), fmean(losses[-2 * fifth : -fifth])
    return last > CONVERGED_LOSS and last < STILL_FALLING * before


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    """Filter out TensorFlow's warnings about retracing: each run traces its own functions once."""
    return "triggered tf.function retracing" not in record.getMessage()


CONFIDENTIAL = (
    "The folders in runs/ contain paths, groups and images of the data and are as confidential as the data. "
    "curve.json, curve.csv, curve.png and report.html contain only scores and counts.\n"
)


@dataclass(frozen=True)
class LabelBudget:
    """A finished curve.

    Args:
        run: Its folder.
        curve: Its scores.
    """

    run: Run
    curve: Curve


def adapt_curve(
    recipe: Recipe,
    *,
    name: str,
    labels: Sequence[int] = (0, 1, 2, 5, 10),
    seeds: int = 3,
    scratch_epochs: int = 100,
    out: Path | None = None,
    resume: bool = False,
) -> LabelBudget:
    """Estimate how many patients of hospital B to label: score at B against the number of labeled patients.

    Three strategies are compared: fine-tuning of A's model (`fine_tune`), fine-tuning after adaptation
    without labels (`adapt_then_fine_tune`), and training from random weights on the same patients
    (`scratch`). Each model has its own run folder in `runs/`.

    Args:
        recipe: A checked recipe with a target and phases of both domains. Its `target.labels` and
            `target.few` are replaced.
        name: Name of the recipe. The default folder is `runs/<name>-curve-<n>`.
        labels: Labeled groups (patients) per class, ascending. 0, A's unchanged model, is always added.
        seeds: Number of repetitions. The first seed is the recipe's seed.
        scratch_epochs: Epochs of each run from random weights, enough to reach a plateau.
        out: Folder of the curve, new or empty.
        resume: Whether to continue an interrupted curve. Finished runs are not trained again.

    Returns:
        The folder of the curve and its scores.

    Raises:
        Problems: The request, the images, the weights or the phases have problems. Nothing has been trained
            or written.
        RequestError: There is no curve to resume, or it was started with different settings.
        RunFailed: Training of A's model failed. If a later run fails, it is reported as a point without a
            value.
    """
    # Before the images are read.
    resumed = runs.find_unfinished_run(f"{name}-curve", out, start_file=curve_plan.RECIPE) if resume else None
    is_started = resumed is not None and resumed.file(curve_plan.REQUEST).is_file()
    plan, datasets = _plan(recipe, labels, seeds, scratch_epochs, None if is_started else out)
    logging.getLogger("tensorflow").addFilter(_is_not_about_retracing)
    with _opened(name, out, plan, datasets, resumed) as run:
        failed = _train(plan, datasets, run)
        return _write_results(plan, datasets, run, failed)


def _write_results(plan: Plan, datasets: CurveDatasets, run: Run, failed: Mapping[Job, str]) -> LabelBudget:
    """Collect the scores of all runs, write the files of a curve and mark it as finished."""
    curve = Curve(
        # A resumed curve uses the recipe in its folder, which has a different name.
        recipe=run.read_json(curve_plan.REQUEST)["recipe"],
        network=_network(plan.recipe),
        metric=datasets.metric,
        unit=datasets.unit,
        strategies=STRATEGIES,
        labels=plan.labels,
        seeds=plan.seeds,
        points=tuple(_points(plan, run, datasets.metric, failed)),
        tests=tuple(_target_test(plan, run, seed) for seed in plan.seeds),
        notes=tuple(_notes(plan, run, failed)),
    )
    run.write_json("curve.json", curve.to_json())
    columns = [field.name for field in fields(Point)]
    rows = [[curve.metric, *astuple(point)] for point in curve.points]
    runs.write_csv(run.file("curve.csv"), ["metric", *columns], rows)
    report.write_curve_image(run.file("curve.png"), curve)
    write_summary(run)
    report.write_curve_page(run.path, curve)
    run.finish()
    return LabelBudget(run, curve)


@contextmanager
def _opened(
    name: str, out: Path | None, plan: Plan, datasets: CurveDatasets, resumed: Run | None
) -> Iterator[Run]:
    """Lock the folder of a new curve, or of the one to resume."""
    run = resumed or runs.create_run(f"{name}-curve", out)
    runs.create_folder(run.path)
    with run.locked(resume=resumed is not None):
        request = request_of(plan, datasets)
        if run.file(curve_plan.REQUEST).is_file():
            check_same(plan, request, run)
        else:
            if resumed:
                print_status(f"{run.path} has nothing to resume. Starting from the beginning.")
            runs.write_atomic(run.file(curve_plan.RECIPE), recipes.write(plan.recipe))
            runs.write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
            run.file("runs").mkdir(exist_ok=True)
            run.write_json(curve_plan.REQUEST, {"recipe": name, **request})
        try:
            yield run
        except BaseException:
            print_status(f"To resume the curve: {curve_plan.resume_command(request, run)}")
            raise


def _train(plan: Plan, datasets: CurveDatasets, run: Run) -> dict[Job, str]:
    """Train all unfinished runs and return the error messages of those that failed."""
    jobs = plan.jobs()
    seconds: dict[str, list[float]] = defaultdict(list)
    failed: dict[Job, str] = {}
    for index, job in enumerate(jobs, 1):
        inner = run.inner(job.name)
        if inner.finished:
            continue
        remaining = _remaining_time(jobs[index - 1 :], run, seconds)
        line = f"Run {index} of {len(jobs)}: {job.describe(datasets.unit)}"
        started = time.perf_counter()
        try:
            with status(f"{line}{remaining}", prints_line=False), quiet():
                _run(plan, job, inner)
            outcome = _outcome(plan, job, inner, datasets.metric)
        except PermanentFailure as error:
            if job.strategy in (SOURCE, ADAPTED):
                raise
            failed[job] = str(error).splitlines()[0]
            outcome = f"failed: {failed[job]}"
        seconds[job.strategy].append(time.perf_counter() - started)
        print_status(f"{line}: {outcome} ({format_duration(seconds[job.strategy][-1])})")
    return failed


def _outcome(plan: Plan, job: Job, inner: Run, metric: str) -> str:
    """Return the score of a run at B for its progress line."""
    is_adapted = job.strategy == ADAPTED
    folder = (
        plan.start_of(Job(ADAPT_THEN_FINE_TUNE, job.seed), inner.path.parent) if is_adapted else inner.path
    )
    value = runs.Scores.read(folder).splits[TEST_SPLIT].overall[metric].value
    return f"{column_title(metric)} at B " + ("undefined" if value is None else f"{value:.3f}")


def _run(plan: Plan, job: Job, inner: Run) -> None:
    """Train one run, or continue it if it was interrupted."""
    # Reset layer names and free the graphs of earlier runs, so that a run is the same as in its own process.
    keras.backend.clear_session()
    runner.run(
        plan.recipe_of(job, inner.path.parent),
        name=job.name,
        out=inner.path,
        resume=inner.path.exists(),
        # The default method is not selected, so only the oracle evaluates it on the test images.
        oracle=job.strategy == ADAPTED and plan.recipe.adaptation is None,
    )


def _remaining_time(jobs: Sequence[Job], run: Run, seconds: Mapping[str, list[float]]) -> str:
    """Return an estimate of the remaining time from the finished runs, or an empty text before the first."""
    if not seconds:
        return ""
    mean = [fmean(duration for durations in seconds.values() for duration in durations)]
    unfinished = [job for job in jobs if not run.inner(job.name).finished]
    remaining = sum(fmean(seconds.get(job.strategy, mean)) for job in unfinished)
    return f" (about {format_duration(remaining)} left)"
