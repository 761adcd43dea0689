import json
import subprocess
import sys

import pytest
from make_evidence import accurate_on_source, logits_for, make_source_only, with_target

from kerastl.errors import RequestError
from kerastl.runs import Adaptation
from kerastl.selection import decide
from kerastl.selection import decision as decision_module
from tests.selection.conftest import RESAMPLES

SELECT_BY = ["information_maximization", "class_ami", "source_validation"]


def make_candidates(seed, **target):
    evidence, truth = make_source_only(seed, **target)
    good = with_target(accurate_on_source(evidence), logits=logits_for(truth, certainty=6.0))
    return {"source_only": evidence, "good": good, "marginal": good}


def decide_for(seed, **target):
    return decide(
        make_candidates(seed, **target), select_by=SELECT_BY, assumes_equal_prevalence={"marginal"}, seed=seed
    )


@pytest.fixture(scope="module")
def shifted(class_guards):
    with pytest.MonkeyPatch.context() as patch:  # the fixture that does this for each test comes later
        patch.setattr(decision_module, "_class_guards", class_guards)
        patch.setattr(decision_module, "RESAMPLES", RESAMPLES)
        return decide_for(0, shift=0.4)


def test_verdict_is_adapt_if_a_method_corrects_a_shift(shifted):
    assert shifted.verdict == "adapt"
    assert shifted.chosen == "good"
    assert "'good' has the best mean rank" in shifted.reason
    assert "AUC" in shifted.reason


def test_verdict_is_do_not_adapt_for_an_equal_target():
    decision = decide_for(0)
    assert (decision.verdict, decision.chosen) == ("do_not_adapt", "source_only")
    assert decision.reason.startswith("Nothing to adapt")


def test_other_prevalence_alone_needs_a_correction_instead_of_adaptation():
    decision = decide_for(9, shares=(0.85, 0.15))
    assert decision.guards["other_prevalence"]["fired"]
    assert decision.guards["nothing_to_adapt"]["fired"]
    assert (decision.verdict, decision.chosen) == ("do_not_adapt", "source_only")
    assert "correct its probabilities" in decision.reason


def test_unknown_class_is_inconclusive():
    decision = decide_for(0, unknown=0.3, shift=0.3)
    assert (decision.verdict, decision.chosen) == ("cannot_tell", "source_only")
    assert "does not know" in decision.reason


def test_few_patients_are_inconclusive():
    decision = decide_for(0, patients=9)
    assert (decision.verdict, decision.chosen) == ("cannot_tell", "source_only")
    assert "Collect more patients" in decision.reason


def test_other_prevalence_excludes_methods_that_assume_equal_prevalence():
    decision = decide_for(1, shift=0.3, shares=(0.85, 0.15))
    assert decision.verdict == "adapt"
    assert decision.chosen == "good"
    assert list(decision.ranking["rejected"]) == ["marginal"]
    assert "marginal" in decision.reason


def test_equal_prevalence_excludes_no_method(shifted):
    assert shifted.ranking.rejected == {}
    assert shifted.ranking.order == ("good", "marginal", "source_only")


def test_source_only_is_chosen_if_no_adapted_model_is_better():
    evidence, _ = make_source_only(0, shift=0.4)
    flat = with_target(evidence, logits=0.1 * evidence.target.logits)
    decision = decide({"source_only": evidence, "flat": flat}, select_by=SELECT_BY)
    assert (decision.verdict, decision.chosen) == ("do_not_adapt", "source_only")
    assert "no adapted model" in decision.reason


def test_decision_survives_a_json_round_trip(shifted, tmp_path):
    shifted.write(tmp_path)
    written = json.loads((tmp_path / "adaptation.json").read_text())
    assert set(written) == {
        "candidates", "chosen", "verdict", "reason", "target_test", "oracle", "ranking", "disagreement",
        "guards",
    }  # fmt: skip
    assert written["target_test"] is None
    assert written["oracle"] is None
    assert set(written["candidates"]["good"]["validators"]) == set(SELECT_BY)
    assert set(written["guards"]) == {"nothing_to_adapt", "unknown_class", "other_prevalence"}
    assert Adaptation.read(tmp_path) == shifted


def test_equal_seeds_give_identical_json(shifted):
    again = decide_for(0, shift=0.4)
    assert json.dumps(again.to_json()) == json.dumps(shifted.to_json())


def test_order_of_candidates_does_not_matter(shifted):
    reordered = dict(reversed(make_candidates(0, shift=0.4).items()))
    again = decide(reordered, select_by=SELECT_BY, assumes_equal_prevalence={"marginal"}, seed=0)
    assert again == shifted


def test_source_only_is_required():
    with pytest.raises(RequestError, match="'source_only' is missing"):
        decide({"good": make_candidates(0)["good"]}, select_by=SELECT_BY)


def test_selection_does_not_import_tensorflow_and_validator_options_do_not_import_numpy():
    script = (
        "import sys\n"
        "for name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "from kerastl import registry\n"
        "options = [registry.options_of('validator', name) for name in registry.names('validator')]\n"
        "assert len(options) == 9 and 'numpy' not in sys.modules, sorted(sys.modules)\n"
        "from kerastl.selection import decide, domain_auc, rank\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
