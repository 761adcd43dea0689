import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression

from kerastl.evaluation.bootstrap import resample
from kerastl.evaluation.calibration import calibrate, fit_calibrator
from kerastl.evaluation.label_shift import (
    bbse_prevalence,
    correct_prevalence,
    em_prevalence,
    estimate_prevalence,
)

DISTANCE = 2.0


def draw_scores(count, share, seed):
    """Return labels and logits of two normal classes at distance 2, from an overconfident model that prefers class 0."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < share).astype(int)
    position = generator.normal(size=count) + DISTANCE * labels
    logit = DISTANCE * position - DISTANCE**2 / 2
    return labels, np.column_stack([np.zeros(count), 3 * logit - 2.0])


def estimate(labels, logits, target, *, units=None, seed=0, resamples=200, **options):
    units = [str(row) for row in range(len(labels))] if units is None else units
    source = resample(units, labels, seed=seed, resamples=resamples)
    rows = [str(row) for row in range(len(target))]
    drawn = resample(rows, np.zeros(len(target), int), seed=seed + 1, resamples=resamples)
    return estimate_prevalence(labels, logits, target, source, drawn, **options)


def estimates(method, share, seeds, count=1500):
    results = []
    for seed in seeds:
        labels, logits = draw_scores(count, 0.4, 2 * seed)
        _, target = draw_scores(count, share, 2 * seed + 1)
        results.append(estimate(labels, logits, target, method=method, resamples=1))
    return np.array([result.value[1] for result in results])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("method", ["em", "bbse"])
def test_planted_prevalence_is_estimated(method, share):
    """Each estimate is within 0.1, and their mean over ten seeds within 0.02."""
    estimate = estimates(method, share, range(10))
    assert np.abs(estimate - share).max() < 0.1
    assert abs(estimate.mean() - share) < 0.02


def test_em_is_biased_without_calibration():
    labels, logits = draw_scores(3000, 0.4, 0)
    _, target = draw_scores(3000, 0.1, 1)
    logits[:, 1] -= 6
    target[:, 1] -= 6
    probabilities = np.exp(target) / np.exp(target).sum(axis=1, keepdims=True)
    uncalibrated = em_prevalence(probabilities, np.bincount(labels) / 3000, np.ones(3000))[1]
    prevalence = estimate(labels, logits, target, resamples=2).value[1]
    assert abs(prevalence - 0.1) < 0.03 < abs(uncalibrated - 0.1)


INFORMATIVE = np.random.default_rng(0).dirichlet([1, 1], size=200)[:, 0]
NEARLY_CONSTANT = 0.5 + 0.01 * np.random.default_rng(3).normal(size=60)


@pytest.mark.parametrize(
    ("first", "source", "tolerance"), [(INFORMATIVE, [0.4, 0.6], 1e-4), (NEARLY_CONSTANT, [0.5, 0.5], 1e-3)]
)
def test_em_maximizes_the_likelihood(first, source, tolerance):
    """It also converges if the predictions hardly depend on the class."""
    probabilities, source = np.column_stack([first, 1 - first]), np.array(source)

    def minus_likelihood(share):
        return -np.log((probabilities * (np.array([1 - share, share]) / source)).sum(axis=1)).sum()

    best = minimize_scalar(minus_likelihood, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x
    assert 0.01 < best < 0.99
    estimate = em_prevalence(probabilities, source, np.ones(len(first)))[1]
    assert estimate == pytest.approx(best, abs=tolerance)


def test_em_weights_are_equivalent_to_repeated_images():
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], size=50)
    weights = np.random.default_rng(1).integers(0, 3, 50)
    source = np.array([0.2, 0.3, 0.5])
    repeated = np.repeat(probabilities, weights, axis=0)
    np.testing.assert_allclose(
        em_prevalence(probabilities, source, weights.astype(float)),
        em_prevalence(repeated, source, np.ones(len(repeated))),
        atol=1e-6,
    )


def test_calibrator_of_two_classes_is_a_logistic_regression_on_the_logit():
    labels, logits = draw_scores(800, 0.4, 5)
    calibrated = calibrate(logits, fit_calibrator(labels, logits))
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, 1:], labels)
    np.testing.assert_allclose(calibrated, reference.predict_proba(logits[:, 1:]), atol=1e-3)
    assert calibrated.mean(axis=0)[1] == pytest.approx(labels.mean(), abs=1e-4)


def test_calibrator_keeps_a_temperature_that_the_labels_do_not_determine():
    labels = np.array([0, 1, 1, 1])
    inverse_temperature, bias = fit_calibrator(labels, np.zeros((4, 2)))
    assert inverse_temperature == pytest.approx(1.0)
    assert bias == pytest.approx(np.log(3), abs=1e-3)


@pytest.mark.parametrize(
    ("classes", "signal", "spread"),
    [(2, 1.5, 1), (3, 1.5, 3), (5, 0.5, 10), (2, -1, 1), (2, 50, 1), (4, 8, 1)],
)
def test_calibrator_minimizes_the_log_loss(classes, signal, spread):
    """Nelder-Mead finds no better point from there. The bounds hold if predictions are misleading."""
    generator = np.random.default_rng(classes)
    labels = np.arange(240) % classes
    logits = spread * generator.normal(size=(240, classes))
    logits[np.arange(240), labels] += signal
    weights = generator.integers(1, 4, 240).astype(float)
    fitted = fit_calibrator(labels, logits, weights=weights)
    assert 1e-3 <= fitted[0] <= 50

    def loss(at):
        bent = np.clip(at[0], 1e-3, 50) * logits + np.append(0.0, at[1:])
        bent -= bent.max(axis=1, keepdims=True)
        probabilities = bent[np.arange(240), labels] - np.log(np.exp(bent).sum(axis=1))
        return -np.average(probabilities, weights=weights)

    better = minimize(loss, fitted, method="Nelder-Mead", options={"maxiter": 400})
    assert loss(fitted) <= better.fun + 1e-4


def test_bbse_inverts_the_confusion_matrix():
    confusion = np.array([[0.8, 0.1, 0.2], [0.1, 0.8, 0.1], [0.1, 0.1, 0.7]])
    truth = np.array([0.5, 0.2, 0.3])
    estimate, reason = bbse_prevalence(confusion, confusion @ truth)
    np.testing.assert_allclose(estimate, truth)
    assert reason == ""


def test_bbse_has_no_estimate_for_a_constant_prediction_and_a_reason():
    labels, logits = draw_scores(300, 0.4, 0)
    logits[:, 0] = 100
    prevalence = estimate(labels, logits, logits, method="bbse")
    assert np.isnan(prevalence.value).all()
    assert "nearly singular" in prevalence.reason
    assert prevalence.differs is None


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_estimate_is_the_count_for_perfectly_separated_classes(method):
    labels = np.arange(100) % 2
    target = np.eye(2)[(np.arange(200) % 10 == 0).astype(int)] * 8
    prevalence = estimate(labels, np.eye(2)[labels] * 8, target, method=method, resamples=1)
    np.testing.assert_allclose(prevalence.value, [0.9, 0.1], atol=0.01)


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_estimate_for_a_target_with_a_single_class(method):
    labels, logits = draw_scores(2000, 0.4, 0)
    _, target = draw_scores(2000, 0.0, 1)
    assert estimate(labels, logits, target, method=method, resamples=2).value[1] < 0.03


def test_fewer_than_ten_groups_have_no_interval():
    labels, logits = draw_scores(100, 0.4, 0)
    units = [f"p{row % 8}" for row in range(100)]
    prevalence = estimate(labels, logits, logits, units=units)
    assert "8 groups at the source (at least 10 are needed)" in prevalence.reason
    assert np.isfinite(prevalence.value).all()
    assert prevalence.differs is None


def test_corrected_probabilities_are_calibrated_at_the_target():
    labels, target = draw_scores(50_000, 0.1, 1)
    source = np.array([0.5, 0.5])
    calibrated = 1 / (1 + np.exp(-(target[:, 1] + 2.0) / 3))
    probabilities = correct_prevalence(
        np.column_stack([1 - calibrated, calibrated]), source, np.array([0.9, 0.1])
    )[:, 1]
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.8)):
        rows = (probabilities >= low) & (probabilities < high)
        assert labels[rows].mean() == pytest.approx(probabilities[rows].mean(), abs=0.03)


def test_interval_is_reproducible():
    labels, logits = draw_scores(200, 0.4, 0)
    _, target = draw_scores(200, 0.2, 1)
    first, second = (estimate(labels, logits, target, resamples=30) for _ in range(2))
    np.testing.assert_array_equal(first.low, second.low)
    assert first.low[1] < first.value[1] < first.high[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["em", "bbse"])
def test_interval_coverage_and_error_rate_of_differs(method):
    """Coverage is at least 0.85 for three hundred images at each site and forty seeds."""
    covered, alarms, hits = 0, 0, 0
    for seed in range(40):
        labels, logits = draw_scores(300, 0.5, 3 * seed)
        _, same = draw_scores(300, 0.5, 3 * seed + 1)
        _, shifted = draw_scores(300, 0.2, 3 * seed + 2)
        options = {"method": method, "resamples": 60}
        prevalence = estimate(labels, logits, shifted, **options)
        covered += prevalence.low[1] <= 0.2 <= prevalence.high[1]
        hits += bool(prevalence.differs)
        alarms += bool(estimate(labels, logits, same, **options).differs)
    assert covered >= 34
    assert hits >= 38
    assert alarms <= 6
