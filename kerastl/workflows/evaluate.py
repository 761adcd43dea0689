"""Evaluate the model of a run once, after training: predictions, scores, domain shift, adaptation effect."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from kerastl import selection
from kerastl.adaptation import SOURCE_ONLY
from kerastl.data import ImageDataset
from kerastl.evaluation import Predictions, groups_disagree, paired_difference, write_predictions
from kerastl.evaluation.bootstrap import no_value, round_numbers, single_threaded
from kerastl.evaluation.inference import predict
from kerastl.evaluation.operating_points import validation_temperature
from kerastl.evaluation.scores import score
from kerastl.evaluation.trained_model import weights_fingerprint
from kerastl.recipe import Phase
from kerastl.report import write_report
from kerastl.runs import Adaptation, Run, Scores, Summary
from kerastl.selection.evidence import Outputs
from kerastl.workflows.collect_outputs import (
    HeldOutData,
    HeldOutOutputs,
    compute_held_out_outputs,
    resampled_groups,
    source_domains,
)
from kerastl.workflows.datasets import VALIDATION, Datasets
from kerastl.workflows.resolve import Plan
from kerastl.workflows.run_writer import write_description
from kerastl.workflows.summarize import write_summary
from kerastl.workflows.train import Candidate, Trained

LAYER = "pooled"
MAX_DOMAINS = 30
EVALUATION_SPLITS = ("val", "test", "target_val", "target_test")


@dataclass(frozen=True)
class Evaluation:
    """Predictions and scores of a model.

    Args:
        predictions: Predictions for all evaluated images.
        scores: The content of `scores.json`.
        outputs: Outputs on held-out images; None if they were not computed.
        weights: The fingerprint of the weights.
    """

    predictions: Predictions
    scores: dict[str, Any]
    outputs: HeldOutOutputs | None
    weights: str

    @property
    def target_test(self) -> Any:
        """The overall scores on target test images."""
        return self.scores["target_test"]["overall"]

    def write(self, run: Run) -> None:
        """Write `predictions.csv` and `scores.json`."""
        write_predictions(run.file("predictions.csv"), self.predictions)
        Scores.model_validate(self.scores).write(run.path)


@single_threaded()
def evaluate(
    trained: Trained,
    candidates: Sequence[Candidate],
    adaptation: Adaptation | None,
    plan: Plan,
    datasets: Datasets,
    start: Summary,
    run: Run,
    *,
    oracle: bool = False,
) -> None:
    """Predict and score validation and test images, and write the results.

    After an adaptation, the model before adaptation is evaluated on the same images, and `adaptation.json`
    states the difference. Other candidates are evaluated on validation images only. Candidates without faults
    are marked as finished.

    Args:
        trained: The final model, and the history of the phases of the run itself.
        candidates: The candidates of the adaptation. Their results are written to their run folders.
        adaptation: The result of `select`; None if the model was not adapted.
        plan: The options of the evaluation.
        datasets: All images.
        start: What was known before training.
        run: The run folder.
        oracle: Whether to evaluate all candidates on test images, to show which one would be selected with
            target labels.
    """
    model = trained.model
    held_out, options = HeldOutData.of(datasets, model), plan.recipe.evaluation
    bootstrap = {"seed": datasets.seed, "resamples": options.resamples}
    evaluate_model = partial(_evaluate_model, plan, datasets, model, bootstrap)
    chosen = adaptation.chosen if adaptation else SOURCE_ONLY
    target_phases = {candidate.name: candidate.target_phase for candidate in candidates}
    is_estimated = held_out is not None and _unlabeled_are_representative(datasets)
    all_splits = (*EVALUATION_SPLITS, "target_unlabelled") if is_estimated else EVALUATION_SPLITS
    # Shared by all candidates, so that each image is decoded once.
    all_images, validation_images = (
        datasets.dataset(datasets.in_split(*splits)) for splits in (all_splits, VALIDATION)
    )
    final = evaluate_model(target_phases.get(chosen, plan.target_phase), all_images, held_out)
    final_weights = model.get_weights()
    evaluations: dict[str, Evaluation] = {}
    for candidate in candidates:
        if candidate.name == chosen:
            evaluations[candidate.name] = final
            continue
        model.set_weights(candidate.weights)
        is_tested = oracle or candidate.name == SOURCE_ONLY
        images = (all_images, held_out) if is_tested else (validation_images, None)
        evaluations[candidate.name] = evaluate_model(candidate.target_phase, *images)
    model.set_weights(final_weights)
    others = [evaluation for evaluation in evaluations.values() if evaluation is not final]
    _add_sites(datasets, held_out, evaluations.get(SOURCE_ONLY, final), [final, *others], bootstrap)
    for candidate in candidates:
        _write_candidate(candidate, evaluations[candidate.name], datasets, start)
    final.write(run)
    if adaptation is not None:
        effect = _adaptation_effect(evaluations, final, bootstrap, oracle=oracle)
        Adaptation.model_validate(adaptation.to_json() | effect).write(run.path)
    phases = {candidate.name: candidate.phases for candidate in candidates}
    write_summary(run, start, phases.get(chosen, trained.history.phases))
    write_description(datasets, final.weights, final.predictions.temperature, run)


def _write_candidate(
    candidate: Candidate, evaluation: Evaluation, datasets: Datasets, start: Summary
) -> None:
    """Write a candidate's results. It is finished if no check failed. Only `source_only` has a report."""
    evaluation.write(candidate.run)
    write_summary(candidate.run, start, candidate.phases, candidate.name)
    write_description(datasets, evaluation.weights, evaluation.predictions.temperature, candidate.run)
    if candidate.name == SOURCE_ONLY:
        write_report(candidate.run.path)
    if not candidate.faults:
        candidate.run.finish()


