"""Open the test pictures, once, after training: predictions, scores, and what adaptation changed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from kerastl.adaptation import SOURCE_ONLY
from kerastl.evaluation import (
    Predictions,
    groups_disagree,
    load_trained,
    paired_difference,
    write_predictions,
)
from kerastl.evaluation.bootstrap import one_thread
from kerastl.evaluation.inference import predict
from kerastl.evaluation.scores import score
from kerastl.evaluation.trained_model import told_by
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.stages.held_out import HeldOut, Look, followed_in, look
from kerastl.stages.pictures import Pictures
from kerastl.stages.sites import rest_of, sites_of, with_after

VALIDATION = ("val", "target_val")
JUDGED = ("val", "test", "target_val", "target_test")


@one_thread()
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
    held_out = HeldOut.of(recipe, pictures)
    adapts = (run.file("runs") / SOURCE_ONLY).is_dir()
    told: dict[str, Any] = {"chosen": SOURCE_ONLY, "candidates": {}}
    if adapts:
        told = _begun(recipe, run)
    elsewhere = told_by(recipe.source.model).validation if recipe.source else None
    judging = partial(_judged, recipe, pictures=pictures, elsewhere=elsewhere)
    final = judging(model, splits=JUDGED, held_out=held_out, name=told["chosen"])
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
            shown = held_out if splits == JUDGED else None
            judged[name] = judging(network, splits=splits, held_out=shown, name=name)
    others = [one for one in judged.values() if one is not final]
    _tell_sites(recipe, pictures, held_out, judged.get(SOURCE_ONLY, final), [final, *others])
    for name, one in judged.items():
        one.write(Run(run.file("runs") / name))
    final.write(run)
    if not adapts:
        return
    run.write_json("adaptation.json", told | _opened(recipe, judged, final, oracle=oracle))
    write_summary(run)


@dataclass(frozen=True)
class Judged:
    """What a model answered, and how good that is.

    Args:
        predictions: of all pictures that it is judged on.
        scores: of these.
        seen: what the model makes of pictures that no model learnt from; None: that was not asked.
    """

    predictions: Predictions
    scores: dict[str, Any]
    seen: Look | None

    @property
    def target_test(self) -> Any:
        """The overall scores of the target's test pictures."""
        return self.scores["target_test"]["overall"]

    def write(self, run: Run) -> None:
        """Write both down in a run folder."""
        write_predictions(run.file("predictions.csv"), self.predictions)
        run.write_json("scores.json", self.scores)


def _judged(
    recipe: Recipe,
    model: keras.Model,
    *,
    pictures: Pictures,
    splits: Sequence[str],
    held_out: HeldOut | None,
    name: str,
    elsewhere: dict[str, Any] | None,
) -> Judged:
    """Judge one model, a candidate of that name, on pictures of some splits.

    Pictures of the target without labels are answered, too, where the model is shown `held_out`: its prevalence is estimated.
    `elsewhere` is what validation pictures that are not at hand fixed of a model that came without.
    """
    asked = recipe.evaluation
    if held_out is not None:
        splits = (*splits, *_without_labels(pictures))
    records = [record for split in splits for record in pictures.of(split)]
    predictions = predict(model, pictures.source_of(recipe, records))
    seen, source_val = None, None
    if held_out is not None:
        followed = followed_in(recipe, name, model)
        seen = look(model, held_out, followed)
        if followed is not None:
            source_val = dataclasses.replace(predictions.of("val"), logits=seen.val.logits)
    learnt_from = Counter(record.label or "" for record in pictures.of("train"))
    scores = score(
        predictions, seed=recipe.seed, resamples=asked.resamples, positive=asked.positive,
        specificity=asked.specificity, sensitivity=asked.sensitivity,
        source_val=source_val, learnt_from=learnt_from,
        elsewhere=elsewhere,
    )  # fmt: skip
    if seen is not None and "label_shift" in scores:
        how = {"seed": recipe.seed, "resamples": asked.resamples}
        scores["label_shift"] |= rest_of(seen, scores["label_shift"], how)
    return Judged(predictions, scores, seen)


def _without_labels(pictures: Pictures) -> list[str]:
    """Return the split of the target's unlabelled pictures where they are like its patients as a whole.

    Where some of each class were picked to be labelled, the others are not: a class may be left out of them.
    """
    test, picked = pictures.of("target_test"), pictures.of("target_train")
    return [] if test and picked else ["target_unlabelled"]


def _tell_sites(
    recipe: Recipe,
    pictures: Pictures,
    held_out: HeldOut | None,
    before: Judged,
    judged: Sequence[Judged],
) -> None:
    """Add to the scores of each model what is known of the sites, where there are several.

    Those of the model that was not adapted tell what they would as a run of its own: nothing of another model.
    """
    if held_out is None or before.seen is None:
        return
    told = sites_of(recipe, pictures, held_out, before.seen)
    for one in judged:
        if one.seen is not None:
            after = one.seen if one is not before else None
            one.scores["sites"] = with_after(recipe, told, after)


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
    """Write `summary.json`: the overall scores of the run and of each run inside it, split by split.

    A run that only contains others has no scores of its own, and none of them is its model.
    """
    inner = {path.parent.name: path for path in sorted(run.file("runs").glob("*/scores.json"))}
    told = {
        name: {
            split: figures["overall"]
            for split, figures in Run(path.parent).read_json(path.name).items()
            if "overall" in figures
        }
        for name, path in {".": run.file("scores.json"), **inner}.items()
        if path.is_file()
    }
    run.write_json("summary.json", {"runs": told, "chosen": "." if "." in told else None})
