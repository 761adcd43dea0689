"""The learning-rate finder: range tests of one phase of a recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras

from kerastl import report
from kerastl.console import print_status, track
from kerastl.errors import RequestError, raise_request
from kerastl.recipe import Recipe
from kerastl.runs import Run, next_free_path
from kerastl.training import LearningRateTest
from kerastl.training.lr_finder import find_learning_rate
from kerastl.workflows.check_recipe import check_weights, phase_index, rate_test_problems
from kerastl.workflows.datasets import Datasets, load_datasets
from kerastl.workflows.model import build_initial_model
from kerastl.workflows.resolve import expanded_phases
from kerastl.workflows.run_writer import set_determinism


@dataclass(frozen=True)
class Rates:
    """Learning-rate range tests of one phase.

    Args:
        phase: Name of the phase.
        rate: Learning rate of the recipe.
        tests: One range test per seed.
        image: PNG file of the curves.
    """

    phase: str
    rate: float
    tests: tuple[LearningRateTest, ...]
    image: Path

    @property
    def num_conclusive(self) -> int:
        """Number of tests in which the loss decreased by more than its noise."""
        return sum(bool(test.suggestions) for test in self.tests)

    def bracket(self, rule: str) -> tuple[float, float, float] | None:
        """Return the (lower) median, minimum and maximum of a rule's suggestions over the seeds.

        None if no more than half of the tests are conclusive.
        """
        rates = sorted(test.suggestions[rule] for test in self.tests if test.suggestions)
        if 2 * len(rates) <= len(self.tests):
            return None
        return rates[(len(rates) - 1) // 2], rates[0], rates[-1]


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
    """Run learning-rate range tests of one phase, from the initial weights of the recipe. Only the figure is saved.

    Args:
        recipe: A checked recipe.
        name: Name of the recipe, for the file name and the title.
        phase: Name of the phase, or None for the first.
        seeds: Number of tests, each with a different image order and a different initial head.
        steps: Steps per test.
        lowest: Learning rate of the first step.
        highest: Learning rate of the last step.
        out: New PNG file, or None for `lr-<name>-<phase>.png`, numbered if it exists.

    Raises:
        RequestError: There is no such phase, the data or the weights cannot be used, or `out` exists.
        RunFailed: The loss was not finite from the start.
    """
    names = [entry.name for entry in recipe.phases]
    raise_request(rate_test_problems(recipe, phase, lowest, highest, out))
    index = phase_index(recipe, phase)
    file = out or next_free_path(f"lr-{name}-{names[index]}", ".png")
    if index:
        print_status(
            f"Phase '{names[index]}' is tested from the initial weights of the recipe, without the phases before it."
        )
    set_determinism(recipe.seed)
    check_weights(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        images = load_datasets(recipe, Run(Path(scratch)))
        images.print()
        tested = next(part for owner, part in expanded_phases(recipe) if owner == index)
        split = "train" if tested.domain == "source" else "target_train"
        if not images.in_split(split):
            raise RequestError(
                f"Phase {tested.name}: there are no labeled images of its domain, {tested.domain}."
            )
        source = images.dataset(images.in_split(split), training=True)
        models = _models(recipe, images, seeds)
        tests = [
            find_learning_rate(
                model, source, phase=tested, lowest=lowest, highest=highest, steps=steps,
                first_epoch=number * steps,
            )
            for number, model in enumerate(track(models, "range tests", seeds))
        ]  # fmt: skip
    report.write_rates(file, tests, title=f"{name}: {names[index]}", rate=tested.learning_rate)
    return Rates(names[index], tested.learning_rate, tuple(tests), file)


def _models(recipe: Recipe, images: Datasets, seeds: int) -> Iterator[keras.Model]:
    """Yield one model per seed, with the same backbone and a different initial head.

    Because the backbone is the same, all seeds share one feature cache.
    """
    first = build_initial_model(recipe, images).model
    yield first
    for seed in range(recipe.seed + 1, recipe.seed + seeds):
        model = build_initial_model(recipe.model_copy(update={"seed": seed}), images).model
        for layer in model.layers:
            if layer.name != "head" and layer.weights:
                layer.set_weights(first.get_layer(layer.name).get_weights())
        yield model
