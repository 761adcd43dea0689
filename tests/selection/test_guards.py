import numpy as np
import pytest
from make_evidence import in_eight_of_ten_seeds, make_source_only, random_axes, with_target

from kerastl.selection.decision import evaluate_guards

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
    evidence, _ = make_source_only(seed, **(CASES[case] | how))
    return {name for name, guard in evaluate_guards(evidence, seed=seed).items() if guard.fired}


def test_no_guard_fires_for_a_plain_shift():
    assert fired("shifted", 0) == set()


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRED)
def test_guards_detect_their_case_in_eight_of_ten_seeds(case):
    assert in_eight_of_ten_seeds(lambda seed: FIRED[case] in fired(case, seed))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["shifted", "shifted_and_squeezed"])
def test_plain_shift_fires_a_guard_in_at_most_two_of_ten_seeds(case):
    assert in_eight_of_ten_seeds(lambda seed: not fired(case, seed))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["prevalence_and_shift", "unknown_and_shift"])
def test_guards_detect_their_case_among_four_classes(case):
    """Among five classes without a shift: test_guards_digits.py."""
    four = {"source": (0.25,) * 4, "patients": 100}
    if case.startswith("prevalence"):
        four |= {"shares": (0.7, 0.1, 0.1, 0.1)}
    assert in_eight_of_ten_seeds(lambda seed: FIRED[case] in fired(case, seed, **four))


def test_images_of_a_single_distant_patient_are_not_an_unknown_class():
    evidence, _ = make_source_only(0, shift=0.3)
    features = evidence.target.features.copy()
    features[:60] = features[0] + 8 * random_axes(0)[9] + np.random.default_rng(0).normal(size=(60, 24))
    changed = with_target(evidence, features=features.astype(np.float32))
    groups = tuple("p0" if row < 60 else name for row, name in enumerate(changed.target.groups))
    object.__setattr__(changed.target, "groups", groups)
    assert not evaluate_guards(changed, seed=0)["unknown_class"].fired


def test_guards_are_inconclusive_with_few_patients():
    evidence, _ = make_source_only(0, patients=9)
    guards = evaluate_guards(evidence, seed=0)
    assert {guard.fired for guard in guards.values()} == {None}
    assert guards["nothing_to_adapt"].reason.startswith("9 source validation patients (at least 10")
    assert "at least 10 are needed" in guards["other_prevalence"].reason


def test_guards_report_what_they_measured():
    guards = evaluate_guards(make_source_only(0, unknown=0.3)[0], seed=0)
    measured = guards["unknown_class"].measured
    assert measured["share"] == pytest.approx(0.3, abs=0.12)
    assert measured["patients"] >= 10
    assert "within-class standard deviations" in guards["unknown_class"].reason
    prevalence = guards["other_prevalence"].measured
    assert sum(prevalence["em"]["value"]) == pytest.approx(1)
    assert sum(prevalence["location_scale"]["value"]) == pytest.approx(1)


def test_unknown_class_must_be_confirmed_by_adapted_models():
    unknown, (plain, _) = make_source_only(0, unknown=0.3)[0], make_source_only(0, shift=0.4)
    assert evaluate_guards(unknown, seed=0)["unknown_class"].fired
    guards = evaluate_guards(unknown, adapted=[plain], seed=0)
    assert not guards["unknown_class"].fired
    assert guards["unknown_class"].measured["earlier"]["detected"]
    assert evaluate_guards(plain, adapted=[unknown], seed=0)["unknown_class"].fired is False
    assert evaluate_guards(unknown, adapted=[unknown], seed=0)["unknown_class"].fired


def test_prevalence_must_be_confirmed_by_adapted_models():
    rare, (plain, _) = make_source_only(0, shares=(0.85, 0.15))[0], make_source_only(0, shift=0.4)
    assert evaluate_guards(rare, seed=0)["other_prevalence"].fired
    assert not evaluate_guards(rare, adapted=[plain], seed=0)["other_prevalence"].fired
    assert evaluate_guards(rare, adapted=[rare], seed=0)["other_prevalence"].fired


@pytest.mark.slow
def test_prevalence_guard_requires_the_same_less_frequent_class_each_time():
    rare, _ = make_source_only(0, shares=(0.85, 0.15))
    other, _ = make_source_only(0, shares=(0.15, 0.85))
    first = evaluate_guards(rare, seed=0)["other_prevalence"]
    assert (first.measured["less_frequent"], first.measured["more_frequent"]) == (["class 1"], ["class 0"])
    contradicted = evaluate_guards(rare, adapted=[other], seed=0)["other_prevalence"]
    assert not contradicted.fired
    assert "according to all models" in contradicted.reason
    assert evaluate_guards(rare, adapted=[rare, rare], seed=0)["other_prevalence"].fired


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_shifted_patients_of_all_classes_are_not_an_unknown_class(seed):
    """A third of the patients is as far away as an unknown class, but with both classes."""
    evidence, _ = make_source_only(seed, shift=0.3)
    target = evidence.target
    patients = {name: number for number, name in enumerate(dict.fromkeys(target.units))}
    is_shifted = np.array([patients[unit] % 3 == 0 for unit in target.units])
    offset = 10.0 * random_axes(seed)[7]
    features = (target.features + is_shifted[:, None] * offset).astype(np.float32)
    guard = evaluate_guards(with_target(evidence, features=features), seed=0)["unknown_class"]
    assert guard.measured["gain"]["low"] > 0
    assert guard.measured["distance"] > 4
    assert guard.measured["spread"] > 0.6
    assert not guard.fired


def test_prevalence_is_inconclusive_if_no_model_recognizes_the_target_classes():
    rare, _ = make_source_only(0, shares=(0.85, 0.15))
    uncertain = with_target(rare, logits=rare.target.logits / 20)
    guard = evaluate_guards(uncertain, renormalized=uncertain, adapted=[rare], seed=0)["other_prevalence"]
    assert guard.fired is not True
    certain = evaluate_guards(uncertain, renormalized=rare, adapted=[rare], seed=0)["other_prevalence"]
    assert (guard.fired, certain.fired) == (None, True), (guard.reason, certain.reason)
    assert "normalized entropy" in guard.reason


def test_nothing_to_adapt_if_prevalence_explains_the_difference():
    rare, _ = make_source_only(0, shares=(0.85, 0.15))
    nothing = evaluate_guards(rare, seed=0)["nothing_to_adapt"]
    assert nothing.fired
    assert nothing.measured["low"] > 0.5 >= nothing.measured["weighted"]["low"]
    assert "after weighting" in nothing.reason
    shifted, _ = make_source_only(0, shares=(0.85, 0.15), shift=0.3)
    guards = evaluate_guards(shifted, seed=0)
    assert guards["other_prevalence"].fired
    assert not guards["nothing_to_adapt"].fired
