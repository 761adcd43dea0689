"""Curves with given scores, and recipes of two phantom hospitals."""

from kerastl import recipe as recipes
from kerastl.report import Curve, Point, TargetTest
from kerastl.workflows.check_recipe import check_recipe

STRATEGIES = ("fine_tune", "adapt_then_fine_tune", "scratch")


def make_curve(scores, *, seeds=3, metric="group_auc", unit="patient", notes=(), recipe="two") -> Curve:
    """Return a curve from {(strategy, labels): [score per seed]}; None for a failed run."""
    numbers = tuple(sorted({number for _, number in scores}))
    points = tuple(
        Point(
            strategy, number, 2 * number, 10 * number, 7 + index, value, None, None,
            "" if value is not None else "the loss became nan", f"runs/seed_{7 + index}_{strategy}_{number}",
        )
        for (strategy, number), values in scores.items()
        for index, value in enumerate(values)
    )  # fmt: skip
    every = tuple(range(7, 7 + seeds))
    tests = tuple(TargetTest(seed, 30, 150, "adabn", "") for seed in every)
    return Curve(
        recipe,
        "small_cnn, A's model from random weights",
        metric,
        unit,
        STRATEGIES,
        numbers,
        every,
        points,
        tests,
        notes,
    )


SIZE = "patients: 12, slices_per_patient: 2, image_size_px: 32"


def hospitals(name="hospital-adaptation", *sets) -> recipes.Recipe:
    """Return a shipped recipe on two small phantom hospitals."""
    small = (
        f"data.reader={{name: phantom, hospital: a, {SIZE}}}",
        f"target.reader={{name: phantom, hospital: b, {SIZE}}}",
        "data.image_size_px=32",
        "backbone={name: small_cnn, weights: none}",
        "phases=[{name: source, epochs: 2, learning_rate: 1e-3, trainable: all},"
        " {name: adapt, domain: target, epochs: 2, learning_rate: 1e-3, trainable: none, batch_norm: statistics,"
        " early_stopping: 3, optimizer_state: keep}]",
    )
    return check_recipe(recipes.find(name), [*small, *sets])
