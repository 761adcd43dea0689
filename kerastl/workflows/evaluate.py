"""Open the test images, once, after training: predictions, scores, and what adaptation changed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from kerastl.adaptation import SOURCE_ONLY
from kerastl.evaluation import (
    Predictions,
    groups_disagree,
    load_trained,
    paired_difference,
    write_predictions,
)
from kerastl.evaluation.bootstrap import no_value, plain, single_threaded
from kerastl.evaluation.inference import predict
from kerastl.evaluation.scores import score
from kerastl.evaluation.trained_model import read_unverified_model
from kerastl.recipe import Recipe
from kerastl.runs import Run
from kerastl.selection.domain_classifier import (
    domain_auc,
    is_above_chance,
    prevalence_weights,
    site_label_auc,
)
from kerastl.selection.evidence import Outputs
from kerastl.workflows.collect_outputs import HeldOut, Look, followed_in, look, several_domains
from kerastl.workflows.datasets import Datasets

LAYER = "pooled"
MOST_DOMAINS = 30


def sites_of(recipe: Recipe, images: Datasets, held_out: HeldOut, before: Look) -> dict[str, Any]:
    """Return what `scores.json` says of the sites, by the model that was not adapted.

    Args:
        recipe: its seed and resamples.
        images: training images of the source tell whether the site tells the label.
        held_out: what the model was shown.
        before: what it made of that.

    Returns:
        `{"layer", "target": {"source_splits", "target_splits", "before": M, "after": None}, "domains": {name: M}, "label":
        M, "warnings": [...]}`, M an AUC with its interval; without a target, or with one domain at the source, the parts
        about them are None.
    """
    several, how = several_domains(images), _how(recipe)
    label = _label(images, several, how)
    domains = _domains(before.val, held_out, several, how)
    target: dict[str, Any] | None = None
    if before.target is not None:
        target = {"source_splits": ["val"], "target_splits": list(held_out.target_splits)}
        target |= {"before": _apart(before.val, before.target, how), "after": None}
    told = {
        "layer": LAYER,
        "target": target,
        "domains": domains,
        "label": label,
        "warnings": _warnings(label, domains),
    }
    found: dict[str, Any] = plain(told)
    return found


def with_after(recipe: Recipe, told: dict[str, Any], after: Look | None) -> dict[str, Any]:
    """Return what `sites_of` told, with how well an adapted model still tells the target; None: none was adapted."""
    if after is None or after.target is None or told["target"] is None:
        return told
    apart = _apart(after.val, after.target, _how(recipe))
    return told | {"target": told["target"] | {"after": plain(apart)}}


def _how(recipe: Recipe) -> dict[str, Any]:
    return {"seed": recipe.seed, "resamples": recipe.evaluation.resamples}


def rest_of(seen: Look, shift: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the estimated prevalence leaves unexplained: it holds where nothing but prevalence differs.

    Args:
        seen: by the model that the prevalence was estimated with.
        shift: `label_shift` of its scores.
        how: `seed` and `resamples`.

    Returns:
        `{"explained", "rest"}`: the AUC by which the target's images are told from the source's, these weighed to the
        prevalence that EM found, and whether its interval reaches down to 0.5; None: that cannot be told.
    """
    if seen.target is None or "classes" not in shift:
        return {"explained": None, "rest": None}
    found, wanted = ([one[name]["value"] for one in shift["classes"].values()] for name in ("source", "em"))
    weights = prevalence_weights(seen.val.known_labels, found, wanted)
    rest = _apart(seen.val, seen.target, {**how, "weights_a": weights})
    told: dict[str, Any] = plain({"rest": rest})
    apart = is_above_chance(rest)
    return {"explained": None if apart is None else not apart, **told}


def _apart(a: Outputs, b: Outputs, how: dict[str, Any]) -> dict[str, Any]:
    return domain_auc(a.features, b.features, a.units, b.units, **how)


def _domains(
    val: Outputs, held_out: HeldOut, several: list[str], how: dict[str, Any]
) -> dict[str, Any] | None:
    """Return how well each domain of the source is told from its others, by validation images."""
    if not several:
        return None
    if len(several) > MOST_DOMAINS:
        reason = f"{len(several)} domains are more than {MOST_DOMAINS}"
        return {name: no_value(reason) for name in several}
    place = np.array([record.domain or "" for record in held_out.val.records])
    units = np.array(val.units)
    found: dict[str, Any] = {}
    for name in several:
        mine = place == name
        if len(several) == 2 and found:
            found[name] = found[several[0]]  # to tell the first from the second is the same
        elif mine.all() or not mine.any():
            found[name] = no_value("no validation image of this domain, or of another")
        else:
            rows = val.features[mine], val.features[~mine]
            found[name] = domain_auc(*rows, list(units[mine]), list(units[~mine]), **how)
    return found


def _label(images: Datasets, several: list[str], how: dict[str, Any]) -> dict[str, Any] | None:
    records = [record for record in images.in_split("train") if record.domain and record.label]
    if not several or len({record.label for record in records}) < 2:
        return None
    labels = np.array([images.class_names.index(record.label or "") for record in records])
    sites = [record.domain or "" for record in records]
    groups = [f"{one.domain}/{one.group}" if one.group else "" for one in records]
    return {"from": "train", "sites": several} | site_label_auc(sites, labels, groups, **how)


