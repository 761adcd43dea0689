"""Train every run of a curve, once, and write down what they come to."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import keras

from kerastl import recipe as recipes
from kerastl import report
from kerastl.console import format_duration, print_status
from kerastl.data import Record, group_key
from kerastl.errors import PermanentFailure, Problem, Problems, RequestError
from kerastl.recipe import LARGEST_SEED, Recipe
from kerastl.report import Curve, Point, Tested
from kerastl.report.label_budget_page import ADAPT_THEN_FINE_TUNE, FINE_TUNE, SCRATCH, WAYS
from kerastl.runs import (
    RESOLVED_RECIPE,
    Run,
    create_run,
    find_unfinished_run,
    is_new_or_empty,
    read_csv,
    remove_partial_files,
    write_atomic,
    write_csv,
)
from kerastl.workflows import run as runner
from kerastl.workflows.datasets import Datasets, check_outside, load_datasets
from kerastl.workflows.evaluate import write_summary
from kerastl.workflows.model import build_initial_model, check_weights
from kerastl.workflows.resolve import resolve
from kerastl.workflows.run_writer import differences, set_determinism

SOURCE, ADAPTED = "source", "adapted"
FALLBACK = "adabn"
"""How the model is adapted without labels where the recipe does not say."""


@dataclass(frozen=True)
class Job:
    """One run of a curve.

    Args:
        way: `source` (A's model), `adapted` (that model adapted without labels), or one of `WAYS`.
        seed: of everything that is random in it.
        groups_per_class: labelled groups (patients) of each class of B; 0 where none is.
    """

    way: str
    seed: int
    groups_per_class: int = 0

    @property
    def name(self) -> str:
        """Its folder under `runs/`."""
        number = f"_{self.groups_per_class}" if self.groups_per_class else ""
        return f"seed_{self.seed}_{self.way}{number}"

    @property
    def words(self) -> str:
        """What it is, for people; the unit is told elsewhere."""
        if self.way == SOURCE:
            return f"seed {self.seed}, A's model"
        if self.way == ADAPTED:
            return f"seed {self.seed}, A's model adapted without labels"
        return f"seed {self.seed}, {self.way}, {self.groups_per_class}"


@dataclass(frozen=True)
class Plan:
    """A curve.

    Args:
        recipe: checked; its labels at the target are replaced by the curve's.
        labels: labelled groups per class, ascending, 0 first.
        seeds: ascending.
        scratch_epochs: of each run from random weights.
    """

    recipe: Recipe
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    scratch_epochs: int

    def jobs(self) -> list[Job]:
        """Return all runs, each behind those that it begins with."""
        found = []
        for seed in self.seeds:
            found += [Job(SOURCE, seed), Job(ADAPTED, seed)]
            found += [Job(way, seed, number) for way in WAYS for number in self.labels if number]
        return found

    def recipe_of(self, job: Job, runs: Path) -> Recipe:
        """Return the recipe of one run.

        Args:
            job: which.
            runs: folder of all runs; the model that a run begins with lies there.
        """
        bare = self.recipe.model_copy(
            update={
                "seed": job.seed,
                "adaptation": None,
                "export": self.recipe.export.model_copy(update={"formats": ()}),
                "target": self._target(job.groups_per_class),
            }
        )
        if job.way == SOURCE:
            return bare.model_copy(update={"phases": self._phases("source")})
        if job.way == SCRATCH:
            weights = bare.backbone.model_copy(update={"weights": "none"})
            scratch = (scratch_phase(self.scratch_epochs),)
            return bare.model_copy(update={"backbone": weights, "phases": scratch})
        start = bare.backbone.model_copy(update={"weights": self.start_of(job, runs)})
        phases = tuple(_steered_by_nothing(one) for one in self._phases("target"))
        phases = (phases[0].model_copy(update={"optimizer_state": "reset"}), *phases[1:])
        if job.way != ADAPTED:
            return bare.model_copy(update={"backbone": start, "phases": phases})
        adaptation = self.recipe.adaptation
        if adaptation is None:
            adaptation = recipes.Adaptation(methods=(recipes.Method(name=FALLBACK),))
            phases = tuple(_with_statistics(one) for one in phases)
        return bare.model_copy(update={"backbone": start, "phases": phases, "adaptation": adaptation})

    def start_of(self, job: Job, runs: Path) -> Path:
        """Return the run that another begins with."""
        if job.way != ADAPT_THEN_FINE_TUNE:
            return runs / Job(SOURCE, job.seed).name
        return self.adapted_of(job.seed, runs)

    def adapted_of(self, seed: int, runs: Path) -> Path:
        """Return the run folder of the model that was adapted without labels.

        Where the recipe names ways to adapt, it is the chosen one; else AdaBN's, which is not chosen but taken.
        """
        adapted = runs / Job(ADAPTED, seed).name
        return adapted if self.recipe.adaptation else adapted / "runs" / FALLBACK

    def _phases(self, domain: str) -> tuple[recipes.Phase, ...]:
        return tuple(one for one in self.recipe.phases if one.domain == domain)

    def _target(self, groups_per_class: int) -> recipes.Target:
        target = self.recipe.target
        assert target is not None
        if not groups_per_class:
            return target.model_copy(update={"labels": "none", "few": None})
        few = recipes.Few(groups_per_class=groups_per_class)
        return target.model_copy(update={"labels": "few", "few": few})


def scratch_phase(epochs: int) -> recipes.Phase:
    """Return the phase of random weights: a rate and a length of its own, or it is no comparison."""
    return recipes.Phase(
        name="scratch", domain="target", epochs=epochs, learning_rate=1e-3, trainable="all",
        batch_norm="trainable", keep="last",
    )  # fmt: skip


def _steered_by_nothing(phase: recipes.Phase) -> recipes.Phase:
    """Return a phase that ends with its last epoch: a few labelled patients leave none to validate with."""
    return phase.model_copy(update={"keep": "last", "early_stopping": None})


def _with_statistics(phase: recipes.Phase) -> recipes.Phase:
    if phase.batch_norm != "frozen":
        return phase
    return phase.model_copy(update={"batch_norm": "statistics"})


RECIPE, REQUEST = "recipe.yaml", "request.json"
"""Written when a curve begins, `RECIPE` last: a folder that holds it can be resumed."""
MAX_KEYS_SHOWN = 10


def to_resume(name: str, out: Path | None) -> Run:
    """Return the folder of the curve to go on with: `out`, or the only unfinished one of a recipe.

    Raises:
        RequestError: there is none, or more than one, or it is finished.
    """
    run = find_unfinished_run(f"{name}-curve", out, start_file=RECIPE)
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
    words = {"data_sha256": "the images", "scratch_epochs": "--scratch-epochs"}
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
            "\n".join([f"{run.path} cannot be resumed:", *wrong]) + "\nStart a curve of its own instead."
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
    if out is None or is_new_or_empty(out):
        return
    told = f"{out} exists already and is left as it is. Name another."
    run = Run(out)
    if run.file(RECIPE).is_file() and not run.finished:
        # Whatever else lies there was written by others, and may be anything.
        with suppress(OSError, ValueError, KeyError, TypeError):
            command = resume_command(run.read_json(REQUEST), run)
            told += f" Or go on with the curve that was stopped in it: {command}"
    yield Problem("--out", told)


FEWEST_CLASSES = 2
MOST = "(the largest of --labels). Ask for fewer, or lower target.split.test_fraction"


@dataclass(frozen=True)
class Seen:
    """What was found.

    Args:
        metric: that the curve tells: `group_auc`, or `balanced_accuracy`.
        unit: what is counted: `patient`, or `image` where images belong to no group.
        fingerprints: by seed, and then by domain: sha256 of the data.
    """

    metric: str
    unit: str
    fingerprints: dict[str, dict[str, str]]


def look(plan: Plan, problems: list[Problem], out: Path | None = None) -> Seen:
    """Read and divide the images of every seed, build the network, and see that every phase can be run.

    Args:
        plan: whose recipe can be derived from: it has a target, and phases of both domains.
        problems: what was found wrong before; what is wrong beside it is added.
        out: where the curve will lie; it may not lie among the images.

    Raises:
        Problems: all that is wrong; nothing was trained, nothing was written.
    """
    print_status(f"Looking at the images of {len(plan.seeds)} seed{'s'[: len(plan.seeds) > 1]}")
    found: dict[int, Datasets] = {}
    wrong: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scrap:
        # Whatever the images are, weights that are missing are told beside what is wrong with them.
        problems += [Problem("", one) for one in _checked_text(lambda: check_weights(plan.recipe))]
        for seed in plan.seeds:
            for line in _wrong_with_seed(plan, seed, Run(Path(scrap)), found):
                wrong.setdefault(line, []).append(seed)
        problems += _with_seeds(wrong, len(plan.seeds))
        if not problems:
            problems += list(_wrong_with_phases(plan, found[plan.seeds[0]], Run(Path(scrap))))
    roots = {root for one in found.values() for root in (one.root, one.target_root) if root}
    if out is not None:
        for root in sorted(roots):
            told = _checked_text(partial(check_outside, out, root, "curve"))
            problems += [Problem("--out", line) for line in told]
    raise_all(problems)
    metric, unit = metric_of(list(found.values()))
    return Seen(metric, unit, {str(seed): one.fingerprints for seed, one in found.items()})


def raise_all(problems: list[Problem]) -> None:
    """Raise all problems together, if there are any."""
    if problems:
        once = list(dict.fromkeys(problems))
        raise Problems("The curve", once, "Nothing was trained and nothing was written.")


def _checked_text(call: Callable[[], Any]) -> Iterator[str]:
    """Make a call and yield what is wrong, one line each."""
    try:
        call()
    except Problems as error:
        yield from (str(one) for one in error.problems)
    except RequestError as error:
        yield str(error)


def _wrong_with_seed(plan: Plan, seed: int, scrap: Run, found: dict[int, Datasets]) -> Iterator[str]:
    """Yield what is wrong with the images of one seed; they are kept in `found`."""
    most = plan.labels[-1]
    recipe = plan.recipe_of(Job(FINE_TUNE, seed, most), scrap.path)
    try:
        found[seed] = load_datasets(recipe, scrap)
        yield from _wrong_with_labelled(found[seed], most)
    except Problems as error:
        for one in error.problems:
            yield f"{error.subject} {one}".replace("(groups_per_class)", MOST)
    except RequestError as error:
        yield str(error)
    if seed not in found:
        # Without asking for labels, to tell beside it what the test lacks.
        with suppress(RequestError):
            found[seed] = load_datasets(plan.recipe_of(Job(SOURCE, seed), scrap.path), scrap)
    if seed in found:
        yield from _wrong_with_test(found[seed].in_split("target_test"))


def _wrong_with_labelled(images: Datasets, number: int) -> Iterator[str]:
    """Yield classes that give fewer groups than asked, as `allow_rare` lets them."""
    groups = {(one.label, group_key(one)) for one in images.in_split("target_train")}
    holds = Counter(label for label, _ in groups)
    at_b = {one.label for split in ("target_train", "target_test") for one in images.in_split(split)}
    for name in images.class_names:
        if name in at_b and holds[name] < number:
            yield (
                f"The target, by groups outside its test set, class '{name}': has {holds[name]}, "
                f"{number} are wanted {MOST}"
            )


def _wrong_with_test(test: list[Record]) -> Iterator[str]:
    present = {record.label for record in test} - {None}
    if len(present) < FEWEST_CLASSES:
        has = "no labelled image" if not present else f"images of {min(map(str, present))} only"
        yield (
            f"target: its test has {has}, and a score needs two classes. "
            "Raise target.split.test_fraction, or label more patients of B."
        )


def _with_seeds(wrong: dict[str, list[int]], count: int) -> list[Problem]:
    """Return problems; where only some seeds have one, they are named."""
    return [
        Problem("" if len(seeds) == count else f"seed {', '.join(map(str, seeds))}", line)
        for line, seeds in wrong.items()
    ]


def _wrong_with_phases(plan: Plan, images: Datasets, scrap: Run) -> Iterator[Problem]:
    """Yield what keeps one of the four kinds of run from learning."""
    seed = plan.seeds[0]
    first = plan.recipe_of(Job(SOURCE, seed), scrap.path)
    set_determinism(seed)
    try:
        start = build_initial_model(first, images)
    except RequestError as error:
        yield Problem("", str(error))
        return
    most = plan.labels[-1]
    for job in (Job(SOURCE, seed), Job(ADAPTED, seed), Job(FINE_TUNE, seed, most), Job(SCRATCH, seed, most)):  # fmt: skip
        # A's model is not there yet: what can be run depends on the layers, not on their weights.
        recipe = plan.recipe_of(job, scrap.path).model_copy(update={"backbone": first.backbone})
        decide = partial(resolve, recipe, start, images, scrap, resume=False)
        yield from (Problem(job.way, line) for line in _checked_text(decide))


def metric_of(every: Sequence[Datasets]) -> tuple[str, str]:
    """Return the metric that all seeds can be told by, and what is counted."""
    tests = [one.of("target_test") for one in every]
    grouped = all(any(record.group is not None for record in test) for test in tests)
    two = len(every[0].class_names) == FEWEST_CLASSES
    agree = not any(_disagree(test) for test in tests)
    metric = "group_auc" if grouped and two and agree else "balanced_accuracy"
    return metric, "patient" if grouped else "image"


def _disagree(records: list[Record]) -> bool:
    """Tell whether images of one group are of several classes."""
    pairs = {(one.domain, one.group, one.label) for one in records if one.group is not None}
    return any(count > 1 for count in Counter(pair[:2] for pair in pairs).values())


TESTED, LABELLED = "target_test", "target_train"
STILL_FALLING = 0.9
"""A loss whose last fifth of epochs lies below this part of the fifth before has not come to a plateau."""
LEARNT = 0.05
"""A loss below which there is nothing left to learn, whether it falls or not."""


def collect(plan: Plan, run: Run, *, name: str, metric: str, unit: str, failed: Mapping[Job, str]) -> Curve:
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
    groups, images = _labelled(folder) if job.groups_per_class else (0, 0)
    return Point(
        way=job.way, groups_per_class=job.groups_per_class, groups=groups, images=images, seed=job.seed,
        run=folder.relative_to(run.path).as_posix(), **found,
    )  # fmt: skip


def _labelled(folder: Path) -> tuple[int, int]:
    """Return how many groups and images of the target lent their labels to a run."""
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
    scratch = [Job(SCRATCH, seed, number) for seed in plan.seeds for number in plan.labels if number]
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


RETRACING = "triggered tf.function retracing"


@contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Hold back the warning that a function is traced again and again: each run traces its own, once."""
    logger = logging.getLogger("tensorflow")

    def keep(record: logging.LogRecord) -> bool:
        return RETRACING not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


MOST_LABELS = 1_000_000
MOST_SEEDS, MOST_EPOCHS = 100, 100_000
LABELS_OPTION = "--labels"
NUMBER = re.compile(r"-?[0-9]{1,8}")
"""Not str.isdigit: it takes superscripts, too."""
MAX_WORDS_SHOWN = 5
EXAMPLE = "Write whole numbers from small to large, as --labels 0,1,2,5,10."


def read_labels(text: str) -> tuple[tuple[int, ...], list[Problem]]:
    """Return the numbers of `0,1,2,5,10`, and what is wrong with them.

    Args:
        text: whole numbers, ascending, with commas between. 0 is added where it is left out: it is A's own model.
    """
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not NUMBER.fullmatch(word)]
    numbers = tuple(int(word) for word in words if NUMBER.fullmatch(word))
    problems = [*_order_problems(numbers), *_range_problems(numbers)]
    if not wrong:
        return numbers, [*problems, *_learning_problems(numbers)]
    shown = ", ".join(repr(word[:40]) for word in wrong[:MAX_WORDS_SHOWN])
    said = "is no number" if len(wrong) == 1 else "are no numbers"
    return (), [Problem(LABELS_OPTION, f"{shown} {said} of patients. {EXAMPLE}"), *problems]


