import json
import subprocess
import sys

import pytest
from hospitals_drawn import able, logits_for, source_only, with_target

from kerastl.errors import RequestError
from kerastl.selection import Decision, decide

SELECT_BY = ["information_maximization", "class_ami", "source_validation"]


def candidates(seed, **target):
    evidence, truth = source_only(seed, **target)
    good = with_target(able(evidence), logits=logits_for(truth, certainty=6.0))
    return {"source_only": evidence, "good": good, "marginal": good}


def decided(seed, **target):
    return decide(
        candidates(seed, **target), select_by=SELECT_BY, assumes_equal_prevalence={"marginal"}, seed=seed
    )


@pytest.fixture(scope="module")
def shifted():
    return decided(0, shift=0.4)


def test_a_shift_that_a_method_mends_is_adapted_to(shifted):
    assert shifted.verdict == "adapt"
    assert shifted.chosen == "good"
    assert "'good' has the best mean rank" in shifted.reason
    assert "AUC" in shifted.reason


def test_an_equal_target_is_left_alone():
    found = decided(0)
    assert (found.verdict, found.chosen) == ("do_not_adapt", "source_only")
    assert found.reason.startswith("Nothing to adapt")


def test_another_prevalence_alone_needs_no_adaptation_but_a_correction():
    found = decided(9, shares=(0.85, 0.15))
    assert found.guards["other_prevalence"]["fired"]
    assert found.guards["nothing_to_adapt"]["fired"]
    assert (found.verdict, found.chosen) == ("do_not_adapt", "source_only")
    assert "correct its probabilities" in found.reason


def test_an_unknown_class_cannot_be_decided():
    found = decided(0, unknown=0.3, shift=0.3)
    assert (found.verdict, found.chosen) == ("cannot_tell", "source_only")
    assert "does not know" in found.reason


def test_few_patients_cannot_be_decided():
    found = decided(0, patients=9)
    assert (found.verdict, found.chosen) == ("cannot_tell", "source_only")
    assert "Collect more patients" in found.reason


def test_other_prevalence_rules_out_who_assumes_it_equal():
    found = decided(1, shift=0.3, shares=(0.85, 0.15))
    assert found.verdict == "adapt"
    assert found.chosen == "good"
    assert list(found.ranking["refused"]) == ["marginal"]
    assert "marginal" in found.reason


def test_equal_prevalence_rules_out_nobody(shifted):
    assert shifted.ranking["refused"] == {}
    assert shifted.ranking["order"] == ["good", "marginal", "source_only"]


def test_adapted_models_that_are_no_better_leave_source_only():
    evidence, _ = source_only(0, shift=0.4)
    flat = with_target(evidence, logits=0.1 * evidence.target.logits)
    found = decide({"source_only": evidence, "flat": flat}, select_by=SELECT_BY)
    assert (found.verdict, found.chosen) == ("do_not_adapt", "source_only")
    assert "no adapted model" in found.reason


def test_the_file_has_its_keys_and_reads_back(shifted):
    written = json.loads(json.dumps(shifted.to_json(), allow_nan=False))
    assert written == shifted.to_json()
    assert set(written) == {
        "candidates", "chosen", "verdict", "reason", "target_test", "oracle", "ranking", "disagreement",
        "guards",
    }  # fmt: skip
    assert written["target_test"] is None
    assert written["oracle"] is None
    assert set(written["candidates"]["good"]["validators"]) == set(SELECT_BY)
    assert set(written["guards"]) == {"nothing_to_adapt", "unknown_class", "other_prevalence"}
    assert Decision.from_json(written) == shifted
    assert Decision.from_json(written | {"oracle": {"good": 1}}) == shifted


def test_equal_seeds_give_equal_bytes(shifted):
    again = decided(0, shift=0.4)
    assert json.dumps(again.to_json()) == json.dumps(shifted.to_json())


def test_the_order_of_candidates_does_not_matter(shifted):
    turned = dict(reversed(candidates(0, shift=0.4).items()))
    again = decide(turned, select_by=SELECT_BY, assumes_equal_prevalence={"marginal"}, seed=0)
    assert again == shifted


def test_without_source_only_nothing_is_decided():
    with pytest.raises(RequestError, match="always a candidate"):
        decide({"good": candidates(0)["good"]}, select_by=SELECT_BY)


def test_neither_plug_ins_nor_this_room_need_tensorflow_and_plug_ins_need_no_numpy():
    script = (
        "import sys\n"
        "for name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "from kerastl import registry\n"
        "found = [registry.options_of('validator', name) for name in registry.names('validator')]\n"
        "assert len(found) == 9 and 'numpy' not in sys.modules, sorted(sys.modules)\n"
        "from kerastl.selection import decide, rank, tell_apart\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
