"""The plan of a label-budget curve: request checks, and each run's recipe. TensorFlow is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kerastl import recipe as recipes
from kerastl.errors import Problem, pluralize, shell_command
from kerastl.recipe import Recipe
from kerastl.report.label_budget_page import ADAPT_THEN_FINE_TUNE, SCRATCH, STRATEGIES
from kerastl.runs import Run, is_new_or_empty

SOURCE, ADAPTED = "source", "adapted"
DEFAULT_METHOD = "adabn"
"""The adaptation method if the recipe lists none."""


@dataclass(frozen=True)
class Job:
    """One run of a curve.

    Args:
        strategy: `source` (A's model), `adapted` (A's model adapted without labels), or one of `STRATEGIES`.
        seed: Seed of the run.
        groups_per_class: Labeled groups (patients) per class of B.
    """

    strategy: str
    seed: int
    groups_per_class: int = 0

    @property
    def name(self) -> str:
        """The name of its folder in `runs/`."""
        suffix = f"_{self.groups_per_class}" if self.groups_per_class else ""
        return f"seed_{self.seed}_{self.strategy}{suffix}"

    def describe(self, unit: str) -> str:
        """Return a description for the progress line."""
        titles = {SOURCE: "A's model", ADAPTED: "A's model adapted without labels"}
        text = f"seed {self.seed}, {titles.get(self.strategy, self.strategy)}"
        if not self.groups_per_class:
            return text
        return f"{text}, {pluralize(self.groups_per_class, unit)} per class"


@dataclass(frozen=True)
class Plan:
    """The runs of a curve.

    Args:
        recipe: A checked recipe; its target labels are replaced by those of the curve.
        labels: Labeled groups per class, ascending from 0.
        seeds: Ascending.
        scratch_epochs: Epochs of each run from random weights.
    """

    recipe: Recipe
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    scratch_epochs: int

    def jobs(self) -> list[Job]:
        """Return all runs, each after the run that it starts from."""
        jobs = []
        for seed in self.seeds:
            jobs += [Job(SOURCE, seed), Job(ADAPTED, seed)]
            jobs += [Job(strategy, seed, count) for strategy in STRATEGIES for count in self.labels if count]
        return jobs

    def recipe_of(self, job: Job, runs: Path) -> Recipe:
        """Return the recipe of one run; `runs` is the folder of all runs."""
        target = self.recipe.target
        assert target is not None
        few = recipes.Few(groups_per_class=job.groups_per_class) if job.groups_per_class else None
        domain = "source" if job.strategy == SOURCE else "target"
        phases = [phase for phase in self.recipe.phases if phase.domain == domain]
        weights, adaptation = self.recipe.backbone.weights, None
        if job.strategy == SCRATCH:
            weights, phases = "none", [_scratch_phase(self.scratch_epochs)]
        elif job.strategy != SOURCE:
            weights = self.start_of(job, runs)
            # All labeled patients from B are used for training, so none are left for validation.
            phases = [phase.model_copy(update={"keep": "last", "early_stopping": None}) for phase in phases]
            phases[0] = phases[0].model_copy(update={"optimizer_state": "reset"})
        if job.strategy == ADAPTED:
            adaptation = self.recipe.adaptation
            if adaptation is None:
                adaptation = recipes.Adaptation(methods=(recipes.Method(name=DEFAULT_METHOD),))
                phases = [_with_batch_statistics(phase) for phase in phases]
        return self.recipe.model_copy(
            update={
                "seed": job.seed,
                "backbone": self.recipe.backbone.model_copy(update={"weights": weights}),
                "phases": tuple(phases),
                "adaptation": adaptation,
                "export": self.recipe.export.model_copy(update={"formats": ()}),
                "target": target.model_copy(update={"labels": "few" if few else "none", "few": few}),
            }
        )

    def start_of(self, job: Job, runs: Path) -> Path:
        """Return the folder of the run that a run starts from."""
        if job.strategy != ADAPT_THEN_FINE_TUNE:
            return runs / Job(SOURCE, job.seed).name
        adapted = runs / Job(ADAPTED, job.seed).name
        return adapted if self.recipe.adaptation else adapted / "runs" / DEFAULT_METHOD


def _scratch_phase(epochs: int) -> recipes.Phase:
    """Return the training phase for random weights, with its own learning rate and number of epochs."""
    return recipes.Phase(
        name="scratch", domain="target", epochs=epochs, learning_rate=1e-3, trainable="all",
        batch_norm="trainable", keep="last",
    )  # fmt: skip


def _with_batch_statistics(phase: recipes.Phase) -> recipes.Phase:
    """Return a phase in which BatchNorm at least adopts B's statistics, as the default method requires."""
    if phase.batch_norm != "frozen":
        return phase
    return phase.model_copy(update={"batch_norm": "statistics"})


