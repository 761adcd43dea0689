"""Intervals of scores at or near 0 or 1, and of few images. The references are exact binomial probabilities."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from synthetic_predictions import make_predictions, make_splits

from kerastl.evaluation import Predictions, paired_difference, read_predictions, score, write_predictions
from kerastl.evaluation.bootstrap import Trials, mean_trials, proportion_interval, resample_predictions
from kerastl.evaluation.metrics import CALIBRATION_METRICS, accuracy
from kerastl.selection import domain_auc

PERFECT = 20.0
"""Added to the logit of the label: every image is classified correctly."""


def perfect(labels, classes=3, groups=None, seed=0):
    """Return predictions of the split `test` without an error."""
    count, generator = len(labels), np.random.default_rng(seed)
    logits = generator.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += PERFECT
    return Predictions(
        tuple(f"{row}.png" for row in range(count)),
        np.array(labels, np.int32),
        logits,
        tuple(f"class{index}" for index in range(classes)),
        ("test",) * count,
        tuple(groups or [""] * count),
        ("",) * count,
    )


def with_errors(predictions, rows):
    """Return binary predictions with errors at some rows."""
    logits = predictions.logits.copy()
    logits[rows] = logits[rows, ::-1]
    return dataclasses.replace(predictions, logits=logits)


def intervals(content, path=""):
    """Yield the path and the content of every score with a value and without an exact count."""
    if isinstance(content, dict) and "value" in content and "low" in content:
        if content["value"] is not None and content.get("reason") != "exact count":
            yield path, content
    elif isinstance(content, dict):
        for name, item in content.items():
            yield from intervals(item, f"{path}/{name}")
    elif isinstance(content, list):
        for number, item in enumerate(content):
            yield from intervals(item, f"{path}/{number}")


def test_45_correct_images_have_an_exact_interval_below_1():
    result = score(perfect([0] * 22 + [1] * 22 + [2]))["test"]
    overall = result["overall"]
    assert overall["accuracy"] == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 45)), "high": 1.0}
    assert result["classes"]["class0"]["recall"]["low"] == pytest.approx(0.025 ** (1 / 22))
    assert overall["balanced_accuracy"]["low"] < 0.70
    assert overall["log_loss"]["low"] is None
    assert "no image is misclassified" in overall["log_loss"]["reason"]


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 25), min_size=2, max_size=4).filter(lambda counts: sum(counts) >= 10),
    per_group=st.integers(1, 3),
    errors=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_no_interval_is_a_single_point(counts, per_group, errors, seed):
    labels = np.repeat(np.arange(len(counts)), counts).tolist()
    groups = [f"g{index // per_group}" for index in range(len(labels))]
    predictions = perfect(labels, len(counts), groups if per_group > 1 else None, seed)
    predictions.logits[:errors] = predictions.logits[:errors, ::-1]
    for path, estimate in intervals(score(predictions, resamples=60, seed=seed)["test"]):
        if estimate["low"] is None:
            assert estimate["reason"], path
        else:
            assert estimate["low"] < estimate["high"], path
            assert estimate["low"] <= estimate["value"] <= estimate["high"], path


def test_the_interval_of_a_biased_score_includes_its_value():
    """The ECE of most resamples is larger. For several of these seeds, that of all but 2 % is."""
    labels = np.arange(39) % 2
    for seed in range(25):
        predictions = perfect(labels, 2, seed=seed)
        predictions.logits[np.arange(39), labels] += 2 - PERFECT
        ece = score(predictions, resamples=60, seed=seed)["test"]["overall"]["ece"]
        assert ece["low"] is None or ece["low"] <= ece["value"] <= ece["high"], seed


def test_errors_of_corrected_probabilities_give_their_loss_an_interval():
    predictions = perfect([0, 1] * 20, 2)
    part = resample_predictions(predictions, seed=0, resamples=40, level=0.95)
    corrected = with_errors(predictions, [0, 5, 9]).probabilities
    assert part.score(predictions.probabilities, CALIBRATION_METRICS)["log_loss"]["low"] is None
    assert part.score(corrected, CALIBRATION_METRICS)["log_loss"]["low"] > 0


def covers(predictions, rate, *, seed, resamples):
    """Return whether the 95% interval of the accuracy contains the true rate."""
    part = resample_predictions(predictions, seed=seed, resamples=resamples, level=0.95)
    estimate = part.estimate_metric(
        "accuracy",
        lambda weights: accuracy(predictions.labels, predictions.probabilities, weights),
        predictions.probabilities,
        "",
    )
    return estimate["low"] <= rate <= estimate["high"]


@pytest.mark.parametrize("count", [20, 27, 45, 80, 130, 200])
@pytest.mark.parametrize("rate", [0.9, 0.98, 0.995])
def test_the_interval_of_the_accuracy_covers_the_true_rate(count, rate):
    covered = 0.0
    for errors in range(count + 1):
        if binom.pmf(errors, count, 1 - rate) < 1e-4:
            continue
        predictions = with_errors(perfect([0, 1] * (count // 2) + [0] * (count % 2), 2), np.arange(errors))
        if covers(predictions, rate, seed=errors, resamples=40):
            covered += binom.pmf(errors, count, 1 - rate)
    assert covered >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.05, 0.3, 0.95])
@pytest.mark.parametrize("groups", [12, 40])
def test_the_interval_covers_the_true_rate_if_images_of_a_patient_agree(groups, correlation):
    """The rate of each patient has a beta distribution, so that errors cluster in patients."""
    generator, covered, rate, size, repeats = np.random.default_rng(groups), 0, 0.95, 5, 200
    shape = (1 - correlation) / correlation
    names = [f"g{group}" for group in np.repeat(np.arange(groups), size)]
    for seed in range(repeats):
        rates = generator.beta(rate * shape, (1 - rate) * shape, groups)
        is_error = generator.random(groups * size) > np.repeat(rates, size)
        labels = np.repeat(np.arange(groups) % 2, size)
        predictions = with_errors(perfect(labels, 2, names), np.flatnonzero(is_error))
        covered += covers(predictions, rate, seed=seed, resamples=200)
    assert covered >= 0.93 * repeats


def test_patients_are_the_trials_if_no_patient_has_an_error():
    labels = np.repeat(np.arange(12) % 2, 10)
    predictions = perfect(labels, 2, [f"g{row // 10}" for row in range(120)])
    overall = score(predictions)["test"]["overall"]
    assert overall["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 12))
    for name in ("auc", "group_auc"):
        assert overall[name]["low"] == pytest.approx(0.025 ** (1 / 6)), "six pairs of patients"


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_copies_of_an_image_count_once_in_an_interval(copies, tmp_path):
    once = with_errors(perfect([0, 1] * 20, classes=2), [0, 1, 2])
    twice = once.take([*range(40)] * copies)
    twice = dataclasses.replace(twice, copies=twice.paths, paths=tuple(map(str, range(len(twice.paths)))))
    scores, expected = score(twice)["test"], score(once)["test"]
    assert (scores["count"], scores["groups"], expected["groups"]) == (40 * copies, 40, 40)
    for metric in ("accuracy", "auc", "log_loss"):
        for limit in ("low", "high"):
            expected_limit = expected["overall"][metric][limit]
            assert scores["overall"][metric][limit] == pytest.approx(expected_limit, abs=0.02)
    assert "group_auc" not in scores["overall"], "copies are not patients"
    write_predictions(tmp_path / "predictions.csv", twice)
    assert score(read_predictions(tmp_path / "predictions.csv")) == score(twice)


def test_domains_and_subgroups_have_the_same_intervals():
    labels = [0, 1] * 20
    predictions = dataclasses.replace(perfect(labels, 2), domains=("a",) * 24 + ("b",) * 16)
    result = score(predictions, subgroups={"sex": ["f"] * 24 + ["m"] * 16})["test"]
    for metrics in (result["domains"]["a"], result["subgroups"]["sex"]["f"]):
        assert metrics["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 24))
        assert metrics["auc"]["low"] == pytest.approx(0.025 ** (1 / 12))


def test_fewer_than_ten_groups_have_no_interval():
    predictions = perfect(np.repeat(np.arange(9) % 2, 5), 2, [f"g{row // 5}" for row in range(45)])
    estimate = score(predictions)["test"]["overall"]["accuracy"]
    assert (estimate["low"], estimate["high"]) == (None, None)
    assert "9 groups (at least 10 are needed)" in estimate["reason"]


def test_perfect_rates_at_operating_points_have_wide_intervals():
    predictions = make_splits(count=60)
    predictions.logits[:] = PERFECT * np.eye(2)[predictions.labels]
    for point in score(predictions)["test"]["operating_points"]["points"]:
        rates = point["overall"]
        assert rates["sensitivity"] == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 6)), "high": 1.0}
        assert rates["sensitivity_difference"]["low"] is None


def test_mean_of_classes_is_the_worst_case_of_all_rates_without_an_error():
    """The reference is a grid over the rates of two classes."""
    groups = np.array([4, 20])
    first, second = np.meshgrid(np.linspace(0, 1, 2001), np.linspace(0, 1, 2001))
    possible = first ** groups[0] * second ** groups[1] >= 0.025
    worst = ((first + second) / 2)[possible].min()
    assert 0.025 ** (1 / mean_trials(groups, level=0.95)) == pytest.approx(worst, abs=1e-3)
    assert mean_trials(np.array([15, 15, 15]), level=0.95) == pytest.approx(45)


def test_proportion_interval_equals_scipy():
    from scipy.stats import binomtest

    for hits, trials in ((0, 10), (3, 10), (10, 10), (44, 45)):
        expected = binomtest(hits, trials).proportion_ci(0.9)
        assert proportion_interval(hits / trials, trials, level=0.9) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc", "group_auc"])
def test_two_perfect_models_differ_by_an_unknown_amount(metric):
    labels, groups = [0, 1] * 24, [f"g{row}" for row in range(48)]
    first, second = (perfect(labels, 2, groups, seed) for seed in (1, 2))
    difference = paired_difference(first, second, metric=metric)
    assert difference["value"] == 0
    assert -0.2 < difference["low"] < -0.05
    assert 0.05 < difference["high"] < 0.2
    assert (difference["outcome"], difference.get("reason")) == ("cannot_tell", None)


def test_equal_predictions_have_a_difference_without_an_interval():
    predictions = make_predictions(count=100, groups=50)
    difference = paired_difference(predictions, predictions, metric="auc")
    assert (difference["value"], difference["low"], difference["outcome"]) == (0, None, "cannot_tell")
    assert "the same value in every resample" in difference["reason"]


def test_a_few_more_correct_images_are_inconclusive():
    first = with_errors(perfect([0, 1] * 22, 2), np.arange(4))
    difference = paired_difference(first, perfect([0, 1] * 22, 2), metric="accuracy")
    assert difference["value"] == pytest.approx(4 / 44)
    assert difference["outcome"] == "cannot_tell", "the exact sign test has p = 0.125"
    worse = with_errors(perfect([0, 1] * 22, 2), np.arange(12))
    assert paired_difference(worse, perfect([0, 1] * 22, 2), metric="accuracy")["outcome"] == "better"


def test_perfectly_separated_domains_have_an_interval_below_1():
    features = np.random.default_rng(0).normal(size=(30, 4)) * 0.01
    result = domain_auc(features, features + 5)
    assert result["value"] == 1
    assert 0.5 < result["low"] < 0.95


def test_a_proportion_without_variance_has_the_interval_of_its_groups():
    low, high = Trials(groups=12.0, images=30).interval(0.5, np.full(100, 0.5), level=0.95)
    assert (low, high) == pytest.approx(proportion_interval(0.5, 12.0, level=0.95))
    assert low < 0.5 < high
