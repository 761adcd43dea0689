"""The main job on phantom hospitals: train at A, see it fail at B, adapt with a few patients of B, export, verify.

Phantoms are drawn by physics and prove nothing clinical.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl import recipe as recipes
from kerastl.augment import named_policy
from kerastl.console import print_status
from kerastl.evaluation import Predictions, paired_difference, read_predictions
from kerastl.models import find_cached_weights
from kerastl.recipe import Recipe
from kerastl.runs import Run, read_csv
from kerastl.workflows import run as runner
from kerastl.workflows.evaluate import write_summary

RECIPE = "quickstart"
METRIC = "group_auc"
BORROWED = (
    "backbone={name: mobilenet_v2, weights: imagenet, alpha: 0.35}",
    "data.image_size_px=96",
    "phases[0].epochs=10",
)
"""What changes where ImageNet weights are cached and asked for."""
SCRATCH_PHASES = (
    "phases=[{name: scratch, domain: target, epochs: 40, learning_rate: 1e-3, trainable: all,"
    " batch_norm: trainable, keep: last}]"
)
"""From random weights, with a rate and a length of its own that reach a plateau: or it is no comparison."""


@dataclass(frozen=True)
class Outcome:
    """What the quickstart came to.

    Args:
        run: of the adapted model; the model from scratch lies in `runs/scratch` inside it.
        rows: `(what, metric)` in the order of the story; metric is `{"value", "low", "high"}`.
        differences: likewise, with `outcome` beside the interval.
        groups: number of target patients that were labelled for training.
    """

    run: Run
    rows: tuple[tuple[str, dict[str, Any]], ...]
    differences: tuple[tuple[str, dict[str, Any]], ...]
    groups: int

    def values(self) -> list[float]:
        """Return the point estimates of the rows."""
        return [row["value"] for _, row in self.rows]


def load(seed: int | None, backbone: str, *, extra: tuple[str, ...] = ()) -> Recipe:
    """Return the quickstart's recipe with a seed and a backbone."""
    sets = [] if seed is None else [f"seed={seed}"]
    if backbone == "mobilenet_v2":
        if find_cached_weights("mobilenet_v2", image_size_px=96, alpha=0.35):
            sets += BORROWED
        else:
            print_status(
                "No ImageNet weights of mobilenet_v2 are cached: small_cnn from random weights instead."
            )
    found = recipes.find(RECIPE)
    return recipes.check(
        found.text, name=RECIPE, policy_of=named_policy, sets=[*sets, *extra],
    )  # fmt: skip


def run_quickstart(
    *, out: Path | None = None, seed: int | None = None, backbone: str = "small_cnn"
) -> Outcome:
    """Run the whole story and return its figures.

    Args:
        out: run folder; None: the next free `runs/quickstart-<n>`.
        seed: None: the recipe's.
        backbone: `small_cnn`, or `mobilenet_v2` where ImageNet weights are cached.

    Raises:
        RunFailed: a proof did not hold.
    """
    print_status("1/3  Train at hospital A, then adapt to hospital B with a few of its patients (phantoms)")
    run = runner.run(load(seed, backbone), name=RECIPE, out=out)
    print_status("2/3  For comparison: train from scratch on the same few patients of B")
    alone = load(seed, "small_cnn", extra=(SCRATCH_PHASES, "export.formats=[]"))
    scratch = runner.run(alone, name=RECIPE, out=run.file("runs") / "scratch")
    write_summary(run)
    print_status("3/3  Compare on patients of B that no model has seen")
    return _outcome(run, scratch)


def _outcome(run: Run, scratch: Run) -> Outcome:
    adapted = run.read_json("scores.json")
    before = Run(run.file("runs") / "source_only").read_json("scores.json")
    alone = scratch.read_json("scores.json")
    rows = (
        ("hospital A, model of A", before["test"]["overall"][METRIC]),
        ("hospital B, model of A unchanged", before["target_test"]["overall"][METRIC]),
        ("hospital B, adapted", adapted["target_test"]["overall"][METRIC]),
        ("hospital B, from scratch on the same few", alone["target_test"]["overall"][METRIC]),
    )
    judged = _on_target(run)
    differences = tuple(
        (what, paired_difference(_on_target(other), judged, metric=METRIC, seed=0))
        for what, other in (
            ("adapted minus unchanged", Run(run.file("runs") / "source_only")),
            ("adapted minus from scratch", scratch),
        )
    )
    return Outcome(run, rows, differences, _labelled_groups(run))


def _on_target(run: Run) -> Predictions:
    return read_predictions(run.file("predictions.csv")).of("target_test")


def _labelled_groups(run: Run) -> int:
    rows = read_csv(run.file("split.csv"))
    return len({row["group"] for row in rows if row["split"] == "target_train"})