def _evaluate_model(
    plan: Plan,
    datasets: Datasets,
    model: keras.Model,
    bootstrap: dict[str, Any],
    target_phase: Phase | None,
    images: ImageDataset,
    held_out: HeldOutData | None,
) -> Evaluation:
    """Evaluate one model.

    Args:
        plan: The options of the scores, and the validation results of a source model.
        datasets: All images.
        model: The model.
        bootstrap: `seed` and `resamples`.
        target_phase: The phase in which BatchNorm adopted target statistics; None if it has source
            statistics.
        images: The evaluated images. With unlabeled images of the target, the prevalence there is estimated,
            too.
        held_out: Held-out images; None for validation images only.
    """
    predictions, options = predict(model, images), plan.recipe.evaluation
    stored_fit = plan.source_validation.to_json() if plan.source_validation else None
    if plan.recipe.export.temperature == "validation":
        temperature = validation_temperature(predictions, stored_fit)
        predictions = dataclasses.replace(predictions, temperature=temperature)
    elif stored_fit:
        stored_fit["points"] = ()  # their thresholds are for probabilities with a temperature
    outputs, source_val = None, None
    if held_out is not None:
        outputs = compute_held_out_outputs(model, held_out, target_phase)
        if target_phase is not None:
            source_val = dataclasses.replace(predictions.of("val"), logits=outputs.val.logits)
    scores = score(
        predictions, **bootstrap, positive=options.positive, specificity=options.specificity,
        sensitivity=options.sensitivity, source_val=source_val,
        training_counts=Counter(record.label or "" for record in datasets.in_split("train")),
        stored_fit=stored_fit,
    )  # fmt: skip
    if outputs is not None and "label_shift" in scores:
        scores["label_shift"] |= score_residual_shift(outputs, scores["label_shift"], bootstrap)
    return Evaluation(predictions, scores, outputs, weights_fingerprint(model))


def _unlabeled_are_representative(datasets: Datasets) -> bool:
    """Return whether unlabeled target images represent the target.

    If images of each class were selected for labeling, a class can be missing from the rest.
    """
    return not (datasets.in_split("target_test") and datasets.in_split("target_train"))


def _adaptation_effect(
    evaluations: Mapping[str, Evaluation], final: Evaluation, bootstrap: dict[str, Any], *, oracle: bool
) -> dict[str, Any]:
    """Return the effect of the adaptation on labeled target test images; empty if there are none."""
    before = evaluations[SOURCE_ONLY]
    first, second = (evaluation.predictions.of("target_test") for evaluation in (before, final))
    if not first.paths:
        return {}
    has_groups = any(first.groups) and not groups_disagree(first)
    metric = "group_auc" if has_groups else "auc"
    difference = paired_difference(first, second, metric=metric, **bootstrap)
    effect: dict[str, Any] = {
        "target_test": {
            "source_only": before.target_test,
            "chosen": final.target_test,
            "difference": {"metric": metric, **difference},
        }
    }
    if oracle:
        effect["oracle"] = {name: evaluation.target_test for name, evaluation in evaluations.items()}
    return effect


def _add_sites(
    datasets: Datasets,
    held_out: HeldOutData | None,
    before: Evaluation,
    evaluations: Sequence[Evaluation],
    bootstrap: dict[str, Any],
) -> None:
    """Add `sites` to the scores of each model, if there are several domains.

    The scores of the model before adaptation are those of a run without adaptation.
    """
    if held_out is None or before.outputs is None:
        return
    sites = score_sites(datasets, held_out, before.outputs, bootstrap)
    for evaluation in evaluations:
        if evaluation.outputs is not None:
            after = evaluation.outputs if evaluation is not before else None
            evaluation.scores["sites"] = add_adapted(sites, after, bootstrap)


