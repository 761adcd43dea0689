"""The quickstart: train at phantom hospital A, adapt to hospital B with a few labeled patients, compare, export.

Phantoms are simulated images. Their scores have no clinical meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerastl import recipe as recipes
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_status
from kerastl.evaluation import Predictions, paired_difference, read_predictions
from kerastl.models import locate_weights
from kerastl.recipe import Recipe
from kerastl.runs import Adaptation, Difference, Estimate, Run, Scores, read_csv
from kerastl.workflows import run as runner
from kerastl.workflows.check_recipe import check_recipe
from kerastl.workflows.summarize import write_summary

RECIPE = "quickstart"
METRIC = "group_auc"
PRETRAINED = (
    "backbone={name: mobilenet_v2, weights: imagenet, alpha: 0.35}",
    "data.image_size_px=96",
    "phases[0].epochs=10",
)
"""Changes to the recipe for cached ImageNet weights."""
SCRATCH_PHASES = (
    "phases=[{name: scratch, domain: target, epochs: 40, learning_rate: 1e-3, trainable: all,"
    " batch_norm: trainable, keep: last}]"
)
"""Training from random weights needs its own learning rate and enough epochs for a plateau to be a fair comparison."""


@dataclass(frozen=True)
class QuickstartResult:
    """Scores of the quickstart.

    Args:
        run: The run of the adapted model. Its `runs/scratch` is the model trained from scratch.
        rows: Description and score of each model and hospital.
        differences: Description and value of each difference between two models.
        num_patients: Number of labeled target patients in the training set.
    """

    run: Run
    rows: tuple[tuple[str, Estimate], ...]
    differences: tuple[tuple[str, Difference], ...]
    num_patients: int


def load_recipe(seed: int | None, backbone: str, *, extra: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe of the quickstart with a seed, a backbone and extra settings."""
    settings = [] if seed is None else [f"seed={seed}"]
    if backbone == "mobilenet_v2":
        if locate_weights("mobilenet_v2", image_size_px=96, alpha=0.35):
            settings += PRETRAINED
        else:
            print_status(
                "No ImageNet weights of mobilenet_v2 are cached. Using small_cnn with random weights instead."
            )
    return check_recipe(recipes.find(RECIPE), [*settings, *extra])


def run_quickstart(
    *, out: Path | None = None, seed: int | None = None, backbone: str = "small_cnn"
) -> QuickstartResult:
    """Train, adapt and compare models on phantom hospitals.

    Args:
        out: The run folder; None for the next free `runs/quickstart-<n>`.
        seed: Random seed; None for the seed of the recipe.
        backbone: `small_cnn`, or `mobilenet_v2` if its ImageNet weights are cached.

    Raises:
        RunFailed: Training or a consistency check failed.
    """
    print_status(
        "1/3  Training at hospital A and adapting to hospital B with a few of its patients (phantoms)"
    )
    run = runner.run(load_recipe(seed, backbone), name=RECIPE, out=out)
    print_status("2/3  For comparison: training from scratch on the same patients from B")
    scratch_recipe = load_recipe(seed, "small_cnn", extra=(SCRATCH_PHASES, "export.formats=[]"))
    scratch = runner.run(scratch_recipe, name=RECIPE, out=run.inner("scratch").path)
    write_summary(run)
    print_status("3/3  Comparing on test patients from B")
    return _compare(run, scratch)


def _compare(run: Run, scratch: Run) -> QuickstartResult:
    source_only = run.inner(SOURCE_ONLY)
    rows = tuple(
        (description, Scores.read(inner.path).splits[split].overall[METRIC])
        for description, inner, split in (
            ("hospital A, model of A", source_only, "test"),
            ("hospital B, model of A unchanged", source_only, "target_test"),
            ("hospital B, adapted", run, "target_test"),
            ("hospital B, from scratch on the same few", scratch, "target_test"),
        )
    )
    effect = Adaptation.read(run.path).target_test
    assert effect is not None  # the target has labels
    from_scratch, adapted = _target_predictions(scratch), _target_predictions(run)
    differences = (
        # The same interval as in the report.
        ("adapted minus unchanged", effect.difference),
        (
            "adapted minus from scratch",
            Difference(**paired_difference(from_scratch, adapted, metric=METRIC, seed=0)),
        ),
    )
    labeled = [row["group"] for row in read_csv(run.file("split.csv")) if row["split"] == "target_train"]
    return QuickstartResult(run, rows, differences, len(set(labeled)))


def _target_predictions(run: Run) -> Predictions:
    return read_predictions(run.file("predictions.csv")).of("target_test")
