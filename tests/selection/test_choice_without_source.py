"""The choice where the source's images are not at hand: the target alone ranks, and no guard can be asked."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hospitals_drawn import logits_for, source_only, with_target
from sklearn.metrics import cohen_kappa_score

from kerastl.errors import RequestError
from kerastl.selection import Evidence, Outputs, decide
from kerastl.selection.ranking import prediction_agreement

SELECT_BY = ["information_maximization", "class_ami"]


def decided(*, adapted_is, seed=0, select_by=SELECT_BY, **drawn):
    evidence, truth = source_only(seed, **({"shift": 0.4} | drawn))
    evidence = replace(evidence, source_train=None, source_val=None)
    answers = truth if adapted_is == "good" else 0 * truth
    adapted = with_target(evidence, logits=logits_for(answers, certainty=6.0))
    return decide({"source_only": evidence, "shot": adapted}, select_by=select_by, seed=seed)


def test_an_adapted_model_that_ranks_first_is_taken_and_the_open_guards_are_told():
    found = decided(adapted_is="good")
    assert (found.verdict, found.chosen) == ("adapt", "shot")
    assert "'shot' has the best mean rank, 1.0 of 2 over 2 validators" in found.reason
    assert "no guard could be asked" in found.reason
    assert "look at a few labelled patients of the target before you use it" in found.reason
    assert set(found.guards) == {"nothing_to_adapt", "unknown_class", "other_prevalence"}
    for guard in found.guards.values():
        assert guard["fired"] is None
        assert guard["reason"] == "the source's images are not at hand"
    assert found.ranking["source"]["floor"] is None
    json.dumps(found.to_json())


def test_a_collapsed_model_is_not_taken():
    found = decided(adapted_is="collapsed")
    assert (found.verdict, found.chosen) == ("do_not_adapt", "source_only")


def answers_of(labels, *, changed, seed=0):
    """Logits of the labels, a share of them another class."""
    drawn = np.random.default_rng(seed)
    turned = np.where(drawn.random(len(labels)) < changed, 1 - labels, labels)
    return logits_for(turned, certainty=6.0)


@pytest.mark.parametrize(("changed", "stays"), [(0.1, True), (0.45, False)])
def test_a_candidate_that_strayed_from_its_first_answers_is_refused(changed, stays):
    evidence, truth = source_only(0, shift=0.4)
    evidence = replace(evidence, source_train=None, source_val=None)
    good = with_target(evidence, logits=logits_for(truth, certainty=6.0))
    began = answers_of(truth, changed=changed)
    adapted = replace(good, began=began)
    found = decide({"source_only": evidence, "shot": adapted}, select_by=SELECT_BY)
    kappa = cohen_kappa_score(began.argmax(axis=1), truth)
    assert found.ranking["kept"] == {"shot": pytest.approx(kappa)}
    assert (kappa >= 0.5) == stays
    assert found.chosen == ("shot" if stays else "source_only")
    refused = found.ranking["refused"]
    assert stays or "strayed from the answers that it began with" in refused["shot"]
    assert stays or f"{kappa:.2f} (Cohen's kappa), below 0.5" in refused["shot"]
    json.dumps(found.to_json())


def test_answers_that_did_not_change_are_kept_also_where_all_are_one_class():
    evidence, truth = source_only(0, shift=0.4)
    same = logits_for(0 * truth, certainty=6.0)
    one = replace(with_target(evidence, logits=same), source_train=None, source_val=None)
    assert prediction_agreement(one) is None
    assert prediction_agreement(replace(one, began=2.0 * same)) == 1.0
    # From one answer for all, nothing that comes after it is carried over.
    other = with_target(replace(one, began=None), logits=logits_for(truth, certainty=6.0))
    assert prediction_agreement(replace(other, began=same)) == 0.0


def test_where_the_source_is_at_hand_first_answers_are_not_compared():
    evidence, truth = source_only(0, shift=0.4)
    good = with_target(evidence, logits=logits_for(truth, certainty=6.0))
    strayed = replace(good, began=logits_for(1 - truth, certainty=6.0))
    found = decide({"source_only": evidence, "shot": strayed}, select_by=SELECT_BY)
    assert found.ranking["kept"] == {}
    assert "strayed" not in str(found.ranking["refused"])


def test_first_answers_are_those_to_the_same_images():
    evidence, _ = source_only(0)
    with pytest.raises(RequestError, match=r"began: logits must be those of the target's images"):
        replace(evidence, began=evidence.target.logits[1:])


def test_too_few_patients_cannot_be_judged():
    found = decided(adapted_is="good", patients=9)
    assert (found.verdict, found.chosen) == ("cannot_tell", "source_only")
    assert "9 patients of the target are fewer than 10" in found.reason


@pytest.mark.parametrize("name", ["source_validation", "dev"])
def test_a_validator_that_asks_the_source_says_so(name):
    with pytest.raises(RequestError, match="The source's images are not at hand"):
        decided(adapted_is="good", select_by=[name])


def test_the_source_is_at_hand_or_it_is_not():
    evidence, _ = source_only(0)
    with pytest.raises(RequestError, match="hand both source_train and source_val, or neither"):
        replace(evidence, source_val=None)
    without = replace(evidence, source_train=None, source_val=None)
    with pytest.raises(RequestError, match="must both have images of the source, or neither"):
        decide({"source_only": evidence, "shot": without}, select_by=SELECT_BY)
    part: Outputs = evidence.target
    assert Evidence(None, None, part, evidence.class_names).target is part