def score_sites(
    datasets: Datasets, held_out: HeldOutData, before: HeldOutOutputs, bootstrap: dict[str, Any]
) -> dict[str, Any]:
    """Return `sites` for `scores.json`: how well features of the unadapted model separate the domains.

    Args:
        datasets: Source training images show whether the domain predicts the label.
        held_out: The held-out images.
        before: Outputs of the model before adaptation on these images.
        bootstrap: `seed` and `resamples`.

    Returns:
        `{"layer", "target": {"source_splits", "target_splits", "before": M, "after": None}, "domains": {name:
        M}, "label": M, "warnings": [...]}`, where M is an AUC with its interval. `target` is None without a
        target; `domains` and `label` are None with one source domain.
    """
    names = source_domains(datasets)
    label = _label_auc(datasets, names, bootstrap)
    domains = _domain_aucs(before.val, held_out, names, bootstrap)
    target: dict[str, Any] | None = None
    if before.target is not None and held_out.target is not None:
        target_splits = list(dict.fromkeys(record.split for record in held_out.target.records))
        target = {"source_splits": ["val"], "target_splits": target_splits}
        target |= {"before": _outputs_auc(before.val, before.target, bootstrap), "after": None}
    sites: dict[str, Any] = {"layer": LAYER, "target": target, "domains": domains, "label": label}
    sites["warnings"] = _warnings(label, domains)
    return {name: round_numbers(content) for name, content in sites.items()}


def add_adapted(
    sites: dict[str, Any], after: HeldOutOutputs | None, bootstrap: dict[str, Any]
) -> dict[str, Any]:
    """Return `sites` with the AUC of an adapted model; unchanged if `after` is None."""
    if after is None or after.target is None or sites["target"] is None:
        return sites
    auc = _outputs_auc(after.val, after.target, bootstrap)
    return sites | {"target": sites["target"] | {"after": round_numbers(auc)}}


def score_residual_shift(
    outputs: HeldOutOutputs, label_shift: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return whether prevalence alone explains the domain shift, which the prevalence estimate assumes.

    Args:
        outputs: Outputs of the model that the prevalence was estimated with.
        label_shift: `label_shift` of its scores.
        options: `seed` and `resamples`.

    Returns:
        `{"explained", "rest"}`. `rest` is the AUC of target against source, with source images weighted to
        the estimated prevalence. `explained` is true if its interval includes 0.5, and None if it cannot be
        computed.
    """
    if outputs.target is None or "classes" not in label_shift:
        return {"explained": None, "rest": None}
    source, target = (
        [prevalence[name]["value"] for prevalence in label_shift["classes"].values()]
        for name in ("source", "em")
    )
    weights = selection.prevalence_weights(outputs.val.known_labels, source, target)
    auc = _outputs_auc(outputs.val, outputs.target, {**options, "weights_a": weights})
    above_chance = selection.is_above_chance(auc)
    return {"explained": None if above_chance is None else not above_chance, "rest": round_numbers(auc)}


def _outputs_auc(first: Outputs, second: Outputs, options: dict[str, Any]) -> dict[str, Any]:
    return selection.domain_auc(first.features, second.features, first.units, second.units, **options)


def _domain_aucs(
    val: Outputs, held_out: HeldOutData, names: list[str], options: dict[str, Any]
) -> dict[str, Any] | None:
    """Return how well each source domain can be separated from the others, on validation images."""
    if not names:
        return None
    if len(names) > MAX_DOMAINS:
        reason = f"{len(names)} domains are more than {MAX_DOMAINS}"
        return {name: no_value(reason) for name in names}
    domains = np.array([record.domain or "" for record in held_out.val.records])
    units = np.array(val.units)
    aucs: dict[str, Any] = {}
    for name in names:
        in_domain = domains == name
        if len(names) == 2 and aucs:
            aucs[name] = aucs[names[0]]  # symmetric
        elif in_domain.all() or not in_domain.any():
            aucs[name] = no_value("no validation image of this domain, or of another")
        else:
            aucs[name] = selection.domain_auc(
                val.features[in_domain], val.features[~in_domain],
                list(units[in_domain]), list(units[~in_domain]), **options,
            )  # fmt: skip
    return aucs


def _label_auc(datasets: Datasets, names: list[str], options: dict[str, Any]) -> dict[str, Any] | None:
    """Return how well the domain alone predicts the labels of training images."""
    records = [record for record in datasets.in_split("train") if record.domain and record.label]
    if not names or len({record.label for record in records}) < 2:
        return None
    labels = np.array([datasets.class_names.index(record.label or "") for record in records])
    sites = [record.domain or "" for record in records]
    groups = resampled_groups(records)
    return {"from": "train", "sites": names} | selection.site_label_auc(sites, labels, groups, **options)


def _warnings(label: dict[str, Any] | None, domains: dict[str, Any] | None) -> list[str]:
    """Return a warning if the model can use the domain as a shortcut to the label."""
    if label is None or not label["shortcut"]:
        return []
    separates = any(selection.is_above_chance(auc) for auc in (domains or {}).values())
    return [
        "Among the training images, the site alone predicts the label "
        f"(AUC {label['value']:.2f}, {label['low']:.2f} to {label['high']:.2f})"
        + (", and the model's features separate the sites" if separates else "")
        + ". The model may recognize the site instead of the disease, so that scores at these sites do not transfer "
        "to others. Evaluate it at a site without training images, or balance the classes at each site."
    ]
