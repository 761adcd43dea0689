import dataclasses

import numpy as np
import pytest
from make_evidence import accurate_on_source, logits_for, make_source_only, with_target

from kerastl.errors import RequestError
from kerastl.selection import Evidence, Outputs, rank
from kerastl.selection.ranking import source_accuracy_floor
from kerastl.selection.validators import VALIDATORS, SourceValidationOptions, Validator

SELECT_BY = ["information_maximization", "bnm", "class_ami", "source_validation"]
SOURCE_ONLY, TRUTH = make_source_only(1, shift=0.4)


def predicting(labels, **how):
    return with_target(accurate_on_source(SOURCE_ONLY), logits=logits_for(labels, **how))


def with_errors(share, seed=0):
    """Return the true labels with a fraction of errors."""
    wrong = np.random.default_rng(seed).random(len(TRUTH)) < share
    return np.where(wrong, 1 - TRUTH, TRUTH)


def worse_on_source(evidence, share):
    """Return the same evidence with errors on a fraction of source validation patients."""
    val = evidence.source_val
    patients = {name: number for number, name in enumerate(dict.fromkeys(val.units))}
    wrong = np.array([patients[unit] < share * len(patients) for unit in val.units])
    logits = np.where(wrong[:, None], val.logits[:, ::-1], val.logits)
    changed = Outputs(val.features, logits, val.labels, val.groups)
    return dataclasses.replace(evidence, source_val=changed)


def make_candidates():
    return {
        "source_only": SOURCE_ONLY,
        "good": predicting(TRUTH, certainty=6.0),
        "collapsed": predicting(np.zeros(len(TRUTH), int), certainty=6.0),
        "permuted": predicting(np.random.default_rng(0).permutation(TRUTH), certainty=1.0),
    }


@pytest.fixture
def by_table(monkeypatch):
    """Replace the validators by a table {validator: {candidate: score}}, and return the candidates."""

    def use(table):
        names = list(next(iter(table.values())))

        def score_from(scores):
            # The features of a candidate hold its number.
            return lambda evidence: scores[names[round(float(evidence.target.features[0, 0]))]]

        for validator, scores in table.items():
            monkeypatch.setitem(VALIDATORS, validator, Validator(score_from(scores)))
        features = SOURCE_ONLY.target.features
        return {
            name: with_target(SOURCE_ONLY, features=np.full_like(features, number))
            for number, name in enumerate(names)
        }

    return use


def test_correct_model_is_chosen_over_a_collapsed_one():
    ranking = rank(make_candidates(), SELECT_BY)
    assert ranking.chosen == "good"
    assert ranking.order.index("collapsed") > ranking.order.index("source_only")


def test_entropy_alone_chooses_the_collapsed_model():
    candidates = make_candidates() | {"collapsed": predicting(np.zeros(len(TRUTH), int), certainty=20.0)}
    assert rank(candidates, ["entropy"]).chosen == "collapsed"


def test_models_are_ordered_by_their_error():
    candidates = {"source_only": SOURCE_ONLY} | {
        f"errs_{percent:02}": predicting(with_errors(percent / 100), certainty=6.0)
        for percent in (2, 15, 30, 45)
    }
    order = [name for name in rank(candidates, ["class_ami"]).order if name != "source_only"]
    assert order == ["errs_02", "errs_15", "errs_30", "errs_45"]


def test_ranks_means_and_disagreement_of_a_table(by_table):
    candidates = by_table({
        "bnm": {"source_only": 0.1, "a": 0.9, "b": 0.5},
        "snd": {"source_only": 7.0, "a": 8.0, "b": 9.0},
    })  # fmt: skip
    ranking = rank(candidates, ["bnm", "snd"])
    assert ranking.ranks["a"] == {"bnm": 1, "snd": 2}
    assert ranking.ranks["b"] == {"bnm": 2, "snd": 1}
    assert ranking.mean_rank == {"source_only": 3, "a": 1.5, "b": 1.5}
    assert ranking.order == ("a", "b", "source_only")
    # Two of three pairs are in the same order, one is not: (2 - 1) / 3.
    assert ranking.kendall_tau["bnm / snd"] == pytest.approx(1 / 3)
    assert ranking.disagreement["rank_spread"] == {"source_only": 0, "a": 1, "b": 1}