def label_problems(labels: Sequence[int]) -> Iterator[Problem]:
    """Yield what is wrong with the numbers of labelled groups."""
    yield from _order_problems(labels)
    yield from _range_problems(labels)
    yield from _learning_problems(labels)


def _order_problems(labels: Sequence[int]) -> Iterator[Problem]:
    for before, after in pairwise(labels):
        if after <= before:
            yield Problem(LABELS_OPTION, f"{after} stands behind {before}. {EXAMPLE}")
            break


def _range_problems(labels: Sequence[int]) -> Iterator[Problem]:
    if any(one < 0 or one > MOST_LABELS for one in labels):
        yield Problem(LABELS_OPTION, f"each is from 0 to {MOST_LABELS:,}. {EXAMPLE}")


def _learning_problems(labels: Sequence[int]) -> Iterator[Problem]:
    if not any(one > 0 for one in labels):
        yield Problem(LABELS_OPTION, f"none is above 0, so nothing would be learnt from labels. {EXAMPLE}")


def count_problems(seeds: int, scratch_epochs: int) -> Iterator[Problem]:
    """Yield what is wrong with the numbers of seeds and epochs, whatever the recipe is."""
    if not 1 <= seeds <= MOST_SEEDS:
        yield Problem("--seeds", f"is from 1 to {MOST_SEEDS}, got {seeds}.")
    if not 1 <= scratch_epochs <= MOST_EPOCHS:
        yield Problem("--scratch-epochs", f"is from 1 to {MOST_EPOCHS:,}, got {scratch_epochs}.")


