"""Open the test pictures, once, after training: predictions, scores, and what adaptation changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kerastl.adaptation.choosing import SOURCE_ONLY
from kerastl.evaluation import (
    Predictions,
    groups_disagree,
    load_trained,
    paired_difference,
    predict,
    score,
    write_predictions,
)
from kerastl.evaluation.source_model import read_source_model
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.pictures import Pictures

VALIDATION = ("val", "target_val")
JUDGED = ("val", "test", "target_val", "target_test")


def judge(
    recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run, *, oracle: bool = False
) -> None:
    """Predict validation and test pictures once, score them, and write both down.

    Where the model learnt from a target domain, the model before that is judged on the same pictures, and
    `adaptation.json` says what adapting changed. Candidates that were not chosen are judged on validation pictures alone.

    Args:
        recipe: how the scores are made.
        model: with its final weights.
        pictures: the splits.
        run: where the files go; so do those of the runs inside it.
        oracle: judge every candidate on the test pictures, too, to see what would have been chosen by their labels.
    """
    final = _judged(recipe, model, pictures, JUDGED)
    final.write(run)
    if not (run.file("runs") / SOURCE_ONLY).is_dir():
        return
    told = _begun(recipe, run)
    judged: dict[str, Judged] = {}
    for name in told["candidates"]:
        inner = Run(run.file("runs") / name)
        if not inner.path.is_dir():
            continue  # fine-tuning without a choice: the run itself is that candidate
        if name == told["chosen"]:
            judged[name] = final
        else:
            splits = JUDGED if oracle or name == SOURCE_ONLY else VALIDATION
            network = load_trained(inner.path).model
            judged[name] = _judged(recipe, network, pictures, splits)
        judged[name].write(inner)
    run.write_json("adaptation.json", told | _opened(recipe, judged, final, oracle=oracle))
    write_summary(run)


@dataclass(frozen=True)
class Judged:
    """What a model answered, and how good that is.

    Args:
        predictions: of all pictures that it is judged on.
        scores: of these.
    """

    predictions: Predictions
    scores: dict[str, Any]

    @property
    def target_test(self) -> Any:
        """The overall scores of the target's test pictures."""
        return self.scores["target_test"]["overall"]

    def write(self, run: Run) -> None:
        """Write both down in a run folder."""
        write_predictions(run.file("predictions.csv"), self.predictions)
        run.write_json("scores.json", self.scores)


def _judged(
    recipe: Recipe, model: keras.Model, pictures: Pictures, splits: Sequence[str]
) -> Judged:
    records = [record for split in splits for record in pictures.of(split)]
    predictions, asked = predict(model, pictures.source_of(recipe, records)), recipe.evaluation
    scores = score(
        predictions, seed=recipe.seed, resamples=asked.resamples, positive=asked.positive,
        specificity=asked.specificity, sensitivity=asked.sensitivity,
        elsewhere=read_source_model(recipe.source.model).validation if recipe.source else None,
    )  # fmt: skip
    return Judged(predictions, scores)


def _begun(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Return `adaptation.json` as the choice left it, or for a recipe that names one way to adapt."""
    if recipe.adapts_by is not None:
        told: dict[str, Any] = run.read_json("adaptation.json")
        return told
    return {
        "candidates": {SOURCE_ONLY: {"validators": {}}, "fine_tune": {"validators": {}}},
        "chosen": "fine_tune",
        "verdict": "cannot_tell",
        "reason": f"{_why_one(recipe)}; no other was compared without labels. Whether it helped is under "
        "target_test.",
        "target_test": None,
        "oracle": None,
    }


def _why_one(recipe: Recipe) -> str:
    """Return why the target's labels were learnt from, and nothing else was tried."""
    if recipe.adaptation is None:
        return "The recipe names one method, fine-tuning on the target's labels"
    return "Labels of the target may be used, so the model was fine-tuned on these"


def _opened(
    recipe: Recipe, judged: Mapping[str, Judged], final: Judged, *, oracle: bool
) -> dict[str, Any]:
    """Return what the labels of the target's test pictures say of the choice; nothing where there are none."""
    before = judged[SOURCE_ONLY]
    first, second = (one.predictions.of("target_test") for one in (before, final))
    if not first.paths:
        return {}
    patients = any(first.groups) and not groups_disagree(first)
    metric = "group_auc" if patients else "auc"
    difference = paired_difference(
        first, second, metric=metric, seed=recipe.seed, resamples=recipe.evaluation.resamples
    )
    opened: dict[str, Any] = {
        "target_test": {
            "source_only": before.target_test,
            "chosen": final.target_test,
            "difference": {"metric": metric, **difference},
        }
    }
    if oracle:
        opened["oracle"] = {name: one.target_test for name, one in judged.items()}
    return opened


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
