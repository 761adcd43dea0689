"""Curves with planted scores, and recipes of two phantom hospitals."""

from kerastl import recipe as recipes
from kerastl.report import Curve, Point, Tested
from kerastl.workflows.check_recipe import check_recipe

WAYS = ("fine_tune", "adapt_then_fine_tune", "scratch")


def planted(scores, *, seeds=3, metric="group_auc", unit="patient", notes=(), recipe="two") -> Curve:
    """From {(way, number): [score of each seed]}; None is a run without a model."""
    numbers = tuple(sorted({number for _, number in scores}))
    points = tuple(
        Point(
            way, number, 2 * number, 10 * number, 7 + place, value, None, None,
            "" if value is not None else "the loss became nan", f"runs/seed_{7 + place}_{way}_{number}",
        )
        for (way, number), values in scores.items()
        for place, value in enumerate(values)
    )  # fmt: skip
    every = tuple(range(7, 7 + seeds))
    tested = tuple(Tested(seed, 30, 150, "adabn", "") for seed in every)
    return Curve(
        recipe,
        "small_cnn, A's model from random weights",
        metric,
        unit,
        WAYS,
        numbers,
        every,
        points,
        tested,
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
