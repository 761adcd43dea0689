import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression

from kerastl.errors import RequestError
from kerastl.evaluation.calibration import fit_calibrator
from kerastl.evaluation.label_shift import (
    bbse_prevalence,
    correct_prevalence,
    em_prevalence,
    estimate_prevalence,
)

DISTANCE = 2.0


def drawn(count, share, seed):
    """Scores of two normal classes two apart; logits from a model that is too sure and leans to class 0."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < share).astype(int)
    place = generator.normal(size=count) + DISTANCE * labels
    right = DISTANCE * place - DISTANCE**2 / 2
    return labels, np.column_stack([np.zeros(count), 3 * right - 2.0])


def estimates(method, share, seeds, count=1500):
    found = []
    for seed in seeds:
        labels, logits = drawn(count, 0.4, 2 * seed)
        _, target = drawn(count, share, 2 * seed + 1)
        found.append(estimate_prevalence(labels, logits, target, method=method, resamples=2))
    return np.array([one.value[1] for one in found])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("method", ["em", "bbse"])
def test_a_planted_prevalence_is_found(method, share):
    """Each within 0.1, their mean over ten seeds within 0.02."""
    found = estimates(method, share, range(10))
    assert np.abs(found - share).max() < 0.1
    assert abs(found.mean() - share) < 0.02


def test_without_calibration_em_goes_astray():
    labels, logits = drawn(3000, 0.4, 0)
    _, target = drawn(3000, 0.1, 1)
    logits[:, 1] -= 6
    target[:, 1] -= 6
    told = np.exp(target) / np.exp(target).sum(axis=1, keepdims=True)
    astray = em_prevalence(told, np.bincount(labels) / 3000, np.ones(3000))[1]
    found = estimate_prevalence(labels, logits, target, resamples=2).value[1]
    assert abs(found - 0.1) < 0.03 < abs(astray - 0.1)


def test_em_has_the_greatest_likelihood():
    generator = np.random.default_rng(0)
    told = generator.dirichlet([1, 1], size=200)
    source = np.array([0.4, 0.6])

    def minus_likelihood(share):
        return -np.log((told * (np.array([1 - share, share]) / source)).sum(axis=1)).sum()

    best = minimize_scalar(minus_likelihood, bounds=(0, 1), method="bounded").x
    assert em_prevalence(told, source, np.ones(200))[1] == pytest.approx(best, abs=1e-4)


def test_em_does_not_creep_where_the_answers_hardly_depend_on_the_class():
    """Plain rounds of EM, a hundred thousand of them, come to the same place."""
    generator = np.random.default_rng(3)
    told = 0.5 + 0.01 * generator.normal(size=60)
    told = np.column_stack([told, 1 - told])
    source, shares = np.array([0.5, 0.5]), np.array([0.5, 0.5])
    for _ in range(100_000):
        shares = (told * shares / source / (told * shares / source).sum(axis=1)[:, None]).mean(axis=0)
    np.testing.assert_allclose(em_prevalence(told, source, np.ones(60)), shares, atol=1e-3)


def test_em_counts_a_image_as_often_as_its_weight():
    told = np.random.default_rng(0).dirichlet([1, 1, 1], size=50)
    weights = np.random.default_rng(1).integers(0, 3, 50)
    source = np.array([0.2, 0.3, 0.5])
    repeated = np.repeat(told, weights, axis=0)
    np.testing.assert_allclose(
        em_prevalence(told, source, weights.astype(float)),
        em_prevalence(repeated, source, np.ones(len(repeated))),
        atol=1e-6,
    )


def test_the_calibrator_of_two_classes_is_a_logistic_regression_on_the_logit():
    labels, logits = drawn(800, 0.4, 5)
    fitted = fit_calibrator(labels, logits)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, 1:], labels)
    np.testing.assert_allclose(
        fitted.probabilities(logits), reference.predict_proba(logits[:, 1:]), atol=1e-3
    )
    assert fitted.probabilities(logits).mean(axis=0)[1] == pytest.approx(labels.mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("classes", "signal", "spread"),
    [(2, 1.5, 1), (3, 1.5, 3), (5, 0.5, 10), (2, -1, 1), (2, 50, 1), (4, 8, 1)],
)
def test_the_calibrator_has_the_least_log_loss(classes, signal, spread):
    """No other point does better that scipy's Nelder-Mead finds from there; bounds are kept where the answers mislead."""
    generator = np.random.default_rng(classes)
    labels = np.arange(240) % classes
    logits = spread * generator.normal(size=(240, classes))
    logits[np.arange(240), labels] += signal
    weights = generator.integers(1, 4, 240).astype(float)
    fitted = fit_calibrator(labels, logits, weights=weights)
    assert 1e-3 <= fitted.inverse_temperature <= 50
    assert fitted.bias[0] == 0

    def loss(at):
        bent = np.clip(at[0], 1e-3, 50) * logits + np.append(0.0, at[1:])
        bent -= bent.max(axis=1, keepdims=True)
        told = bent[np.arange(240), labels] - np.log(np.exp(bent).sum(axis=1))
        return -np.average(told, weights=weights)

    at = np.append(fitted.inverse_temperature, fitted.bias[1:])
    better = minimize(loss, at, method="Nelder-Mead", options={"maxiter": 400})
    assert loss(at) <= better.fun + 1e-4


