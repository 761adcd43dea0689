"""The choice where the source's pictures are not at hand: the target alone ranks, and no guard can be asked."""

import json
from dataclasses import replace

import pytest
from hospitals_drawn import logits_for, source_only, with_target

from kerastl.adaptation.choosing import Evidence, Outputs, decide
from kerastl.errors import RequestError

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
        assert guard["reason"] == "the source's pictures are not at hand"
    assert found.ranking["source"]["floor"] is None
    json.dumps(found.to_json())


def test_a_collapsed_model_is_not_taken():
    found = decided(adapted_is="collapsed")
    assert (found.verdict, found.chosen) == ("do_not_adapt", "source_only")


def test_too_few_patients_cannot_be_judged():
    found = decided(adapted_is="good", patients=9)
    assert (found.verdict, found.chosen) == ("cannot_tell", "source_only")
    assert "9 patients of the target are fewer than 10" in found.reason


@pytest.mark.parametrize("name", ["source_validation", "dev"])
def test_a_validator_that_asks_the_source_says_so(name):
    with pytest.raises(RequestError, match="The source's pictures are not at hand"):
        decided(adapted_is="good", select_by=[name])


def test_the_source_is_at_hand_or_it_is_not():
    evidence, _ = source_only(0)
    with pytest.raises(RequestError, match="hand both source_train and source_val, or neither"):
        replace(evidence, source_val=None)
    without = replace(evidence, source_train=None, source_val=None)
    with pytest.raises(RequestError, match="must both have pictures of the source, or neither"):
        decide({"source_only": evidence, "shot": without}, select_by=SELECT_BY)
    part: Outputs = evidence.target
    assert Evidence(None, None, part, evidence.class_names).target is part
