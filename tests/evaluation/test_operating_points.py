import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from synthetic_predictions import concatenate, make_predictions, make_splits

from kerastl.errors import RequestError, recipe_syntax
from kerastl.evaluation import paired_difference, read_predictions, write_predictions
from kerastl.evaluation import score as score_fully
from kerastl.evaluation.calibration import fit_temperature, net_benefit
from kerastl.evaluation.metrics import brier, ece, equal_mass_bins
from kerastl.evaluation.operating_points import optimal_rates, rates
from kerastl.runs import Scores

score = partial(score_fully, resamples=50)


def ones(count):
    return np.ones((1, count))


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_brier_equals_scikit_learn(classes):
    predictions = make_predictions(classes=classes, groups=40)
    p = predictions.probabilities[:, 1] if classes == 2 else predictions.probabilities
    truth = predictions.labels if classes == 2 else np.eye(classes)[predictions.labels]
    expected = sk.brier_score_loss(truth, p)
    assert brier(predictions.labels, predictions.probabilities, ones(120))[0] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_ece_equals_a_loop_over_bins_of_equal_mass(classes):
    predictions = make_predictions(classes=classes, groups=40, count=150)
    p = predictions.probabilities
    confidence = p[:, 1] if classes == 2 else p.max(axis=1)
    outcome = predictions.labels == 1 if classes == 2 else p.argmax(axis=1) == predictions.labels
    gaps = [
        len(rows) / 150 * abs(confidence[rows].mean() - outcome[rows].mean())
        for rows in np.array_split(np.argsort(confidence), 15)
    ]
    assert ece(predictions.labels, p, ones(150))[0] == pytest.approx(sum(gaps))


def test_reliability_curve_equals_scikit_learn():
    predictions = make_predictions(count=200)
    observed, predicted = calibration_curve(
        predictions.labels, predictions.probabilities[:, 1], n_bins=10, strategy="quantile"
    )
    bins = score(predictions)["test"]["reliability"]["overall"]["uncalibrated"]
    np.testing.assert_allclose([entry["predicted"] for entry in bins], predicted)
    np.testing.assert_allclose([entry["observed"]["value"] for entry in bins], observed)
    assert sum(entry["count"] for entry in bins) == 200


def test_equal_scores_are_in_one_bin():
    scores = np.array([0.1] * 10 + [0.2] * 3 + [0.3])
    bins = equal_mass_bins(scores, 5)
    assert [len(set(bins[scores == score_value])) for score_value in (0.1, 0.2, 0.3)] == [1, 1, 1]
    assert bins.max() < 5


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
    st.sampled_from(["sensitivity", "specificity"]),
)
def test_optimal_rates_are_the_best_point_of_the_scikit_learn_roc_curve(rows, at, fixed):
    """Many ties, and weights as a bootstrap gives them."""
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    positive, scores = positive.astype(bool), scores / 7
    weights = weights[None].astype(float)
    drawn = np.repeat(np.arange(len(rows)), weights[0].astype(int))
    optimal = optimal_rates(positive, scores, weights, fixed=fixed, at=at)[0]
    if len(set(positive[drawn].tolist())) < 2:
        assert np.isnan(optimal).all()
        return
    false, true, _ = sk.roc_curve(positive[drawn], scores[drawn], drop_intermediate=False)
    held, other = (1 - false, true) if fixed == "specificity" else (true, 1 - false)
    best = other[held >= at - 1e-9].max()
    optimal_of = {"sensitivity": optimal[0], "specificity": optimal[1]}
    assert optimal_of[fixed] >= at - 1e-9
    assert optimal_of["sensitivity" if fixed == "specificity" else "specificity"] == pytest.approx(best)
    np.testing.assert_allclose(rates(positive, scores, weights, threshold=optimal[2])[0], optimal[:2])