def seed_problems(recipe: Recipe, seeds: int) -> Iterator[Problem]:
    """Yield that a recipe's seed leaves no room for those behind it."""
    if 1 <= seeds <= MOST_SEEDS and recipe.seed + seeds - 1 > LARGEST_SEED:
        yield Problem("seed", f"{recipe.seed} and the {seeds - 1} behind it go beyond {LARGEST_SEED}.")


def recipe_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what keeps a recipe from being one of a curve."""
    if recipe.target is None:
        yield Problem(
            "target",
            "the recipe has none, so there is no hospital B to label patients of. "
            "Take hospital-adaptation, or write target: {reader: {name: table, path: B.csv}, labels: few}.",
        )
    domains = [one.domain for one in recipe.phases]
    if recipe.source is not None:
        yield Problem(
            "source",
            "a curve trains A's model itself, so it needs A's images (data.reader), and this recipe has A's model alone. "
            "Take hospital-adaptation, where A's images are at hand: "
            "kerastl adapt-curve hospital-adaptation --set data.reader.path=A.csv --set target.reader.path=B.csv",
        )
    elif "source" not in domains:
        yield Problem("phases", "none is of domain source: the curve trains A's model itself. Add one.")
    if "target" not in domains:
        yield Problem(
            "phases",
            "none is of domain target: nothing says how to fine-tune at B. Add one, as "
            "{name: adapt, domain: target, epochs: 10, learning_rate: 1e-4, trainable: none, batch_norm: statistics}.",
        )
    elif "source" in domains[domains.index("target") :]:
        yield Problem("phases", "one of domain source stands behind one of domain target.")
    if recipe.budget is not None:
        yield Problem(
            "budget",
            "applies to one run, and a curve has many: each would train for another number of epochs. "
            "Write --set budget=null.",
        )


LABELS = (0, 1, 2, 5, 10)
IMAGE = "curve.png"
CONFIDENTIAL = (
    "The folders under runs/ hold paths, groups and images of the data: they are as confidential as these are. "
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
        Problems: the request, the images, the weights or the phases will not do; all that is wrong. Nothing was
            trained or written.
        RequestError: there is nothing to resume, or it began otherwise.
        RunFailed: a model of A broke down. A run on labels that breaks down is a point without a value.
    """
    if resume:
        to_resume(name, out)  # before any image is opened
    plan, seen = _checked(
        recipe, labels, seeds=seeds, scratch_epochs=scratch_epochs,
        out=None if resume else out, problems=list(problems),
    )  # fmt: skip
    with _opened(name, out, plan, seen, resume=resume) as run, without_retracing_warnings():
        return _progress_text(plan, seen, run, _train(plan, seen, run))