RECIPE, REQUEST = "recipe.yaml", "request.json"
"""Written first and last when a curve starts. A folder with `RECIPE` can be resumed."""


def resume_command(request: Mapping[str, Any], run: Run) -> str:
    """Return the command that resumes a curve; `request` is the content of its `request.json`."""
    words = (
        "kerastl", "adapt-curve", run.file(RECIPE), "--labels", ",".join(map(str, request["labels"])),
        "--seeds", len(request["seeds"]), "--scratch-epochs", request["scratch_epochs"], "--out", run.path, "--resume",
    )  # fmt: skip
    return shell_command(*words)


def out_problems(out: Path | None) -> Iterator[Problem]:
    """Yield a problem if the folder of a new curve is not empty, with the command to resume an unfinished curve."""
    if out is None or is_new_or_empty(out):
        return
    message = f"{out} already exists and is not empty. Choose another folder."
    run = Run(out)
    if run.file(RECIPE).is_file() and not run.finished:
        # The files may be damaged or written by another program.
        with suppress(OSError, ValueError, KeyError, TypeError):
            command = resume_command(run.read_json(REQUEST), run)
            message += f" To resume the unfinished curve in it: {command}"
    yield Problem("--out", message)


MAX_LABELS = 1_000_000
MAX_SEEDS, MAX_EPOCHS = 100, 100_000
NUMBER = re.compile(r"-?[0-9]{1,8}")
"""Not str.isdigit, which accepts superscripts."""
MAX_WORDS_SHOWN = 5


def read_labels(labels: Iterable[object]) -> tuple[tuple[int, ...], list[Problem]]:
    """Check numbers of labeled patients, or the words of `--labels`, such as `0`, `1`, `2` and `5`.

    Returns:
        The numbers, and their problems. The numbers are empty if one is not an integer.
    """
    words = [str(label).strip() for label in labels]
    invalid = [word for word in words if not NUMBER.fullmatch(word)]
    numbers = tuple(int(word) for word in words if NUMBER.fullmatch(word))
    messages = []
    if invalid:
        shown = ", ".join(repr(word[:40]) for word in invalid[:MAX_WORDS_SHOWN])
        messages.append(f"expects numbers of patients, got {shown}.")
    unordered = [f"{after} comes after {before}." for before, after in pairwise(numbers) if after <= before]
    messages += unordered[:1]
    if any(not 0 <= count <= MAX_LABELS for count in numbers):
        messages.append(f"each value must be from 0 to {MAX_LABELS:,}.")
    if not invalid and max(numbers) <= 0:
        messages.append("at least one value must be above 0.")
    example = "Write integers in ascending order, such as --labels 0,1,2,5,10."
    return () if invalid else numbers, [Problem("--labels", f"{line} {example}") for line in messages]


def count_problems(seeds: int, scratch_epochs: int) -> Iterator[Problem]:
    """Yield the problems of the numbers of seeds and epochs."""
    if not 1 <= seeds <= MAX_SEEDS:
        yield Problem("--seeds", f"must be from 1 to {MAX_SEEDS}, got {seeds}.")
    if not 1 <= scratch_epochs <= MAX_EPOCHS:
        yield Problem("--scratch-epochs", f"must be from 1 to {MAX_EPOCHS:,}, got {scratch_epochs}.")


def recipe_problems(recipe: Recipe, seeds: int) -> Iterator[Problem]:
    """Yield the problems that prevent a curve with this recipe and this number of seeds."""
    if recipe.seed + seeds - 1 > recipes.LARGEST_SEED:
        yield Problem(
            "seed", f"{recipe.seed} and the {seeds - 1} seeds after it exceed {recipes.LARGEST_SEED}."
        )
    if recipe.target is None:
        yield Problem(
            "target",
            "is required, because a curve uses images from hospital B. "
            "Use the recipe hospital-adaptation, or add target: {reader: {name: table, path: B.csv}, labels: few}.",
        )
    domains = [phase.domain for phase in recipe.phases]
    if recipe.source is not None:
        yield Problem(
            "source",
            "is not allowed: a curve trains A's model and needs A's images (data.reader). Use hospital-adaptation: "
            "kerastl adapt-curve hospital-adaptation --data A.csv --target B.csv",
        )
    elif "source" not in domains:
        yield Problem("phases", "no phase has domain: source, but a curve trains A's model. Add one.")
    if "target" not in domains:
        yield Problem(
            "phases",
            "no phase has domain: target, which defines the fine-tuning at B. Add one, such as "
            "{name: adapt, domain: target, epochs: 10, learning_rate: 1e-4, trainable: none, batch_norm: statistics}.",
        )
    elif "source" in domains[domains.index("target") :]:
        yield Problem("phases", "a phase with domain: source comes after one with domain: target.")
    if recipe.budget is not None:
        yield Problem(
            "budget",
            "cannot be used with a curve: its runs would train for different numbers of epochs. "
            "Use --set budget=null.",
        )
