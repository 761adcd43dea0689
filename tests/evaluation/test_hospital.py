import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions_drawn import made, together, with_validation
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from kerastl.errors import RequestError
from kerastl.evaluation import paired_difference, read_predictions, write_predictions
from kerastl.evaluation import score as score_fully
from kerastl.evaluation.calibration import fit_temperature, net_benefit, with_temperature
from kerastl.evaluation.metrics import brier, ece, equal_mass_bins
from kerastl.evaluation.operating_points import optimal_rates, rates

score = partial(score_fully, resamples=100)


def ones(count):
    return np.ones((1, count))


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_brier_equals_scikit_learn(classes):
    one = made(classes=classes, groups=40)
    p = one.probabilities[:, 1] if classes == 2 else one.probabilities
    truth = one.labels if classes == 2 else np.eye(classes)[one.labels]
    expected = sk.brier_score_loss(truth, p)
    assert brier(one.labels, one.probabilities, ones(120))[0] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_ece_equals_a_loop_over_bins_of_equal_mass(classes):
    one = made(classes=classes, groups=40, count=150)
    p = one.probabilities
    told = p[:, 1] if classes == 2 else p.max(axis=1)
    true = one.labels == 1 if classes == 2 else p.argmax(axis=1) == one.labels
    gaps = [
        len(rows) / 150 * abs(told[rows].mean() - true[rows].mean())
        for rows in np.array_split(np.argsort(told), 15)
    ]
    assert ece(one.labels, p, ones(150))[0] == pytest.approx(sum(gaps))


def test_the_reliability_curve_equals_scikit_learn():
    one = made(count=200)
    true, told = calibration_curve(one.labels, one.probabilities[:, 1], n_bins=10, strategy="quantile")
    bins = score(one)["test"]["reliability"]["overall"]["uncalibrated"]
    np.testing.assert_allclose([one["predicted"] for one in bins], told)
    np.testing.assert_allclose([one["observed"]["value"] for one in bins], true)
    assert sum(one["count"] for one in bins) == 200


def test_equal_scores_share_a_bin():
    scores = np.array([0.1] * 10 + [0.2] * 3 + [0.3])
    bins = equal_mass_bins(scores, 5)
    assert [len(set(bins[scores == one])) for one in (0.1, 0.2, 0.3)] == [1, 1, 1]
    assert bins.max() < 5


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
    st.sampled_from(["sensitivity", "specificity"]),
)
def test_the_own_place_is_the_best_of_scikit_learns_roc_curve(rows, at, fixed):
    """Many ties, and weights as a bootstrap gives them."""
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    positive, scores = positive.astype(bool), scores / 7
    weights = weights[None].astype(float)
    drawn = np.repeat(np.arange(len(rows)), weights[0].astype(int))
    found = optimal_rates(positive, scores, weights, fixed=fixed, at=at)[0]
    if len(set(positive[drawn].tolist())) < 2:
        assert np.isnan(found).all()
        return
    false, true, _ = sk.roc_curve(positive[drawn], scores[drawn], drop_intermediate=False)
    held, other = (1 - false, true) if fixed == "specificity" else (true, 1 - false)
    best = other[held >= at - 1e-9].max()
    told = {"sensitivity": found[0], "specificity": found[1]}
    assert told[fixed] >= at - 1e-9
    assert {*told.values()} >= {told[fixed]}
    assert told["sensitivity" if fixed == "specificity" else "specificity"] == pytest.approx(best)
    np.testing.assert_allclose(
        rates(positive, scores, weights, threshold=found[2])[0], found[:2]
    )  # the threshold gives what it says


def test_the_threshold_of_validation_is_carried_over_as_it_is():
    one = with_validation(shift=1.0)
    scores = score(one)
    validation, target = one.of("val"), one.of("target_test")
    for place, fixed in enumerate(("specificity", "sensitivity")):
        point = scores["target_test"]["operating_points"]["points"][place]
        assert point["fixed"] == fixed
        assert point["threshold"] == scores["val"]["operating_points"]["points"][place]["threshold"]
        said = validation.probabilities[:, 1] >= point["threshold"]
        on_validation = sk.recall_score(validation.labels, said, pos_label=place_of(fixed))
        assert on_validation >= 0.9
        said = target.probabilities[:, 1] >= point["threshold"]
        told = point["overall"]
        for name in ("sensitivity", "specificity"):
            expected = sk.recall_score(target.labels, said, pos_label=place_of(name))
            assert told[name]["value"] == pytest.approx(expected)
            assert told[name]["low"] < told[name]["value"] < told[name]["high"]
            cost = told[f"{name}_difference"]["value"]
            assert cost == pytest.approx(expected - told[f"own_{name}"]["value"])


def place_of(rate):
    return 1 if rate == "sensitivity" else 0


def test_a_shift_of_the_scores_costs_specificity_at_the_target_and_the_interval_says_so():
    points = score(with_validation(shift=1.5))["target_test"]["operating_points"]["points"]
    told = points[0]["overall"]
    assert told["specificity_difference"]["high"] < 0 < told["sensitivity_difference"]["low"]