def _progress_text(plan: Plan, seen: Seen, run: Run, failed: dict[Job, str]) -> Outcome:
    """Write down what all runs came to, and mark the curve as finished."""
    # One that goes on is started with the recipe that lies in its folder, whose name says nothing.
    name = run.read_json(REQUEST)["recipe"]
    curve = collect(plan, run, name=name, metric=seen.metric, unit=seen.unit, failed=failed)
    reading = tuple(report.reading_of(curve))
    run.write_json("curve.json", curve.to_json(reading))
    write_points(run.file("curve.csv"), curve)
    report.write_curve_image(run.file(IMAGE), curve)
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
    """Return the plan and what was seen of its images, or raise all that is wrong.

    Where the numbers are wrong, the images are looked at for the least there is, to tell what is wrong with them, too.
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
    run = to_resume(name, out) if resume else create_run(f"{name}-curve", out)
    with run.locked():
        asked = request_of(plan, seen)
        if resume:
            check_same(plan, asked, run)
            remove_partial_files(run.path, skip_folders_with=RESOLVED_RECIPE)
        else:
            write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
            run.file("runs").mkdir()
            run.write_json(REQUEST, {"recipe": name, **asked})
            write_atomic(run.file(RECIPE), recipes.write(plan.recipe))
        try:
            yield run
        except BaseException:
            print_status(f"The curve goes on with: {resume_command(asked, run)}")
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
        print_status(f"Run {number} of {len(jobs)}: {words}{_left(jobs[number - 1 :], runs, seconds)}")
        started = time.perf_counter()
        try:
            _run(plan, job, inner)
        except PermanentFailure as error:
            if job.way in (SOURCE, ADAPTED):
                raise
            failed[job] = str(error).splitlines()[0]
            print_status(f"Warning: {job.name} has no model: {failed[job]}")
        seconds[job.way].append(time.perf_counter() - started)
    return failed


def _run(plan: Plan, job: Job, inner: Run) -> None:
    """Train one run from its beginning, or from where it was stopped."""
    resume = inner.file(RESOLVED_RECIPE).is_file()
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
    return f" (about {format_duration(left)} left)"
