"""Open the test pictures, once, after training: predictions, scores, and what adaptation changed."""

from __future__ import annotations

from typing import Any

import keras

from kerastl.evaluation import (
    Predictions,
    groups_disagree,
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
        write_summary(run)


def _judge_one(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> Predictions:
    records = [record for split in JUDGED for record in pictures.of(split)]
    predictions = predict(model, pictures.source_of(recipe, records))
    write_predictions(run.file("predictions.csv"), predictions)
    run.write_json("scores.json", _scores(recipe, predictions))
    return predictions


def _scores(recipe: Recipe, predictions: Predictions) -> dict[str, Any]:
    asked = recipe.evaluation
    return score(
        predictions, seed=recipe.seed, resamples=asked.resamples, positive=asked.positive,
        specificity=asked.specificity, sensitivity=asked.sensitivity,
    )  # fmt: skip


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
    first, second = (predictions.of("target_test") for predictions in (before, after))
    if first.paths:
        patients = any(first.groups) and not groups_disagree(first)
        metric = "group_auc" if patients else "auc"
        difference = paired_difference(
            first, second, metric=metric, seed=recipe.seed, resamples=recipe.evaluation.resamples
        )
        told["target_test"] = {
            "source_only": _scores(recipe, first)["target_test"]["overall"],
            "chosen": _scores(recipe, second)["target_test"]["overall"],
            "difference": {"metric": metric, **difference},
        }
    return told


def write_summary(run: Run) -> None:
    """Write `summary.json`: the overall scores of the run and of each run inside it, split by split."""
    inner = {path.parent.name: path for path in sorted(run.file("runs").glob("*/scores.json"))}
    told = {
        name: {
            split: figures["overall"]
            for split, figures in Run(path.parent).read_json(path.name).items()
            if split != "interval"
        }
        for name, path in {".": run.file("scores.json"), **inner}.items()
    }
    run.write_json("summary.json", {"runs": told, "chosen": "."})
