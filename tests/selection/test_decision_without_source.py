"""Selection without source images: only the target ranks the candidates, and no guard is available."""

import json
from dataclasses import replace

import numpy as np
import pytest
from make_evidence import logits_for, make_source_only, with_target
from sklearn.metrics import cohen_kappa_score

from kerastl.errors import RequestError
from kerastl.selection import Evidence, Outputs, decide
from kerastl.selection.ranking import prediction_agreement

SELECT_BY = ["information_maximization", "class_ami"]


def decide_for(*, adapted_is, seed=0, select_by=SELECT_BY, **drawn):
    evidence, truth = make_source_only(seed, **({"shift": 0.4} | drawn))
    evidence = replace(evidence, source_train=None, source_val=None)
    labels = truth if adapted_is == "good" else 0 * truth
    adapted = with_target(evidence, logits=logits_for(labels, certainty=6.0))
    return decide({"source_only": evidence, "shot": adapted}, select_by=select_by, seed=seed)


def test_best_candidate_is_chosen_and_the_missing_guards_are_stated():
    decision = decide_for(adapted_is="good")
    assert (decision.verdict, decision.chosen) == ("adapt", "shot")
    assert "'shot' has the best mean rank, 1.0 of 2, over 2 validators" in decision.reason
    assert "The guards are not available" in decision.reason
    assert "evaluate the model on a few labeled target patients" in decision.reason
    assert set(decision.guards) == {"nothing_to_adapt", "unknown_class", "other_prevalence"}
    for guard in decision.guards.values():
        assert guard["fired"] is None
        assert guard["reason"] == "the source images are not available"
    assert decision.ranking["source"]["floor"] is None
    json.dumps(decision.to_json())


def test_collapsed_model_is_not_chosen():
    decision = decide_for(adapted_is="collapsed")
    assert (decision.verdict, decision.chosen) == ("do_not_adapt", "source_only")


def changed_logits(labels, *, changed, seed=0):
    """Return logits of the labels with a fraction of them replaced by another class."""
    drawn = np.random.default_rng(seed)
    changed_labels = np.where(drawn.random(len(labels)) < changed, 1 - labels, labels)
    return logits_for(changed_labels, certainty=6.0)


@pytest.mark.parametrize(("changed", "eligible"), [(0.1, True), (0.45, False)])
def test_candidate_that_disagrees_with_its_initial_predictions_is_rejected(changed, eligible):
    evidence, truth = make_source_only(0, shift=0.4)
    evidence = replace(evidence, source_train=None, source_val=None)
    good = with_target(evidence, logits=logits_for(truth, certainty=6.0))
    initial_logits = changed_logits(truth, changed=changed)
    adapted = replace(good, initial_logits=initial_logits)
    decision = decide({"source_only": evidence, "shot": adapted}, select_by=SELECT_BY)
    kappa = cohen_kappa_score(initial_logits.argmax(axis=1), truth)
    assert decision.ranking["prediction_agreement"] == {"shot": pytest.approx(kappa)}
    assert (kappa >= 0.5) == eligible
    assert decision.chosen == ("shot" if eligible else "source_only")
    reason = decision.ranking["rejected"].get("shot", "")
    assert (
        eligible
        or f"disagree with its initial predictions: Cohen's kappa is {kappa:.2f}, below 0.5" in reason
    )
    json.dumps(decision.to_json())


def test_unchanged_predictions_of_a_single_class_agree():
    evidence, truth = make_source_only(0, shift=0.4)
    same = logits_for(0 * truth, certainty=6.0)
    collapsed = replace(with_target(evidence, logits=same), source_train=None, source_val=None)
    assert prediction_agreement(collapsed) is None
    assert prediction_agreement(replace(collapsed, initial_logits=2.0 * same)) == 1.0
    other = with_target(replace(collapsed, initial_logits=None), logits=logits_for(truth, certainty=6.0))
    assert prediction_agreement(replace(other, initial_logits=same)) == 0.0


def test_initial_predictions_are_ignored_if_the_source_is_available():
    evidence, truth = make_source_only(0, shift=0.4)
    good = with_target(evidence, logits=logits_for(truth, certainty=6.0))
    changed = replace(good, initial_logits=logits_for(1 - truth, certainty=6.0))
    decision = decide({"source_only": evidence, "shot": changed}, select_by=SELECT_BY)
    assert decision.ranking["prediction_agreement"] == {}
    assert "initial" not in str(decision.ranking["rejected"])


def test_initial_logits_must_have_one_row_per_target_image():
    evidence, _ = make_source_only(0)
    with pytest.raises(RequestError, match="initial_logits must have the shape of the target's logits"):
        replace(evidence, initial_logits=evidence.target.logits[1:])


def test_few_patients_are_inconclusive():
    decision = decide_for(adapted_is="good", patients=9)
    assert (decision.verdict, decision.chosen) == ("cannot_tell", "source_only")
    assert "9 target patients (at least 10 are needed)" in decision.reason


@pytest.mark.parametrize("name", ["source_validation", "dev"])
def test_validators_that_need_source_images_are_rejected(name):
    with pytest.raises(RequestError, match="the source images are not available"):
        decide_for(adapted_is="good", select_by=[name])


def test_source_images_must_be_complete_and_equal_for_all_candidates():
    evidence, _ = make_source_only(0)
    with pytest.raises(RequestError, match="both source_train and source_val"):
        replace(evidence, source_val=None)
    without = replace(evidence, source_train=None, source_val=None)
    with pytest.raises(RequestError, match="or for neither"):
        decide({"source_only": evidence, "shot": without}, select_by=SELECT_BY)
    part: Outputs = evidence.target
    assert Evidence(None, None, part, evidence.class_names).target is part
