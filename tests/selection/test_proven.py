"""A candidate may not claim to know more of the target than it is proven to know at the source."""

import dataclasses

import numpy as np
import pytest
from hospitals_drawn import logits_for, source_only, with_target
from scipy.optimize import minimize_scalar

from kerastl import registry
from kerastl.evaluation.calibration import fit_temperature
from kerastl.selection import Evidence, Outputs, VerifiedInformation, rank
from kerastl.selection.ranking import check_overconfidence, check_overconfidence_without_source, information

IMAGES = 4


def drawn(seed, *, patients=30, sure=1.0, seen=1.2, classes=2):
    """A model that sees `seen` spreads of a class: at the source it is as sure as it should be; at the target `sure` times that."""
    generator = np.random.default_rng(seed)

    def part(factor, labelled):
        labels = generator.integers(classes, size=patients)
        labels[:classes] = np.arange(classes)
        middle = seen * np.eye(classes)[labels] + generator.normal(size=(patients, classes))
        # What normal classes of spread 1 at `seen` times a unit vector say of an image, in log-odds.
        logits = np.repeat(seen * middle * factor, IMAGES, axis=0).astype(np.float32)
        groups = tuple(f"p{patient}" for patient in np.repeat(np.arange(patients), IMAGES))
        return Outputs(logits, logits, np.repeat(labels, IMAGES) if labelled else None, groups)

    names = tuple(f"class {place}" for place in range(classes))
    return Evidence(part(1, True), part(1, True), part(sure, False), names)


def surer(evidence, source_only=None, seed=0):
    return check_overconfidence(evidence, source_only or evidence, seed=seed)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_both_equal_a_loop_over_images(classes):
    evidence = drawn(3, sure=2.0, classes=classes)
    val, labels = evidence.source_val.logits.astype(float), evidence.source_val.labels

    def loss(log_t):
        return -np.mean([np.log(p[y]) for p, y in zip(softmax(val / np.exp(log_t)), labels, strict=True)])

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    shares = np.array([np.mean(labels == place) for place in range(classes)])
    proven = -sum(share * np.log(share) for share in shares) - found.fun
    answers = softmax(evidence.target.logits.astype(float) / np.exp(found.x))
    mean = answers.mean(axis=0)
    doubt = np.mean([-sum(p * np.log(p) for p in row) for row in answers])
    claimed = -sum(p * np.log(p) for p in mean) - doubt
    assert information(evidence) == pytest.approx((claimed, proven), rel=1e-5)


def test_who_trained_on_its_own_answers_is_found_and_who_did_not_is_not():
    false = sum(surer(drawn(seed), seed=seed)["surer"] for seed in range(20))
    hits = sum(surer(drawn(seed, sure=8.0), seed=seed)["surer"] for seed in range(20))
    assert false <= 3
    assert hits >= 18


def test_who_is_less_sure_claims_less():
    told = surer(drawn(1, sure=0.2))
    assert told["claimed"] < told["proven"]
    assert not told["surer"]
    assert told["difference"]["value"] == pytest.approx(told["claimed"] - told["proven"])


def test_few_patients_prove_nothing_against_a_candidate():
    told = surer(drawn(1, patients=9, sure=8.0))
    assert not told["surer"]
    assert told["difference"]["low"] is None
    assert "9" in told["difference"]["reason"]


def test_a_candidate_that_forgot_the_source_is_held_to_what_the_model_before_it_proved():
    evidence = drawn(1)
    val = evidence.source_val
    forgot = Outputs(val.features, 0.01 * val.logits[::-1], val.labels, val.groups)
    candidate = Evidence(evidence.source_train, forgot, evidence.target, evidence.class_names)
    assert surer(candidate)["surer"]
    assert not surer(candidate, evidence)["surer"]
    assert surer(candidate, evidence)["proven"] == information(evidence)[1]


def test_it_is_refused_though_every_score_prefers_it():
    evidence = drawn(2)
    answers = evidence.target.logits.argmax(axis=1)
    candidates = {
        "source_only": evidence,
        "honest": evidence,
        "self_made": with_target(evidence, logits=logits_for(answers, certainty=20.0)),
    }
    ranking = rank(candidates, ["information_maximization", "bnm", "entropy"], seed=2)
    assert ranking.scores["self_made"]["entropy"] > ranking.scores["honest"]["entropy"]
    assert "surer of the target than it has proved right" in ranking.refused["self_made"]
    assert "honest" not in ranking.refused
    assert ranking.proven["self_made"]["surer"]


def test_source_only_stays_a_candidate():
    evidence = drawn(2, sure=8.0)
    assert rank({"source_only": evidence}, ["entropy"]).order == ("source_only",)


def test_the_validator_prefers_who_claims_what_is_proven():
    score = registry.module("validator", "bounded_information").VALIDATOR.score
    honest, shy, bold = (score(drawn(4, sure=sure)) for sure in (1.0, 0.1, 9.0))
    assert honest > shy
    assert honest > bold
    evidence, _ = source_only(0)
    assert score(evidence) == pytest.approx(0, abs=0.1)


def without_source(evidence, told=None):
    return Evidence(None, None, evidence.target, evidence.class_names, proven=told)


@pytest.mark.parametrize("sure", [1.0, 9.0])
def test_without_the_sources_images_what_was_told_of_them_stands_in_their_place(sure):
    evidence = drawn(5, sure=sure)
    claimed, proven = information(evidence)
    val = evidence.source_val
    shares = np.exp(val.logits) / np.exp(val.logits).sum(axis=1, keepdims=True)
    told = VerifiedInformation(proven, fit_temperature(val.labels, shares))
    found = check_overconfidence_without_source(without_source(evidence), told, seed=0)
    assert (found["claimed"], found["proven"]) == pytest.approx((claimed, proven))
    assert found["surer"] == (sure > 1)
    vague = dataclasses.replace(told, low=proven - 1, high=proven + 1)
    wider = check_overconfidence_without_source(without_source(evidence), vague, seed=0)["difference"]
    narrow = found["difference"]
    assert wider["value"] - wider["low"] == pytest.approx(np.hypot(narrow["value"] - narrow["low"], 1))
    assert wider["high"] - wider["value"] == pytest.approx(np.hypot(narrow["high"] - narrow["value"], 1))


def test_without_them_a_candidate_that_is_surer_than_told_is_refused_and_source_only_stays():
    first = without_source(drawn(2), VerifiedInformation(0.3, 1.0))
    sure = logits_for(first.target.logits.argmax(axis=1), certainty=20.0)
    candidates = {
        "source_only": first,
        "self_made": dataclasses.replace(
            first, target=Outputs(first.target.features, sure, None, first.target.groups)
        ),
    }
    ranking = rank(candidates, ["information_maximization"], seed=2)
    assert "surer of the target" in ranking.refused["self_made"]
    assert ranking.chosen == "source_only"
    blind = {name: dataclasses.replace(one, proven=None) for name, one in candidates.items()}
    assert rank(blind, ["information_maximization"]).chosen == "self_made"
