import numpy as np
import pytest
from hospitals_drawn import axes_of, source_only, with_target

from kerastl.selection.guards import evaluate_guards

CASES = {
    "equal": {},
    "shifted": {"shift": 0.4},
    "shifted_and_squeezed": {"shift": 0.4, "stretch": 0.8},
    "prevalence": {"shares": (0.85, 0.15)},
    "prevalence_and_shift": {"shares": (0.85, 0.15), "shift": 0.3},
    "unknown": {"unknown": 0.3},
    "unknown_and_shift": {"unknown": 0.3, "shift": 0.3},
}
FIRED = {
    "equal": "nothing_to_adapt",
    "prevalence": "other_prevalence",
    "prevalence_and_shift": "other_prevalence",
    "unknown": "unknown_class",
    "unknown_and_shift": "unknown_class",
}


def fired(case, seed, **how):
    evidence, _ = source_only(seed, **(CASES[case] | how))
    return {name for name, guard in evaluate_guards(evidence, seed=seed).items() if guard.fired}


@pytest.mark.parametrize("case", FIRED)
def test_a_planted_reason_is_found(case):
    assert FIRED[case] in fired(case, 0)


def test_a_plain_shift_gives_no_reason():
    assert fired("shifted", 0) == set()


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRED)
def test_planted_reasons_are_found_in_eight_of_ten(case):
    hits = sum(FIRED[case] in fired(case, seed) for seed in range(10))
    assert hits >= 8, hits


@pytest.mark.slow
@pytest.mark.parametrize("case", ["shifted", "shifted_and_squeezed"])
def test_a_plain_shift_is_refused_in_two_of_ten_at_most(case):
    """Any of the three guards counts as a refusal."""
    refusals = [fired(case, seed) for seed in range(10)]
    assert sum(map(bool, refusals)) <= 2, refusals


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), FIRED.items())
def test_four_classes_give_the_same(case, name):
    """Also of four classes; half of the prevalence is taken from three of them."""
    four = {"source": (0.25,) * 4, "patients": 100}
    if case.startswith("prevalence"):
        four |= {"shares": (0.7, 0.1, 0.1, 0.1)}
    hits = sum(name in fired(case, seed, **four) for seed in range(10))
    assert hits >= 8, hits


def test_one_patient_far_from_all_is_no_class():
    """A fifth of the images, but all of one patient."""
    evidence, _ = source_only(0, shift=0.3)
    features = evidence.target.features.copy()
    features[:60] = features[0] + 8 * axes_of(0)[9] + np.random.default_rng(0).normal(size=(60, 24))
    changed = with_target(evidence, features=features.astype(np.float32))
    one = tuple("p0" if row < 60 else name for row, name in enumerate(changed.target.groups))
    object.__setattr__(changed.target, "groups", one)
    assert not evaluate_guards(changed, seed=0)["unknown_class"].fired


def test_few_patients_cannot_tell():
    evidence, _ = source_only(0, patients=9)
    guards = evaluate_guards(evidence, seed=0)
    assert {guard.fired for guard in guards.values()} == {None}
    assert "fewer than 10" in guards["nothing_to_adapt"].reason
    assert "fewer than 10" in guards["other_prevalence"].reason


def test_what_is_measured_is_told():
    guards = evaluate_guards(source_only(0, unknown=0.3)[0], seed=0)
    measured = guards["unknown_class"].measured
    assert measured["share"] == pytest.approx(0.3, abs=0.12)
    assert measured["patients"] >= 10
    assert "spread of a class away" in guards["unknown_class"].reason
    prevalence = guards["other_prevalence"].measured
    assert sum(prevalence["em"]["value"]) == pytest.approx(1)
    assert sum(prevalence["moved_classes"]["value"]) == pytest.approx(1)


def test_what_lies_far_by_the_scanner_alone_is_no_unknown_class():
    strange, (plain, _) = source_only(0, unknown=0.3)[0], source_only(0, shift=0.3)
    assert evaluate_guards(strange, seed=0)["unknown_class"].fired
    guards = evaluate_guards(strange, again=[plain], seed=0)
    assert not guards["unknown_class"].fired
    assert guards["unknown_class"].measured["before"]["found"]
    assert evaluate_guards(plain, again=[strange], seed=0)["unknown_class"].fired is False
    assert evaluate_guards(strange, again=[strange], seed=0)["unknown_class"].fired


def test_prevalence_is_asked_again_where_each_domain_has_its_own_statistics():
    rare, (plain, _) = source_only(0, shares=(0.85, 0.15))[0], source_only(0, shift=0.3)
    assert evaluate_guards(rare, seed=0)["other_prevalence"].fired
    assert not evaluate_guards(rare, again=[plain], seed=0)["other_prevalence"].fired
    assert evaluate_guards(rare, again=[rare], seed=0)["other_prevalence"].fired


def test_prevalence_holds_where_the_same_class_is_rarer_each_time():
    rare, _ = source_only(0, shares=(0.85, 0.15))
    other, _ = source_only(0, shares=(0.15, 0.85))
    first = evaluate_guards(rare, seed=0)["other_prevalence"]
    assert (first.measured["rarer"], first.measured["commoner"]) == (["class 1"], ["class 0"])
    turned = evaluate_guards(rare, again=[other], seed=0)["other_prevalence"]
    assert not turned.fired
    assert "however the images are seen" in turned.reason
    assert evaluate_guards(rare, again=[rare, rare], seed=0)["other_prevalence"].fired


@pytest.mark.parametrize("seed", range(3))
def test_images_of_all_classes_in_another_view_are_no_unknown_class(seed):
    """A third of the patients lies far away, as those of the planted class do, but benign and malignant alike."""
    evidence, _ = source_only(seed, shift=0.3)
    target = evidence.target
    patients = {name: place for place, name in enumerate(dict.fromkeys(target.units))}
    elsewhere = np.array([patients[unit] % 3 == 0 for unit in target.units])
    away = 10.0 * axes_of(seed)[7]
    features = (target.features + elsewhere[:, None] * away).astype(np.float32)
    guard = evaluate_guards(with_target(evidence, features=features), seed=0)["unknown_class"]
    assert guard.measured["gain"]["low"] > 0
    assert guard.measured["distance"] > 4
    assert guard.measured["spread"] > 0.6
    assert not guard.fired


def test_a_model_that_does_not_know_the_targets_images_cannot_tell_how_common_classes_are():
    rare, _ = source_only(0, shares=(0.85, 0.15))
    unsure = with_target(rare, logits=rare.target.logits / 20)
    guard = evaluate_guards(unsure, renormalized=unsure, again=[rare], seed=0)["other_prevalence"]
    assert guard.fired is not True
    knowing = evaluate_guards(unsure, renormalized=rare, again=[rare], seed=0)["other_prevalence"]
    assert (guard.fired, knowing.fired) == (None, True), (guard.reason, knowing.reason)
    assert "left open" in guard.reason


def test_nothing_is_to_adapt_where_other_shares_of_the_classes_explain_all():
    rare, _ = source_only(0, shares=(0.85, 0.15))
    nothing = evaluate_guards(rare, seed=0)["nothing_to_adapt"]
    assert nothing.fired
    assert nothing.measured["low"] > 0.5 >= nothing.measured["weighed"]["low"]
    assert "but for how common" in nothing.reason
    moved, _ = source_only(0, shares=(0.85, 0.15), shift=0.3)
    found = evaluate_guards(moved, seed=0)
    assert found["other_prevalence"].fired
    assert not found["nothing_to_adapt"].fired
