import numpy as np
import pytest
from make_evidence import CLASS_DISTANCE, make_source_only
from scipy.stats import multivariate_normal

from kerastl.selection.open_set import (
    ShiftedMixture,
    class_means,
    class_space,
    fit_shifted_mixture,
    initial_mixtures,
)

MEANS = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])


def draw_images(seed, shares, *, shift=0.0, scale=1.0, count=900):
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, size=count, p=shares)
    return scale * MEANS[labels] + shift + generator.normal(size=(count, 3))


def fit(images, weights=None):
    once = np.ones(len(images)) if weights is None else weights
    return fit_shifted_mixture(images, initial_mixtures(MEANS, np.full(3, 1 / 3), images), once)


def test_likelihood_equals_scipy():
    model = ShiftedMixture(
        MEANS, np.array([0.2, 0.3, 0.4, 0.1]), np.ones(3), 0.8, np.array([1.0, 2.0, 0.5]), np.full(3, 9.0)
    )  # fmt: skip
    images = draw_images(0, [0.3, 0.3, 0.4])[:20]
    centers = [*(0.8 * MEANS + 1), np.full(3, 9.0)]
    density = sum(
        share * multivariate_normal(center, np.diag([1.0, 2.0, 0.5])).pdf(images)
        for share, center in zip(model.shares, centers, strict=True)
    )
    np.testing.assert_allclose(model.log_likelihood(images), np.log(density), rtol=1e-9)
    expected = min(np.sqrt(((center - 9) ** 2 / [1, 2, 0.5]).sum()) for center in centers[:3])
    assert model.distance_of_extra() == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, np.array([2.0, -1.0, 3.0])])
def test_fit_recovers_shares_shift_and_scale(shift):
    shares = [0.6, 0.3, 0.1]
    fitted = fit(draw_images(0, shares, shift=shift, scale=0.8))
    np.testing.assert_allclose(fitted.shares, shares, atol=0.05)
    np.testing.assert_allclose(fitted.shift, shift, atol=0.25)
    np.testing.assert_allclose(fitted.variance, 1.0, atol=0.2)
    assert fitted.scale == pytest.approx(0.8, abs=0.06)


def test_each_iteration_increases_the_likelihood(monkeypatch):
    from kerastl.selection import open_set

    images = draw_images(1, [0.5, 0.3, 0.2], shift=1.0)
    start, likelihoods = initial_mixtures(MEANS, np.full(3, 1 / 3), images)[:1], []
    for rounds in (1, 2, 4, 8, 16):
        monkeypatch.setattr(open_set, "MAX_ITERATIONS", rounds)
        fitted = fit_shifted_mixture(images, start, np.ones(len(images)))
        likelihoods.append(fitted.log_likelihood(images).mean())
    assert likelihoods == sorted(likelihoods)


def test_integer_weights_equal_repeated_images():
    images = draw_images(2, [0.5, 0.3, 0.2], count=200)
    weights = np.random.default_rng(0).integers(1, 3, 200)
    repeated = np.repeat(images, weights, axis=0)
    starts = initial_mixtures(MEANS, np.full(3, 1 / 3), images)
    weighted = fit_shifted_mixture(images, starts, weights.astype(float))
    np.testing.assert_allclose(
        weighted.shares, fit_shifted_mixture(repeated, starts, np.ones(len(repeated))).shares, atol=1e-6
    )


def test_class_space_whitens_classes_and_keeps_their_distance():
    evidence, _ = make_source_only(0, patients=200)
    val = evidence.source_val
    space = class_space(val.features, val.labels, evidence.target.features)
    means = class_means(space.source, space.labels, np.ones(len(val.labels)))
    within = np.cov((space.source - means[val.labels]).T)
    np.testing.assert_allclose(within, np.eye(len(within)), atol=0.35)
    # The variance along each axis is 0.25 (patients) + 1 (images).
    assert np.linalg.norm(means[0] - means[1]) == pytest.approx(CLASS_DISTANCE / np.sqrt(1.25), rel=0.15)


def test_first_directions_contain_all_differences_of_class_means():
    evidence, _ = make_source_only(0, source=(0.4, 0.3, 0.3), patients=100)
    val = evidence.source_val
    space = class_space(val.features, val.labels, evidence.target.features)
    means = class_means(space.source, space.labels, np.ones(len(val.labels)))
    np.testing.assert_allclose(means[:, 2:], means[:1, 2:].repeat(3, axis=0), atol=1e-6)


def test_class_space_handles_constant_features_and_more_features_than_images():
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = np.concatenate([generator.normal(size=(40, 500)), np.ones((40, 2))], axis=1)
    space = class_space(features, labels, features[:15])
    assert np.isfinite(space.source).all()
    assert space.source.shape[1] == space.target.shape[1] <= 9
