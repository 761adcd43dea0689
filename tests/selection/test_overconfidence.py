"""Predictions must not carry more information on the target than was verified on the source."""

import dataclasses

import numpy as np
import pytest
from make_evidence import logits_for, make_source_only, with_target
from scipy.optimize import minimize_scalar

from kerastl.evaluation.calibration import fit_temperature
from kerastl.selection import Evidence, Outputs, VerifiedInformation, rank
from kerastl.selection.overconfidence import (
    check_overconfidence,
    check_overconfidence_without_source,
    information,
)
from kerastl.selection.validators import VALIDATORS

IMAGES_PER_PATIENT = 4


def make_evidence(seed, *, patients=30, confidence=1.0, separation=1.2, classes=2):
    """Return evidence of a model that is calibrated on the source; on the target, its logits are multiplied by `confidence`."""
    generator = np.random.default_rng(seed)

    def part(factor, labeled):
        labels = generator.integers(classes, size=patients)
        labels[:classes] = np.arange(classes)
        centers = separation * np.eye(classes)[labels] + generator.normal(size=(patients, classes))
        # The log-odds of normal classes with standard deviation 1 at `separation` times a unit vector.
        logits = np.repeat(separation * centers * factor, IMAGES_PER_PATIENT, axis=0).astype(np.float32)
        groups = tuple(f"p{patient}" for patient in np.repeat(np.arange(patients), IMAGES_PER_PATIENT))
        return Outputs(logits, logits, np.repeat(labels, IMAGES_PER_PATIENT) if labeled else None, groups)

    names = tuple(f"class {number}" for number in range(classes))
    return Evidence(part(1, True), part(1, True), part(confidence, False), names)


def check(evidence, source_only=None, seed=0):
    return check_overconfidence(evidence, source_only or evidence, seed=seed)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_information_equals_a_loop_over_images(classes):
    evidence = make_evidence(3, confidence=2.0, classes=classes)
    val, labels = evidence.source_val.logits.astype(float), evidence.source_val.labels

    def loss(log_t):
        return -np.mean([np.log(p[y]) for p, y in zip(softmax(val / np.exp(log_t)), labels, strict=True)])

    optimum = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    shares = np.array([np.mean(labels == label) for label in range(classes)])
    verified = -sum(share * np.log(share) for share in shares) - optimum.fun
    probabilities = softmax(evidence.target.logits.astype(float) / np.exp(optimum.x))
    mean = probabilities.mean(axis=0)
    conditional = np.mean([-sum(p * np.log(p) for p in row) for row in probabilities])
    predicted = -sum(p * np.log(p) for p in mean) - conditional
    assert information(evidence) == pytest.approx((predicted, verified), rel=1e-5)


def test_overconfident_models_are_detected_with_few_false_alarms():
    false_alarms = sum(check(make_evidence(seed), seed=seed)["overconfident"] for seed in range(20))
    hits = sum(check(make_evidence(seed, confidence=8.0), seed=seed)["overconfident"] for seed in range(20))
    assert false_alarms <= 3
    assert hits >= 18


def test_less_confident_model_predicts_less_information():
    result = check(make_evidence(1, confidence=0.2))
    assert result["predicted"] < result["verified"]
    assert not result["overconfident"]
    assert result["difference"]["value"] == pytest.approx(result["predicted"] - result["verified"])


def test_few_patients_do_not_reject_a_candidate():
    result = check(make_evidence(1, patients=9, confidence=8.0))
    assert not result["overconfident"]
    assert result["difference"]["low"] is None
    assert "9" in result["difference"]["reason"]


def test_verified_information_of_source_only_counts_for_a_candidate_that_forgot_the_source():
    evidence = make_evidence(1)
    val = evidence.source_val
    forgot = Outputs(val.features, 0.01 * val.logits[::-1], val.labels, val.groups)
    candidate = Evidence(evidence.source_train, forgot, evidence.target, evidence.class_names)
    assert check(candidate)["overconfident"]
    assert not check(candidate, evidence)["overconfident"]
    assert check(candidate, evidence)["verified"] == information(evidence)[1]


def test_overconfident_candidate_is_rejected_although_validators_prefer_it():
    evidence = make_evidence(2)
    predicted = evidence.target.logits.argmax(axis=1)
    candidates = {
        "source_only": evidence,
        "calibrated": evidence,
        "overconfident": with_target(evidence, logits=logits_for(predicted, certainty=20.0)),
    }
    ranking = rank(candidates, ["information_maximization", "bnm", "entropy"], seed=2)
    assert ranking.scores["overconfident"]["entropy"] > ranking.scores["calibrated"]["entropy"]
    assert "it is overconfident" in ranking.rejected["overconfident"]
    assert "calibrated" not in ranking.rejected
    assert ranking.overconfidence["overconfident"]["overconfident"]


def test_overconfident_source_only_is_not_rejected():
    evidence = make_evidence(2, confidence=8.0)
    assert rank({"source_only": evidence}, ["entropy"]).order == ("source_only",)


def test_bounded_information_prefers_calibrated_models():
    score = VALIDATORS["bounded_information"].score
    calibrated, underconfident, overconfident = (
        score(make_evidence(4, confidence=confidence)) for confidence in (1.0, 0.1, 9.0)
    )
    assert calibrated > underconfident
    assert calibrated > overconfident
    evidence, _ = make_source_only(0)
    assert score(evidence) == pytest.approx(0, abs=0.1)


def without_source(evidence, verified=None):
    return Evidence(None, None, evidence.target, evidence.class_names, verified=verified)


@pytest.mark.parametrize("confidence", [1.0, 9.0])
def test_stored_verified_information_replaces_source_images(confidence):
    evidence = make_evidence(5, confidence=confidence)
    predicted, verified = information(evidence)
    val = evidence.source_val
    stored = VerifiedInformation(verified, fit_temperature(val.labels, val.logits))
    result = check_overconfidence_without_source(without_source(evidence), stored, seed=0)
    assert (result["predicted"], result["verified"]) == pytest.approx((predicted, verified))
    assert result["overconfident"] == (confidence > 1)
    uncertain = dataclasses.replace(stored, low=verified - 1, high=verified + 1)
    wider = check_overconfidence_without_source(without_source(evidence), uncertain, seed=0)["difference"]
    narrow = result["difference"]
    assert wider["value"] - wider["low"] == pytest.approx(np.hypot(narrow["value"] - narrow["low"], 1))
    assert wider["high"] - wider["value"] == pytest.approx(np.hypot(narrow["high"] - narrow["value"], 1))


def test_overconfident_candidate_is_rejected_without_source_images():
    source_only = without_source(make_evidence(2), VerifiedInformation(0.3, 1.0))
    confident_logits = logits_for(source_only.target.logits.argmax(axis=1), certainty=20.0)
    candidates = {
        "source_only": source_only,
        "overconfident": dataclasses.replace(
            source_only,
            target=Outputs(source_only.target.features, confident_logits, None, source_only.target.groups),
        ),
    }
    ranking = rank(candidates, ["information_maximization"], seed=2)
    assert "it is overconfident" in ranking.rejected["overconfident"]
    assert ranking.chosen == "source_only"
    unverified = {name: dataclasses.replace(evidence, verified=None) for name, evidence in candidates.items()}
    assert rank(unverified, ["information_maximization"]).chosen == "overconfident"
