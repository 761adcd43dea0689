import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hospitals_drawn import able, logits_for, source_only, with_target

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.selection import Evidence, Outputs, rank
from kerastl.selection.ranking import source_accuracy_floor
from kerastl.selection.validators import source_validation

SELECT_BY = ["information_maximization", "bnm", "class_ami", "source_validation"]
SOURCE_ONLY, TRUTH = source_only(1, shift=0.4)


def answering(labels, **how):
    return with_target(able(SOURCE_ONLY), logits=logits_for(labels, **how))


def erring(share, seed=0):
    """The truth but for a share of images."""
    wrong = np.random.default_rng(seed).random(len(TRUTH)) < share
    return np.where(wrong, 1 - TRUTH, TRUTH)


def worse_at_the_source(evidence, share):
    """The same at the target, and wrong about a share of the source's validation patients."""
    val = evidence.source_val
    patients = {name: place for place, name in enumerate(dict.fromkeys(val.units))}
    wrong = np.array([patients[unit] < share * len(patients) for unit in val.units])
    logits = np.where(wrong[:, None], val.logits[:, ::-1], val.logits)
    changed = Outputs(val.features, logits, val.labels, val.groups)
    return dataclasses.replace(evidence, source_val=changed)


def planted():
    return {
        "source_only": SOURCE_ONLY,
        "good": answering(TRUTH, certainty=6.0),
        "collapsed": answering(np.zeros(len(TRUTH), int), certainty=6.0),
        "torn": answering(np.random.default_rng(0).permutation(TRUTH), certainty=1.0),
    }


@pytest.fixture
def by_table(monkeypatch):
    """Validators that read scores from a table: {validator: {candidate: score}}; a candidate is known by its features."""

    def use(table):
        held = {name: dict(scores) for name, scores in table.items()}
        names = list(next(iter(held.values())))

        def score_of(validator):
            return lambda evidence: held[validator][names[round(float(evidence.target.features[0, 0]))]]

        found = {name: SimpleNamespace(VALIDATOR=SimpleNamespace(score=score_of(name))) for name in held}
        monkeypatch.setattr(registry, "module", lambda kind, name: found[name])
        features = SOURCE_ONLY.target.features
        return {
            name: with_target(SOURCE_ONLY, features=np.full_like(features, place))
            for place, name in enumerate(names)
        }

    return use


def test_the_right_model_is_chosen_and_the_collapsed_one_is_not():
    ranking = rank(planted(), SELECT_BY)
    assert ranking.chosen == "good"
    assert ranking.order.index("collapsed") > ranking.order.index("source_only")


def test_entropy_alone_chooses_the_collapsed_model():
    candidates = planted() | {"collapsed": answering(np.zeros(len(TRUTH), int), certainty=20.0)}
    assert rank(candidates, ["entropy"]).chosen == "collapsed"


def test_of_models_that_err_more_and_more_the_order_is_found():
    candidates = {"source_only": SOURCE_ONLY} | {
        f"errs_{percent:02}": answering(erring(percent / 100), certainty=6.0) for percent in (2, 15, 30, 45)
    }
    order = [name for name in rank(candidates, ["class_ami"]).order if name != "source_only"]
    assert order == ["errs_02", "errs_15", "errs_30", "errs_45"]


def test_ranks_means_and_disagreement_of_a_table(by_table):
    candidates = by_table({
        "u": {"source_only": 0.1, "a": 0.9, "b": 0.5},
        "v": {"source_only": 7.0, "a": 8.0, "b": 9.0},
    })  # fmt: skip
    ranking = rank(candidates, ["u", "v"])
    assert ranking.ranks["a"] == {"u": 1, "v": 2}
    assert ranking.ranks["b"] == {"u": 2, "v": 1}
    assert ranking.mean_rank == {"source_only": 3, "a": 1.5, "b": 1.5}
    assert ranking.order == ("a", "b", "source_only")
    # Two of three pairs are in the same order, one is not: (2 - 1) / 3.
    assert ranking.kendall_tau["u / v"] == pytest.approx(1 / 3)
    assert ranking.disagreement["rank_spread"] == {"source_only": 0, "a": 1, "b": 1}