def test_validation_threshold_is_used_for_all_splits():
    predictions = make_splits(shift=1.0)
    scores = score(predictions)
    validation, target = predictions.of("val"), predictions.of("target_test")
    for index, fixed in enumerate(("specificity", "sensitivity")):
        point = scores["target_test"]["operating_points"]["points"][index]
        assert point["fixed"] == fixed
        assert point["threshold"] == scores["val"]["operating_points"]["points"][index]["threshold"]
        called = validation.probabilities[:, 1] >= point["threshold"]
        on_validation = sk.recall_score(validation.labels, called, pos_label=label_of(fixed))
        assert on_validation >= 0.9
        called = target.probabilities[:, 1] >= point["threshold"]
        result = point["overall"]
        for name in ("sensitivity", "specificity"):
            expected = sk.recall_score(target.labels, called, pos_label=label_of(name))
            assert result[name]["value"] == pytest.approx(expected)
            assert result[name]["low"] < result[name]["value"] < result[name]["high"]
            cost = result[f"{name}_difference"]["value"]
            assert cost == pytest.approx(expected - result[f"own_{name}"]["value"])


def label_of(rate):
    return 1 if rate == "sensitivity" else 0


def test_score_shift_at_the_target_reduces_specificity_significantly():
    points = score(make_splits(shift=1.5))["target_test"]["operating_points"]["points"]
    result = points[0]["overall"]
    assert result["specificity_difference"]["high"] < 0 < result["sensitivity_difference"]["low"]


def test_target_labels_do_not_change_thresholds():
    original, permuted = make_splits(), make_splits()
    target = [split == "target_test" for split in permuted.splits]
    permuted.labels[target] = np.random.default_rng(0).permutation(permuted.labels[target])
    scores = [score(variant) for variant in (original, permuted)]
    thresholds = [
        [point["threshold"] for point in result["target_test"]["operating_points"]["points"]]
        for result in scores
    ]
    assert thresholds[0] == thresholds[1]
    temperatures = [result["test"]["calibration"]["temperature"] for result in scores]
    assert temperatures[0] == temperatures[1]


def test_positive_class_can_be_set():
    predictions = make_splits()
    result = score(predictions, positive="class0")["test"]["operating_points"]
    assert result["positive"] == "class0"
    called = predictions.of("test").probabilities[:, 0] >= result["points"][0]["threshold"]
    expected = np.mean(called[predictions.of("test").labels == 0])
    assert result["points"][0]["overall"]["sensitivity"]["value"] == pytest.approx(expected)
    with pytest.raises(RequestError, match=r"^positive: there is no class 'x'"):
        score(predictions, positive="x")


def test_three_classes_need_a_positive_class():
    predictions = make_splits(classes=3)
    result = score(predictions)["test"]
    for part in ("operating_points", "decision_curve"):
        assert "Set positive;" in result[part]["reason"]
    assert result["reliability"]["of"] == "probability of the predicted class"
    with recipe_syntax():
        assert "Set evaluation.positive;" in score(predictions)["test"]["decision_curve"]["reason"]
    named = score(predictions, positive="class2")["test"]
    assert named["operating_points"]["points"][0]["overall"]["sensitivity"]["value"] > 0.3
    assert len(named["decision_curve"]["overall"]["model"]) == 19


def test_without_validation_there_is_no_threshold_and_a_reason():
    result = score(make_predictions())["test"]
    point = result["operating_points"]["points"][0]
    assert point["threshold"] is None
    assert "validation has no labeled images" in point["overall"]["sensitivity"]["reason"]
    assert result["calibration"]["temperature"]["value"] is None
    assert result["calibration"]["after"]["overall"]["ece"]["reason"] == "no labeled image in the split val"
    assert result["calibration"]["before"]["overall"]["ece"] == result["overall"]["ece"]


def test_threshold_above_1_is_valid_if_probabilities_of_negative_images_are_1():
    predictions = make_splits()
    predictions.logits[:] = [0.0, 60.0]
    scores = Scores.model_validate(score(predictions))
    point, _ = scores.test.operating_points.points
    assert 1 < point.threshold < 1.001
    assert (point.overall["sensitivity"].value, point.overall["specificity"].value) == (0, 1)