def test_the_labels_of_the_target_move_no_threshold():
    one, other = with_validation(), with_validation()
    target = [split == "target_test" for split in other.splits]
    other.labels[target] = np.random.default_rng(0).permutation(other.labels[target])
    for place in (0, 1):
        first, second = (
            score(some)["target_test"]["operating_points"]["points"][place] for some in (one, other)
        )
        assert first["threshold"] == second["threshold"]
    temperature = [score(some)["test"]["calibration"]["temperature"] for some in (one, other)]
    assert temperature[0] == temperature[1]


def test_the_positive_class_can_be_named():
    one = with_validation()
    told = score(one, positive="class0")["test"]["operating_points"]
    assert told["positive"] == "class0"
    said = one.of("test").probabilities[:, 0] >= told["points"][0]["threshold"]
    expected = np.mean(said[one.of("test").labels == 0])
    assert told["points"][0]["overall"]["sensitivity"]["value"] == pytest.approx(expected)
    with pytest.raises(RequestError, match=r"evaluation.positive: there is no class 'x'"):
        score(one, positive="x")


def test_of_three_classes_one_must_be_named():
    one = with_validation(classes=3)
    told = score(one)["test"]
    for part in ("operating_points", "decision_curve"):
        assert "name it with evaluation.positive" in told[part]["reason"]
    assert told["reliability"]["of"] == "probability of the answer"
    named = score(one, positive="class2")["test"]
    assert named["operating_points"]["points"][0]["overall"]["sensitivity"]["value"] > 0.3
    assert len(named["decision_curve"]["overall"]["model"]) == 19


def test_without_validation_nothing_is_carried_and_the_reason_is_told():
    told = score(made())["test"]
    point = told["operating_points"]["points"][0]
    assert point["threshold"] is None
    assert "validation has no labelled images" in point["overall"]["sensitivity"]["reason"]
    assert told["calibration"]["temperature"]["value"] is None
    assert told["calibration"]["overall"]["ece"]["reason"] == "no labelled image in the split val"


def test_one_class_alone_has_its_own_rate_only():
    one = with_validation()
    rows = [row for row, label in enumerate(one.labels) if label == 0 or one.splits[row] != "target_test"]
    told = score(one.take(rows))["target_test"]["operating_points"]["points"][0]["overall"]
    assert told["specificity"]["value"] > 0.5
    assert told["sensitivity"]["reason"] == "no image of the positive class"
    assert told["own_specificity"]["value"] is None


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_answers_is_found(truth):
    generator = np.random.default_rng(0)
    right = softmax(generator.normal(size=(20_000, 3)) * 2)
    labels = (right.cumsum(axis=1) > generator.random((20_000, 1))).argmax(axis=1)
    spoilt = softmax(np.log(right) * truth)
    temperature = fit_temperature(labels, spoilt)
    assert temperature == pytest.approx(truth, rel=0.05)
    np.testing.assert_allclose(with_temperature(spoilt, truth), right, rtol=1e-6)


def test_the_temperature_has_the_least_log_loss():
    one = made(count=300, signal=1.0)
    temperature = fit_temperature(one.labels, one.probabilities)
    losses = [
        sk.log_loss(one.labels, with_temperature(one.probabilities, temperature * factor))
        for factor in (0.98, 1.0, 1.02)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_answers_without_an_error_have_no_temperature():
    labels = np.array([0, 1, 0, 1])
    assert fit_temperature(labels, softmax(np.eye(2)[labels] * 3)) is None
    assert fit_temperature(labels, np.full((4, 2), 0.5)) is None


def test_temperature_mends_the_calibration_of_a_model_that_is_too_sure():
    one = with_validation()
    one.logits[:] *= 4
    told = score(one)["test"]
    assert told["calibration"]["temperature"]["value"] > 2
    for name in ("ece", "brier", "log_loss"):
        assert told["calibration"]["overall"][name]["value"] < told["overall"][name]["value"]


def test_net_benefit_equals_the_formula():
    positive = np.array([True, True, False, False, False])
    scores = np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    called = scores[:, None] >= np.array([0.25, 0.5])
    told = net_benefit(positive, called, ones(5), at=(0.25, 0.5))[0]
    np.testing.assert_allclose(told, [2 / 5 - 1 / 5 / 3, 1 / 5 - 1 / 5])


def test_to_treat_all_is_worth_the_prevalence_less_the_false_alarms():
    curve = score(made(count=200))["test"]["decision_curve"]["overall"]
    expected = [0.5 - 0.5 * at / (1 - at) for at in curve["at"]]
    np.testing.assert_allclose([one["value"] for one in curve["all"]], expected)
    half = curve["at"].index(0.5)
    assert curve["model"][half]["value"] > max(0, curve["all"][half]["value"])


def test_calibration_can_be_compared_between_two_models():
    good = made(count=200)
    told = paired_difference(made(count=200, signal=-1.0), good, metric="brier")
    assert (told["outcome"], told["value"] < 0) == ("better", True)


def test_a_table_read_back_scores_to_the_same_bytes(tmp_path):
    one = together(with_validation(shift=0.5))
    write_predictions(tmp_path / "predictions.csv", one)
    read = read_predictions(tmp_path / "predictions.csv")
    told = [json.dumps(score(some), allow_nan=False) for some in (one, read)]
    assert told[0] == told[1]


def test_no_order_of_rows_changes_a_byte():
    one = with_validation(count=100)
    rows = np.random.default_rng(1).permutation(len(one.labels)).tolist()
    told = [json.dumps(score(some)) for some in (one, one.take(rows))]
    assert told[0] == told[1]