def test_source_only_wins_ties(by_table):
    candidates = by_table({"bnm": {"a": 2.0, "source_only": 1.0}, "snd": {"a": 1.0, "source_only": 2.0}})
    ranking = rank(candidates, ["bnm", "snd"])
    assert ranking.mean_rank == {"a": 1.5, "source_only": 1.5}
    assert ranking.chosen == "source_only"
    assert ranking.disagreement["mean_kendall_tau"] == -1


def test_validator_with_equal_scores_has_no_tau(by_table):
    candidates = by_table({"bnm": {"a": 1.0, "source_only": 1.0}, "snd": {"a": 1.0, "source_only": 2.0}})
    ranking = rank(candidates, ["bnm", "snd"])
    assert ranking.kendall_tau == {"bnm / snd": None}
    assert ranking.disagreement["mean_kendall_tau"] is None


def test_candidate_that_forgot_the_source_is_rejected():
    forgot = worse_on_source(make_candidates()["good"], 0.4)
    slightly_worse = worse_on_source(predicting(TRUTH, certainty=5.0), 0.01)
    candidates = make_candidates() | {"good": forgot, "second": slightly_worse}
    ranking = rank(candidates, SELECT_BY)
    assert ranking.chosen == "second"
    assert "balanced accuracy on the source" in ranking.rejected["good"]
    assert "good" in ranking.scores
    assert "good" not in ranking.ranks


def test_floor_is_two_standard_errors_over_patients_below_source_only():
    val = SOURCE_ONLY.source_val
    wrong = worse_on_source(SOURCE_ONLY, 0.2)
    rule = source_accuracy_floor(wrong, seed=0)
    patients = np.array([
        (val.labels == wrong.source_val.logits.argmax(axis=1))[np.array(val.units) == unit].mean()
        for unit in dict.fromkeys(val.units)
    ])  # fmt: skip
    error = patients.std() / np.sqrt(len(patients))
    assert rule["interval"]["value"] - rule["floor"] == pytest.approx(2 * error, rel=0.35)


def test_floor_of_a_model_without_errors_allows_three_patients():
    val = SOURCE_ONLY.source_val
    perfect = Outputs(val.features, logits_for(val.labels, certainty=20.0), val.labels, val.groups)
    rule = source_accuracy_floor(dataclasses.replace(SOURCE_ONLY, source_val=perfect), seed=0)
    assert rule["interval"]["value"] == 1
    assert rule["floor"] == pytest.approx(1 - 3 / 60)


def test_floor_with_few_patients_is_the_value_of_source_only():
    evidence, _ = make_source_only(2, patients=8)
    rule = source_accuracy_floor(evidence, seed=0)
    assert rule["floor"] == rule["interval"]["value"]
    assert rule["interval"]["low"] is None


def test_ineligible_candidates_do_not_win_and_source_only_is_always_eligible():
    reasons = {"good": "assumes", "source_only": "never"}
    ranking = rank(make_candidates(), SELECT_BY, not_eligible=reasons)
    assert ranking.chosen != "good"
    assert ranking.rejected["good"] == "assumes"
    assert "source_only" in ranking.order


def test_options_are_passed_to_their_validator():
    options = {"source_validation": SourceValidationOptions("auc")}
    plain = rank(make_candidates(), ["source_validation"])
    by_auc = rank(make_candidates(), ["source_validation"], options=options)
    assert plain.scores["source_only"] != by_auc.scores["source_only"]


def test_invalid_requests_are_rejected():
    candidates = make_candidates()
    short = Outputs(SOURCE_ONLY.target.features[1:], SOURCE_ONLY.target.logits[1:])
    other = Evidence(SOURCE_ONLY.source_train, SOURCE_ONLY.source_val, short, SOURCE_ONLY.class_names)
    for message, request in {
        "'source_only' is missing": lambda: rank({"good": candidates["good"]}, SELECT_BY),
        "at least one validator": lambda: rank(candidates, []),
        "Did you mean 'entropy'": lambda: rank(candidates, ["entrpy"]),
        "options for 'bnm'": lambda: rank(candidates, ["entropy"], options={"bnm": 1}),
        "different images": lambda: rank(candidates | {"other": other}, SELECT_BY),
        "mixval needs": lambda: rank(candidates, ["mixval"]),
    }.items():
        with pytest.raises(RequestError, match=message):
            request()