def test_bbse_undoes_the_confusion_matrix():
    confusion = np.array([[0.8, 0.1, 0.2], [0.1, 0.8, 0.1], [0.1, 0.1, 0.7]])
    truth = np.array([0.5, 0.2, 0.3])
    found, reason = bbse_prevalence(confusion, confusion @ truth)
    np.testing.assert_allclose(found, truth)
    assert reason == ""


def test_a_model_that_answers_one_class_only_gives_bbse_no_answer_and_says_why():
    labels, logits = drawn(300, 0.4, 0)
    logits[:, 0] = 100
    found = estimate_prevalence(labels, logits, logits, method="bbse")
    assert np.isnan(found.value).all()
    assert "nearly singular" in found.reason
    assert found.differs is None


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_classes_that_are_told_apart_perfectly_are_simply_counted(method):
    labels = np.arange(100) % 2
    target = np.eye(2)[(np.arange(200) % 10 == 0).astype(int)] * 8
    found = estimate_prevalence(labels, np.eye(2)[labels] * 8, target, method=method)
    np.testing.assert_allclose(found.value, [0.9, 0.1], atol=0.01)


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_a_target_of_one_class_only_is_near_one(method):
    labels, logits = drawn(2000, 0.4, 0)
    _, target = drawn(2000, 0.0, 1)
    assert estimate_prevalence(labels, logits, target, method=method, resamples=2).value[1] < 0.03


def test_a_class_that_the_source_lacks_is_refused():
    labels, logits = drawn(100, 0.0, 0)
    with pytest.raises(RequestError, match="Class 1 has no image"):
        estimate_prevalence(labels, logits, logits)
    with pytest.raises(RequestError, match="no target image"):
        estimate_prevalence(1 - labels * 0 - np.arange(100) % 2, logits, logits[:0])


def test_few_groups_get_no_interval():
    labels, logits = drawn(100, 0.4, 0)
    units = [f"p{row % 8}" for row in range(100)]
    found = estimate_prevalence(labels, logits, logits, source_units=units)
    assert "8 groups are fewer than 10" in found.reason
    assert np.isfinite(found.value).all()
    assert found.differs is None


def test_corrected_probabilities_are_calibrated_at_the_target():
    labels, target = drawn(50_000, 0.1, 1)
    source = np.array([0.5, 0.5])
    right = 1 / (1 + np.exp(-(target[:, 1] + 2.0) / 3))
    told = correct_prevalence(np.column_stack([1 - right, right]), source, np.array([0.9, 0.1]))[:, 1]
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.8)):
        rows = (told >= low) & (told < high)
        assert labels[rows].mean() == pytest.approx(told[rows].mean(), abs=0.03)


def test_the_same_seed_gives_the_same_interval():
    labels, logits = drawn(200, 0.4, 0)
    _, target = drawn(200, 0.2, 1)
    first, second = (estimate_prevalence(labels, logits, target, resamples=50) for _ in range(2))
    np.testing.assert_array_equal(first.low, second.low)
    assert first.low[1] < first.value[1] < first.high[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["em", "bbse"])
def test_the_interval_covers_the_truth_and_shift_is_told_from_none(method):
    """Three hundred images at each site, forty seeds: coverage at least 0.85."""
    covered, alarms, hits = 0, 0, 0
    for seed in range(40):
        labels, logits = drawn(300, 0.5, 3 * seed)
        _, same = drawn(300, 0.5, 3 * seed + 1)
        _, shifted = drawn(300, 0.2, 3 * seed + 2)
        options = {"method": method, "resamples": 60}
        found = estimate_prevalence(labels, logits, shifted, **options)
        covered += found.low[1] <= 0.2 <= found.high[1]
        hits += bool(found.differs)
        alarms += bool(estimate_prevalence(labels, logits, same, **options).differs)
    assert covered >= 34
    assert hits >= 38
    assert alarms <= 6