def _warnings(label: dict[str, Any] | None, domains: dict[str, Any] | None) -> list[str]:
    if label is None or not label["shortcut"]:
        return []
    seen = any(is_above_chance(one) for one in (domains or {}).values())
    text = (
        "Among the training images the site alone predicts the label "
        f"(AUC {label['value']:.2f}, {label['low']:.2f} to {label['high']:.2f})"
    )
    if seen:
        text += ", and the model's features tell the sites apart"
    return [
        f"{text}. It may have learnt to know hospitals where it should know diseases: its scores at these sites say "
        "little of another one. Judge it where it never learnt, or even out the classes at each site."
    ]


VALIDATION = ("val", "target_val")
JUDGED = ("val", "test", "target_val", "target_test")


@single_threaded()
def evaluate(recipe: Recipe, model: keras.Model, images: Datasets, run: Run, *, oracle: bool = False) -> None:
    """Predict validation and test images once, score them, and write both down.

    Where the model learnt from a target domain, the model before that is judged on the same images, and
    `adaptation.json` says what adapting changed. Candidates that were not chosen are judged on validation images alone.

    Args:
        recipe: how the scores are made.
        model: with its final weights.
        images: the splits.
        run: where the files go; so do those of the runs inside it.
        oracle: judge every candidate on the test images, too, to see what would have been chosen by their labels.
    """
    held_out = HeldOut.of(recipe, images)
    adapts = (run.file("runs") / SOURCE_ONLY).is_dir()
    told: dict[str, Any] = {"chosen": SOURCE_ONLY, "candidates": {}}
    if adapts:
        told = _begun(recipe, run)
    elsewhere = read_unverified_model(recipe.source.model).validation if recipe.source else None
    judging = partial(_judged, recipe, images=images, elsewhere=elsewhere)
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
    _tell_sites(recipe, images, held_out, judged.get(SOURCE_ONLY, final), [final, *others])
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
        predictions: of all images that it is judged on.
        scores: of these.
        seen: what the model makes of images that no model learnt from; None: that was not asked.
    """

    predictions: Predictions
    scores: dict[str, Any]
    seen: Look | None

    @property
    def target_test(self) -> Any:
        """The overall scores of the target's test images."""
        return self.scores["target_test"]["overall"]

    def write(self, run: Run) -> None:
        """Write both down in a run folder."""
        write_predictions(run.file("predictions.csv"), self.predictions)
        run.write_json("scores.json", self.scores)


def _judged(
    recipe: Recipe,
    model: keras.Model,
    *,
    images: Datasets,
    splits: Sequence[str],
    held_out: HeldOut | None,
    name: str,
    elsewhere: dict[str, Any] | None,
) -> Judged:
    """Judge one model, a candidate of that name, on images of some splits.

    Images of the target without labels are answered, too, where the model is shown `held_out`: its prevalence is estimated.
    `elsewhere` is what validation images that are not at hand fixed of a model that came without.
    """
    asked = recipe.evaluation
    if held_out is not None:
        splits = (*splits, *_without_labels(images))
    records = [record for split in splits for record in images.in_split(split)]
    predictions = predict(model, images.dataset(recipe, records))
    seen, source_val = None, None
    if held_out is not None:
        followed = followed_in(recipe, name, model)
        seen = look(model, held_out, followed)
        if followed is not None:
            source_val = dataclasses.replace(predictions.of("val"), logits=seen.val.logits)
    training_counts = Counter(record.label or "" for record in images.in_split("train"))
    scores = score(
        predictions, seed=recipe.seed, resamples=asked.resamples, positive=asked.positive,
        specificity=asked.specificity, sensitivity=asked.sensitivity,
        source_val=source_val, training_counts=training_counts,
        elsewhere=elsewhere,
    )  # fmt: skip
    if seen is not None and "label_shift" in scores:
        how = {"seed": recipe.seed, "resamples": asked.resamples}
        scores["label_shift"] |= rest_of(seen, scores["label_shift"], how)
    return Judged(predictions, scores, seen)


def _without_labels(images: Datasets) -> list[str]:
    """Return the split of the target's unlabelled images where they are like its patients as a whole.

    Where some of each class were picked to be labelled, the others are not: a class may be left out of them.
    """
    test, picked = images.in_split("target_test"), images.in_split("target_train")
    return [] if test and picked else ["target_unlabelled"]


def _tell_sites(
    recipe: Recipe, images: Datasets, held_out: HeldOut | None, before: Judged, judged: Sequence[Judged]
) -> None:
    """Add to the scores of each model what is known of the sites, where there are several.

    Those of the model that was not adapted tell what they would as a run of its own: nothing of another model.
    """
    if held_out is None or before.seen is None:
        return
    told = sites_of(recipe, images, held_out, before.seen)
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


def _opened(recipe: Recipe, judged: Mapping[str, Judged], final: Judged, *, oracle: bool) -> dict[str, Any]:
    """Return what the labels of the target's test images say of the choice; nothing where there are none."""
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