def test_single_class_has_only_one_rate():
    predictions = make_splits()
    rows = [
        row
        for row, label in enumerate(predictions.labels)
        if label == 0 or predictions.splits[row] != "target_test"
    ]
    result = score(predictions.take(rows))["target_test"]["operating_points"]["points"][0]["overall"]
    assert result["specificity"]["value"] > 0.5
    assert result["sensitivity"]["reason"] == "no image of the positive class"
    assert result["own_specificity"]["value"] is None


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_fit_temperature_recovers_the_applied_temperature(truth):
    generator = np.random.default_rng(0)
    calibrated = softmax(generator.normal(size=(20_000, 3)) * 2)
    labels = (calibrated.cumsum(axis=1) > generator.random((20_000, 1))).argmax(axis=1)
    logits = np.log(calibrated) * truth + generator.normal(size=(20_000, 1))
    assert fit_temperature(labels, logits) == pytest.approx(truth, rel=0.05)


def test_fit_temperature_minimizes_the_log_loss():
    predictions = make_predictions(count=300, signal=1.0)
    temperature = fit_temperature(predictions.labels, predictions.logits)
    losses = [
        sk.log_loss(predictions.labels, softmax(predictions.logits / (temperature * factor)))
        for factor in (0.98, 1.0, 1.02)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_perfect_and_uninformative_predictions_have_no_temperature():
    labels = np.array([0, 1, 0, 1])
    assert fit_temperature(labels, np.eye(2)[labels] * 3) is None
    assert fit_temperature(labels, np.full((4, 2), 0.5)) is None


def test_temperature_improves_the_calibration_of_an_overconfident_model():
    predictions = make_splits()
    predictions.logits[:] *= 4
    result = score(predictions)["test"]
    assert result["calibration"]["temperature"]["value"] > 2
    for name in ("ece", "brier", "log_loss"):
        before, after = (
            result["calibration"][when]["overall"][name]["value"] for when in ("before", "after")
        )
        assert after < before == result["overall"][name]["value"]


def test_net_benefit_equals_the_formula():
    positive = np.array([True, True, False, False, False])
    scores = np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    called = scores[:, None] >= np.array([0.25, 0.5])
    result = net_benefit(positive, called, ones(5), at=(0.25, 0.5))[0]
    np.testing.assert_allclose(result, [2 / 5 - 1 / 5 / 3, 1 / 5 - 1 / 5])


def test_decision_curve_of_treating_all_depends_on_prevalence_only():
    curve = score(make_predictions(count=200))["test"]["decision_curve"]["overall"]
    expected = [0.5 - 0.5 * at / (1 - at) for at in curve["at"]]
    np.testing.assert_allclose([entry["value"] for entry in curve["all"]], expected)
    half = curve["at"].index(0.5)
    assert curve["model"][half]["value"] > max(0, curve["all"][half]["value"])


def test_brier_score_can_be_compared_between_two_models():
    good = make_predictions(count=200)
    result = paired_difference(make_predictions(count=200, signal=-1.0), good, metric="brier")
    assert (result["outcome"], result["value"] < 0) == ("better", True)


def test_scores_of_a_table_that_is_read_back_are_equal_to_the_byte(tmp_path):
    predictions = concatenate(make_splits(shift=0.5))
    write_predictions(tmp_path / "predictions.csv", predictions)
    read = read_predictions(tmp_path / "predictions.csv")
    result = [json.dumps(score(variant), allow_nan=False) for variant in (predictions, read)]
    assert result[0] == result[1]


def test_scores_with_thresholds_do_not_depend_on_the_order_of_rows():
    predictions = make_splits(count=100)
    rows = np.random.default_rng(1).permutation(len(predictions.labels)).tolist()
    result = [json.dumps(score(variant)) for variant in (predictions, predictions.take(rows))]
    assert result[0] == result[1]
