"""Range tests of one phase of a recipe: which learning rate, by rule, with a bracket over seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kerastl import report
from kerastl.errors import RequestError
from kerastl.progress import say, track
from kerastl.recipe import Recipe
from kerastl.recipe.words import listed, nearest
from kerastl.runs import Run
from kerastl.stages.learn import training_phases
from kerastl.stages.model import find_weights, start_model
from kerastl.stages.pictures import gather_pictures
from kerastl.stages.record import make_repeatable
from kerastl.training import RangeTest, range_test


@dataclass(frozen=True)
class Rates:
    """What the range tests of a phase showed.

    Args:
        phase: its name.
        rate: the recipe's own.
        tests: one a seed.
        picture: the curves.
    """

    phase: str
    rate: float
    tests: tuple[RangeTest, ...]
    picture: Path

    def bracket(self, rule: str) -> tuple[float, float, float]:
        """Return the suggestion of a rule: its median over the seeds (of an even number the lower), least and greatest."""
        found = sorted(test.suggestions[rule] for test in self.tests)
        return found[(len(found) - 1) // 2], found[0], found[-1]


def find_rates(
    recipe: Recipe,
    *,
    name: str,
    phase: str | None = None,
    seeds: int = 3,
    steps: int = 100,
    out: Path | None = None,
) -> Rates:
    """Run range tests for one phase, from the weights that the recipe starts from. Nothing is kept but the picture.

    Args:
        recipe: checked.
        name: of the recipe, for the file and the title.
        phase: by name; None: the first.
        seeds: how many tests, each with another order of the pictures and another new head.
        steps: of each test.
        out: the picture, a new `.png`; None: `lr-<name>-<phase>.png`, or the first free with a number from 2 on.

    Raises:
        RequestError: no such phase, the data or the weights will not do, or `out` is taken.
        RunFailed: the loss was no number from the start.
    """
    names = [one.name for one in recipe.phases]
    if phase is not None and phase not in names:
        near = nearest(phase, names)
        hint = f"Did you mean '{near}'? " if near else ""
        raise RequestError(f"There is no phase '{phase}'. {hint}Phases: {listed(names)}.")
    place = names.index(phase) if phase is not None else 0
    file = _free_file(out, f"lr-{name}-{names[place]}")
    if place:
        say(
            f"'{names[place]}' is tested from the weights that the recipe starts from: no phase was run before."
        )
    make_repeatable(recipe.seed)
    find_weights(recipe)
    tests = []
    with tempfile.TemporaryDirectory() as scratch:
        pictures = gather_pictures(recipe, Run(Path(scratch)))
        tested = training_phases(recipe)[place]
        split = "train" if tested.domain == "source" else "target_train"
        for seed in track(range(recipe.seed, recipe.seed + seeds), "range tests"):
            seeded = replace(recipe, seed=seed)
            model = start_model(seeded, pictures).model
            source = pictures.source(seeded, split, training=True)
            tests.append(range_test(model, source, phase=tested, steps=steps))
    report.write_rates(file, tests, title=f"{name}: {tested.name}", rate=tested.learning_rate)
    return Rates(tested.name, tested.learning_rate, tuple(tests), file)


def _free_file(out: Path | None, stem: str) -> Path:
    """Return the file to write; nothing is overwritten."""
    if out is not None:
        if out.suffix.lower() != ".png":
            raise RequestError(f"--out: must be a file that ends in .png, got {out}.")
        if out.exists():
            raise RequestError(f"{out} exists already. Name another: --out FILE.png")
        if not out.parent.is_dir():
            raise RequestError(
                f"There is no folder {out.parent}. Make it first, or name another: --out FILE.png"
            )
        return out
    return next(path for path in _numbered(stem) if not path.exists())


def _numbered(stem: str) -> Sequence[Path]:
    return [Path(f"{stem}.png"), *(Path(f"{stem}-{number}.png") for number in range(2, 10_000))]