def test_source_only_wins_ties(by_table):
    candidates = by_table({"u": {"a": 2.0, "source_only": 1.0}, "v": {"a": 1.0, "source_only": 2.0}})
    ranking = rank(candidates, ["u", "v"])
    assert ranking.mean_rank == {"a": 1.5, "source_only": 1.5}
    assert ranking.chosen == "source_only"
    assert ranking.disagreement["mean_kendall_tau"] == -1


def test_a_validator_that_cannot_tell_has_no_tau(by_table):
    candidates = by_table({"u": {"a": 1.0, "source_only": 1.0}, "v": {"a": 1.0, "source_only": 2.0}})
    ranking = rank(candidates, ["u", "v"])
    assert ranking.kendall_tau == {"u / v": None}
    assert ranking.disagreement["mean_kendall_tau"] is None


def test_who_fell_far_at_the_source_is_refused_and_who_fell_little_is_not():
    fell_far = worse_at_the_source(planted()["good"], 0.4)
    fell_little = worse_at_the_source(answering(TRUTH, certainty=5.0), 0.01)
    candidates = planted() | {"good": fell_far, "second": fell_little}
    ranking = rank(candidates, SELECT_BY)
    assert ranking.chosen == "second"
    assert "balanced accuracy at the source" in ranking.refused["good"]
    assert "good" in ranking.scores
    assert "good" not in ranking.ranks


def test_the_floor_is_below_source_only_by_what_patients_vary():
    """Compared with the standard error of the share of right patients: about two of it."""
    val = SOURCE_ONLY.source_val
    wrong = worse_at_the_source(SOURCE_ONLY, 0.2)
    rule = source_accuracy_floor(wrong, seed=0)
    patients = np.array([
        (val.labels == wrong.source_val.logits.argmax(axis=1))[np.array(val.units) == unit].mean()
        for unit in dict.fromkeys(val.units)
    ])  # fmt: skip
    error = patients.std() / np.sqrt(len(patients))
    assert rule["interval"]["value"] - rule["floor"] == pytest.approx(2 * error, rel=0.35)


def test_a_model_without_a_mistake_leaves_room_for_three_patients():
    val = SOURCE_ONLY.source_val
    perfect = Outputs(val.features, logits_for(val.labels, certainty=20.0), val.labels, val.groups)
    rule = source_accuracy_floor(dataclasses.replace(SOURCE_ONLY, source_val=perfect), seed=0)
    assert rule["interval"]["low"] == 1
    assert rule["floor"] == pytest.approx(1 - 3 / 60)


def test_with_few_patients_nobody_may_fall_at_all():
    evidence, _ = source_only(2, patients=8)
    rule = source_accuracy_floor(evidence, seed=0)
    assert rule["floor"] == rule["interval"]["value"]
    assert rule["interval"]["low"] is None


def test_not_eligible_candidates_do_not_win_and_source_only_always_may():
    why = {"good": "assumes", "source_only": "never"}
    ranking = rank(planted(), SELECT_BY, not_eligible=why)
    assert ranking.chosen != "good"
    assert ranking.refused["good"] == "assumes"
    assert "source_only" in ranking.order


def test_options_reach_their_validator():
    options = {"source_validation": source_validation.Options("auc")}
    plain = rank(planted(), ["source_validation"])
    by_auc = rank(planted(), ["source_validation"], options=options)
    assert plain.scores["source_only"] != by_auc.scores["source_only"]


def test_what_cannot_be_ranked_is_refused_in_words():
    candidates = planted()
    short = Outputs(SOURCE_ONLY.target.features[1:], SOURCE_ONLY.target.logits[1:])
    other = Evidence(SOURCE_ONLY.source_train, SOURCE_ONLY.source_val, short, SOURCE_ONLY.class_names)
    for words, wrong in {
        "'source_only' is always a candidate": lambda: rank({"good": candidates["good"]}, SELECT_BY),
        "each validator once": lambda: rank(candidates, []),
        "Did you mean 'entropy'": lambda: rank(candidates, ["entrpy"]),
        "options for 'bnm'": lambda: rank(candidates, ["entropy"], options={"bnm": 1}),
        "other images": lambda: rank(candidates | {"other": other}, SELECT_BY),
        "mixval needs": lambda: rank(candidates, ["mixval"]),
    }.items():
        with pytest.raises(RequestError, match=words):
            wrong()
