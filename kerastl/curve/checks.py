"""What must hold of pictures, weights and phases before the first run of a curve; all problems together."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kerastl.console import say
from kerastl.curve.plan import ADAPTED, SOURCE, Job, Plan
from kerastl.data import Record, key_of
from kerastl.errors import Problem, Problems, RequestError
from kerastl.report.label_budget_page import FINE_TUNE, SCRATCH
from kerastl.runs import Run
from kerastl.stages import (
    Pictures,
    decide_phases,
    find_weights,
    gather_pictures,
    make_repeatable,
    start_model,
)
from kerastl.stages.pictures import check_outside

FEWEST_CLASSES = 2
MOST = "(the largest of --labels). Ask for fewer, or lower target.split.test_fraction"


@dataclass(frozen=True)
class Seen:
    """What was found.

    Args:
        metric: that the curve tells: `group_auc`, or `balanced_accuracy`.
        unit: what is counted: `patient`, or `picture` where pictures belong to no group.
        fingerprints: by seed, and then by domain: sha256 of the data.
    """

    metric: str
    unit: str
    fingerprints: dict[str, dict[str, str]]


def look(plan: Plan, problems: list[Problem], out: Path | None = None) -> Seen:
    """Read and divide the pictures of every seed, build the network, and see that every phase can be run.

    Args:
        plan: whose recipe can be derived from: it has a target, and phases of both domains.
        problems: what was found wrong before; what is wrong beside it is added.
        out: where the curve will lie; it may not lie among the pictures.

    Raises:
        Problems: all that is wrong; nothing was trained, nothing was written.
    """
    say(f"Looking at the pictures of {len(plan.seeds)} seed{'s'[: len(plan.seeds) > 1]}")
    found: dict[int, Pictures] = {}
    wrong: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scrap:
        # Whatever the pictures are, weights that are missing are told beside what is wrong with them.
        problems += [Problem("", one) for one in _checked_text(lambda: find_weights(plan.recipe))]
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
    return Seen(
        metric,
        unit,
        {str(seed): one.fingerprints for seed, one in found.items()},
    )


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


def _wrong_with_seed(
    plan: Plan, seed: int, scrap: Run, found: dict[int, Pictures]
) -> Iterator[str]:
    """Yield what is wrong with the pictures of one seed; they are kept in `found`."""
    most = plan.labels[-1]
    recipe = plan.recipe_of(Job(FINE_TUNE, seed, most), scrap.path)
    try:
        found[seed] = gather_pictures(recipe, scrap)
        yield from _wrong_with_labelled(found[seed], most)
    except Problems as error:
        for one in error.problems:
            yield f"{error.subject} {one}".replace("(groups_per_class)", MOST)
    except RequestError as error:
        yield str(error)
    if seed not in found:
        # Without asking for labels, to tell beside it what the test lacks.
        with suppress(RequestError):
            found[seed] = gather_pictures(plan.recipe_of(Job(SOURCE, seed), scrap.path), scrap)
    if seed in found:
        yield from _wrong_with_test(found[seed].of("target_test"))


def _wrong_with_labelled(pictures: Pictures, number: int) -> Iterator[str]:
    """Yield classes that give fewer groups than asked, as `allow_rare` lets them."""
    groups = {(one.label, key_of(one)) for one in pictures.of("target_train")}
    holds = Counter(label for label, _ in groups)
    at_b = {one.label for split in ("target_train", "target_test") for one in pictures.of(split)}
    for name in pictures.class_names:
        if name in at_b and holds[name] < number:
            yield (
                f"The target, by groups outside its test set, class '{name}': has {holds[name]}, "
                f"{number} are wanted {MOST}"
            )


def _wrong_with_test(test: list[Record]) -> Iterator[str]:
    present = {record.label for record in test} - {None}
    if len(present) < FEWEST_CLASSES:
        has = "no labelled picture" if not present else f"pictures of {min(map(str, present))} only"
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


def _wrong_with_phases(plan: Plan, pictures: Pictures, scrap: Run) -> Iterator[Problem]:
    """Yield what keeps one of the four kinds of run from learning."""
    seed = plan.seeds[0]
    first = plan.recipe_of(Job(SOURCE, seed), scrap.path)
    make_repeatable(seed)
    try:
        start = start_model(first, pictures)
    except RequestError as error:
        yield Problem("", str(error))
        return
    most = plan.labels[-1]
    for job in (Job(SOURCE, seed), Job(ADAPTED, seed), Job(FINE_TUNE, seed, most), Job(SCRATCH, seed, most)):  # fmt: skip
        # A's model is not there yet: what can be run depends on the layers, not on their weights.
        recipe = plan.recipe_of(job, scrap.path).model_copy(update={"backbone": first.backbone})
        decide = partial(decide_phases, recipe, start, pictures, scrap, resume=False)
        yield from (Problem(job.way, line) for line in _checked_text(decide))


def metric_of(every: Sequence[Pictures]) -> tuple[str, str]:
    """Return the metric that all seeds can be told by, and what is counted."""
    tests = [one.of("target_test") for one in every]
    grouped = all(any(record.group is not None for record in test) for test in tests)
    two = len(every[0].class_names) == FEWEST_CLASSES
    agree = not any(_disagree(test) for test in tests)
    metric = "group_auc" if grouped and two and agree else "balanced_accuracy"
    return metric, "patient" if grouped else "picture"


def _disagree(records: list[Record]) -> bool:
    """Tell whether pictures of one group are of several classes."""
    pairs = {(one.domain, one.group, one.label) for one in records if one.group is not None}
    return any(count > 1 for count in Counter(pair[:2] for pair in pairs).values())
