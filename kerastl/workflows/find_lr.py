"""Range tests of one phase of a recipe: which learning rate, by rule, with a bracket over seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from kerastl import report
from kerastl.console import print_status, track
from kerastl.errors import RequestError, join_words, nearest
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.training import LearningRateTest
from kerastl.training.lr_finder import find_learning_rate
from kerastl.workflows.datasets import Datasets, load_datasets
from kerastl.workflows.model import build_initial_model, check_weights
from kerastl.workflows.phase_data import expanded_phases, training_phases
from kerastl.workflows.run_writer import set_determinism


@dataclass(frozen=True)
class Rates:
    """What the range tests of a phase showed.

    Args:
        phase: its name.
        rate: the recipe's own.
        tests: one a seed.
        image: the curves.
    """

    phase: str
    rate: float
    tests: tuple[LearningRateTest, ...]
    image: Path

    @property
    def told(self) -> int:
        """How many tests tell anything: in the others the loss did not fall beyond its noise."""
        return sum(bool(test.suggestions) for test in self.tests)

    def bracket(self, rule: str) -> tuple[float, float, float] | None:
        """Return the suggestion of a rule: its median over the seeds (of an even number the lower), least and greatest.

        None: cannot tell, as no more than half of the tests tell anything.
        """
        found = sorted(test.suggestions[rule] for test in self.tests if test.suggestions)
        if 2 * len(found) <= len(self.tests):
            return None
        return found[(len(found) - 1) // 2], found[0], found[-1]


def find_rates(
    recipe: Recipe,
    *,
    name: str,
    phase: str | None = None,
    seeds: int = 3,
    steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 3.0,
    out: Path | None = None,
) -> Rates:
    """Run range tests for one phase, from the weights that the recipe starts from. Nothing is kept but the image.

    Args:
        recipe: checked.
        name: of the recipe, for the file and the title.
        phase: by name; None: the first.
        seeds: how many tests, each with another order of the images and another new head.
        steps: of each test.
        lowest, highest: rates of the first and the last step.
        out: the image, a new `.png`; None: `lr-<name>-<phase>.png`, or the first free with a number from 2 on.

    Raises:
        RequestError: no such phase, the data or the weights will not do, or `out` is taken.
        RunFailed: the loss was no number from the start.
    """
    names = [one.name for one in recipe.phases]
    place = _place_of(phase, names)
    if not lowest < highest:
        raise RequestError(f"The rates must rise: lowest is {lowest:g}, highest {highest:g}.")
    file = _free_file(out, f"lr-{name}-{names[place]}")
    if place:
        print_status(
            f"'{names[place]}' is tested from the weights that the recipe starts from: no phase was run before."
        )
    set_determinism(recipe.seed)
    check_weights(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        images = load_datasets(recipe, Run(Path(scratch)))
        owners = [owner for owner, _ in expanded_phases(recipe)]
        tested = training_phases(recipe)[owners.index(place)]
        split = "train" if tested.domain == "source" else "target_train"
        if not images.in_split(split):
            raise RequestError(
                f"phase {tested.name}: there are no labelled images of its domain, {tested.domain}."
            )
        source = images.dataset(recipe, images.in_split(split), training=True)
        models = _models(recipe, images, seeds)
        tests = [
            find_learning_rate(
                model, source, phase=tested, lowest=lowest, highest=highest, steps=steps,
                first_epoch=number * steps,
            )
            for number, model in enumerate(track(models, "range tests", seeds))
        ]  # fmt: skip
    report.write_rates(file, tests, title=f"{name}: {names[place]}", rate=tested.learning_rate)
    return Rates(names[place], tested.learning_rate, tuple(tests), file)


def _place_of(phase: str | None, names: Sequence[str]) -> int:
    """Return the place of a phase by its name, the first where none is given."""
    if phase is None:
        return 0
    if phase not in names:
        near = nearest(phase, names)
        hint = f"Did you mean '{near}'? " if near else ""
        raise RequestError(f"There is no phase '{phase}'. {hint}Phases: {join_words(names)}.")
    return names.index(phase)


def _models(recipe: Recipe, images: Datasets, seeds: int) -> Iterator[keras.Model]:
    """Yield one model a seed: the backbone that the recipe starts from, and another new head.

    One backbone for all: what a frozen part of it makes of the images is then kept once for all seeds.
    """
    first = build_initial_model(recipe, images).model
    yield first
    for seed in range(recipe.seed + 1, recipe.seed + seeds):
        model = build_initial_model(recipe.model_copy(update={"seed": seed}), images).model
        for layer in model.layers:
            if layer.name != "head" and layer.weights:
                layer.set_weights(first.get_layer(layer.name).get_weights())
        yield model


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
