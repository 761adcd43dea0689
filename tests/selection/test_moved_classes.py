import numpy as np
import pytest
from hospitals_drawn import APART, source_only
from scipy.stats import multivariate_normal

from kerastl.selection.domain_classifier import class_space
from kerastl.selection.open_set import ShiftedMixture, fit_shifted_mixture, initial_mixtures

MEANS = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])


def planted(seed, shares, *, shift=0.0, stretch=1.0, count=900):
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, size=count, p=shares)
    return stretch * MEANS[labels] + shift + generator.normal(size=(count, 3))


def fit(images, weights=None):
    once = np.ones(len(images)) if weights is None else weights
    return fit_shifted_mixture(images, initial_mixtures(MEANS, np.full(3, 1 / 3), images), once)


def test_likelihood_equals_scipys():
    model = ShiftedMixture(
        MEANS, np.array([0.2, 0.3, 0.4, 0.1]), np.ones(3), 0.8, np.array([1.0, 2.0, 0.5]), np.full(3, 9.0)
    )  # fmt: skip
    images = planted(0, [0.3, 0.3, 0.4])[:20]
    centres = [*(0.8 * MEANS + 1), np.full(3, 9.0)]
    density = sum(
        share * multivariate_normal(centre, np.diag([1.0, 2.0, 0.5])).pdf(images)
        for share, centre in zip(model.shares, centres, strict=True)
    )
    np.testing.assert_allclose(model.log_likelihood(images), np.log(density), rtol=1e-9)
    expected = min(np.sqrt(((centre - 9) ** 2 / [1, 2, 0.5]).sum()) for centre in centres[:3])
    assert model.distance_of_extra() == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, np.array([2.0, -1.0, 3.0])])
def test_planted_shares_shift_and_stretch_are_found(shift):
    shares = [0.6, 0.3, 0.1]
    found = fit(planted(0, shares, shift=shift, stretch=0.8))
    np.testing.assert_allclose(found.shares, shares, atol=0.05)
    np.testing.assert_allclose(found.shift, shift, atol=0.25)
    np.testing.assert_allclose(found.variance, 1.0, atol=0.2)
    assert found.stretch == pytest.approx(0.8, abs=0.06)


def test_each_round_raises_the_likelihood(monkeypatch):
    from kerastl.selection import open_set

    images = planted(1, [0.5, 0.3, 0.2], shift=1.0)
    start, likelihoods = initial_mixtures(MEANS, np.full(3, 1 / 3), images)[:1], []
    for rounds in (1, 2, 4, 8, 16):
        monkeypatch.setattr(open_set, "ROUNDS", rounds)
        found = fit_shifted_mixture(images, start, np.ones(len(images)))
        likelihoods.append(found.log_likelihood(images).mean())
    assert likelihoods == sorted(likelihoods)


def test_a_image_counts_as_often_as_its_weight():
    images = planted(2, [0.5, 0.3, 0.2], count=200)
    weights = np.random.default_rng(0).integers(1, 3, 200)
    repeated = np.repeat(images, weights, axis=0)
    starts = initial_mixtures(MEANS, np.full(3, 1 / 3), images)
    weighed = fit_shifted_mixture(images, starts, weights.astype(float))
    np.testing.assert_allclose(
        weighed.shares, fit_shifted_mixture(repeated, starts, np.ones(len(repeated))).shares, atol=1e-6
    )


def test_the_space_keeps_classes_apart_and_makes_them_round():
    evidence, _ = source_only(0, patients=200)
    val = evidence.source_val
    space = class_space(val.features, val.labels, evidence.target.features)
    means = space.class_means(np.ones(len(val.labels)))
    within = np.cov((space.source - means[val.labels]).T)
    np.testing.assert_allclose(within, np.eye(len(within)), atol=0.35)
    # Patients and images: variance 0.25 + 1 along every axis.
    assert np.linalg.norm(means[0] - means[1]) == pytest.approx(APART / np.sqrt(1.25), rel=0.15)


def test_the_first_directions_hold_all_that_tells_classes_apart():
    evidence, _ = source_only(0, source=(0.4, 0.3, 0.3), patients=100)
    val = evidence.source_val
    space = class_space(val.features, val.labels, evidence.target.features)
    means = space.class_means(np.ones(len(val.labels)))
    np.testing.assert_allclose(means[:, 2:], means[:1, 2:].repeat(3, axis=0), atol=1e-6)


def test_more_features_than_images_and_constant_ones_do_no_harm():
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = np.concatenate([generator.normal(size=(40, 500)), np.ones((40, 2))], axis=1)
    space = class_space(features, labels, features[:15])
    assert np.isfinite(space.source).all()
    assert space.source.shape[1] == space.target.shape[1] <= 9
