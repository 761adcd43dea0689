"""What can be seen to be wrong with the request for a curve before any picture is opened. No TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from kerastl.errors import Problem
from kerastl.recipe import LARGEST_SEED, Recipe

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
        yield Problem(
            LABELS_OPTION, f"none is above 0, so nothing would be learnt from labels. {EXAMPLE}"
        )


def count_problems(seeds: int, scratch_epochs: int) -> Iterator[Problem]:
    """Yield what is wrong with the numbers of seeds and epochs, whatever the recipe is."""
    if not 1 <= seeds <= MOST_SEEDS:
        yield Problem("--seeds", f"is from 1 to {MOST_SEEDS}, got {seeds}.")
    if not 1 <= scratch_epochs <= MOST_EPOCHS:
        yield Problem("--scratch-epochs", f"is from 1 to {MOST_EPOCHS:,}, got {scratch_epochs}.")


def seed_problems(recipe: Recipe, seeds: int) -> Iterator[Problem]:
    """Yield that a recipe's seed leaves no room for those behind it."""
    if 1 <= seeds <= MOST_SEEDS and recipe.seed + seeds - 1 > LARGEST_SEED:
        yield Problem(
            "seed", f"{recipe.seed} and the {seeds - 1} behind it go beyond {LARGEST_SEED}."
        )


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
            "a curve trains A's model itself, so it needs A's pictures (data.reader), and this recipe has A's model alone. "
            "Take hospital-adaptation, where A's pictures are at hand: "
            "kerastl adapt-curve hospital-adaptation --set data.reader.path=A.csv --set target.reader.path=B.csv",
        )
    elif "source" not in domains:
        yield Problem(
            "phases", "none is of domain source: the curve trains A's model itself. Add one."
        )
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
