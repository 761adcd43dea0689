"""Open the test pictures, once, after training: predictions, scores, and what adaptation changed."""

from __future__ import annotations

from typing import Any

import keras

from kerastl.evaluation import (
    Predictions,
    load_trained,
    paired_difference,
    predict,
    score,
    write_predictions,
)
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.learn import SOURCE_ONLY
from kerastl.stages.pictures import Pictures

JUDGED = ("val", "test", "target_val", "target_test")


def judge(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> None:
    """Predict validation and test pictures once, score them, and write both down.

    Where the model learnt from a target domain, the model before that is judged on the same pictures,
    and `adaptation.json` says what the target's labels changed.
    """
    predictions = _judge_one(recipe, model, pictures, run)
    inner = Run(run.file("runs") / SOURCE_ONLY)
    if inner.path.is_dir():
        before = _judge_one(recipe, load_trained(inner.path).model, pictures, inner)
        run.write_json("adaptation.json", _adaptation(recipe, before, predictions))


def _judge_one(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> Predictions:
    records = [record for split in JUDGED for record in pictures.of(split)]
    predictions = predict(model, pictures.source_of(recipe, records))
    write_predictions(run.file("predictions.csv"), predictions)
    run.write_json("scores.json", _scores(recipe, predictions))
    return predictions


def _scores(recipe: Recipe, predictions: Predictions) -> dict[str, Any]:
    return score(predictions, seed=recipe.seed, resamples=recipe.evaluation.resamples)


def _adaptation(recipe: Recipe, before: Predictions, after: Predictions) -> dict[str, Any]:
    """Return the content of `adaptation.json` for a recipe that names one way to adapt."""
    told: dict[str, Any] = {
        "candidates": {"source_only": {"validators": {}}, "fine_tune": {"validators": {}}},
        "chosen": "fine_tune",
        "verdict": "cannot_tell",
        "reason": "The recipe names one method, fine-tuning on the target's labels; no other was compared "
        "without labels. Whether it helped is under target_test.",
        "target_test": None,
        "oracle": None,
    }
    first, second = (_only(predictions, "target_test") for predictions in (before, after))
    if first and second:
        metric = "group_auc" if any(first.groups) else "auc"
        difference = paired_difference(
            first, second, metric=metric, seed=recipe.seed, resamples=recipe.evaluation.resamples
        )
        told["target_test"] = {
            "source_only": _scores(recipe, first)["target_test"]["overall"],
            "chosen": _scores(recipe, second)["target_test"]["overall"],
            "difference": {"metric": metric, **difference},
        }
    return told


def _only(predictions: Predictions, split: str) -> Predictions | None:
    """Return the rows of one split, None when there is none."""
    rows = [index for index, name in enumerate(predictions.splits) if name == split]
    if not rows:
        return None
    return predictions.take(rows)
