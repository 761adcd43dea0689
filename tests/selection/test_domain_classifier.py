import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerastl.errors import RequestError
from kerastl.selection import domain_auc, site_label_auc
from kerastl.selection.domain_classifier import fit_domain_classifier, group_folds, within_fold_auc


def draw_site(seed, *, patients=40, images=4, width=16, shift=0.0):
    generator = np.random.default_rng(seed)
    centers = 0.5 * generator.normal(size=(patients, 1, width))
    features = centers + generator.normal(size=(patients, images, width)) + shift
    names = np.repeat([f"{seed}-{patient}" for patient in range(patients)], images)
    return features.reshape(-1, width).astype(np.float32), list(names)


def auc(seed, shift):
    (a, groups_a), (b, groups_b) = draw_site(2 * seed), draw_site(2 * seed + 1, shift=shift)
    return domain_auc(a, b, groups_a, groups_b, seed=seed, resamples=300)


@pytest.mark.slow
def test_interval_of_equal_sites_rarely_excludes_chance():
    estimates = [auc(seed, 0.0) for seed in range(30)]
    assert sum(estimate["low"] > 0.5 for estimate in estimates) <= 3
    assert np.mean([estimate["value"] for estimate in estimates]) == pytest.approx(0.5, abs=0.03)


def test_interval_of_different_sites_excludes_chance():
    assert all(auc(seed, 0.5)["low"] > 0.5 for seed in range(3))


def test_patients_are_held_out_as_a_group():
    """Patients differ more than their images, so a classifier recognizes patients unless they are held out."""
    generator = np.random.default_rng(0)
    centers = 5 * generator.normal(size=(24, 1, 40))
    features = (centers + generator.normal(size=(24, 10, 40))).reshape(-1, 40).astype(np.float32)
    names = list(np.repeat([f"p{patient}" for patient in range(24)], 10))
    a, b = features[:120], features[120:]
    assert domain_auc(a, b, resamples=20)["value"] > 0.9
    assert domain_auc(a, b, names[:120], names[120:], resamples=20)["value"] < 0.75


def test_domain_classifier_equals_a_scikit_learn_pipeline():
    (a, _), (b, _) = draw_site(0), draw_site(1, shift=0.2)
    features, domain = np.concatenate([a, b]), np.repeat([0, 1], len(a))
    log_odds = fit_domain_classifier(features, domain, inverse_penalty=3.0)(features)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(C=3.0 / 16, max_iter=1000))
    expected = scaled.fit(features.astype(np.float64), domain).decision_function(features)
    np.testing.assert_allclose(log_odds, expected, atol=0.01)


@pytest.mark.parametrize("count", [20, 400])
def test_domain_classifier_handles_constant_features_and_more_features_than_images(count):
    generator = np.random.default_rng(0)
    features = np.concatenate([generator.normal(size=(count, 100)), np.ones((count, 3))], axis=1)
    domain = np.arange(count) % 2
    features[:, 0] += 4 * domain
    scores = fit_domain_classifier(features, domain, inverse_penalty=30.0)(features)
    assert roc_auc_score(domain, scores) > 0.9


def test_within_fold_auc_is_the_mean_over_folds_weighted_by_pairs():
    generator = np.random.default_rng(0)
    positive, scores = generator.random(40) < 0.4, generator.random(40)
    folds = [(np.arange(0), np.arange(25)), (np.arange(0), np.arange(25, 40))]
    aucs, pairs = [], []
    for _, rows in folds:
        aucs.append(roc_auc_score(positive[rows], scores[rows]))
        pairs.append(positive[rows].sum() * (~positive[rows]).sum())
    value = within_fold_auc(folds, positive, scores, np.ones(40))(np.ones((1, 40)))[0]
    assert value == pytest.approx(np.average(aucs, weights=pairs))


def test_folds_hold_out_every_row_once_and_keep_patients_together():
    labels = np.repeat([0, 1], 60)
    units = [str(row // 4) for row in range(120)]
    folds = group_folds(labels, units, 0)
    assert sorted(np.concatenate([rows for _, rows in folds])) == list(range(120))
    for train, rows in folds:
        assert not {units[row] for row in train} & {units[row] for row in rows}


def test_weights_compensate_for_another_prevalence():
    generator = np.random.default_rng(0)

    def part(count, share):
        labels = (generator.random(count) < share).astype(int)
        return (generator.normal(size=(count, 3)) + 3 * labels[:, None]).astype(np.float32), labels

    (a, groups_a), (b, groups_b) = part(400, 0.5), part(400, 0.8)
    weights = (np.bincount(groups_b) / np.bincount(groups_a))[groups_a]
    assert domain_auc(a, b, resamples=200)["low"] > 0.5
    assert domain_auc(a, b, weights_a=weights, resamples=200)["low"] <= 0.5


def test_few_patients_give_no_interval_and_a_single_one_gives_no_value():
    (a, groups_a), (b, _) = draw_site(0), draw_site(1)
    few = domain_auc(a, b, groups_a, ["x"] * 80 + ["y"] * 80)
    assert few["value"] is not None
    assert few["low"] is None
    assert "at least 10 are needed" in few["reason"]
    assert domain_auc(a, b, groups_a, ["x"] * 160)["value"] is None


def test_domain_auc_is_reproducible():
    assert auc(0, 0.2) == auc(0, 0.2)


def draw_labels(seed, difference, patients=120):
    generator = np.random.default_rng(seed)
    site = np.arange(patients) % 2
    labels = (generator.random(patients) < 0.3 + difference * site).astype(int)
    rows = np.repeat(np.arange(patients), 3)
    return [f"site {site[row]}" for row in rows], labels[rows], [f"p{row}" for row in rows]


def test_site_that_predicts_the_label_is_a_shortcut():
    assert sum(bool(site_label_auc(*draw_labels(s, 0.5), resamples=100)["shortcut"]) for s in range(10)) >= 9


@pytest.mark.slow
def test_sites_with_equal_prevalence_are_rarely_a_shortcut():
    assert sum(bool(site_label_auc(*draw_labels(s, 0.0), resamples=300)["shortcut"]) for s in range(20)) <= 2


def test_site_label_auc_equals_the_closed_form():
    """A score with two values has AUC = 1/2 + (p(site 1 | sick) - p(site 1 | healthy)) / 2."""
    sites, labels, groups = draw_labels(0, 0.5, patients=2000)
    at_site_1 = np.array(sites) == "site 1"
    expected = 0.5 + (at_site_1[labels == 1].mean() - at_site_1[labels == 0].mean()) / 2
    estimate = site_label_auc(sites, labels, groups, resamples=50)
    assert estimate["value"] == pytest.approx(expected, abs=0.01)


def test_shortcut_of_three_classes_and_of_few_patients():
    sites = ["a", "b"] * 30
    labels = np.arange(60) % 3
    assert site_label_auc(sites, labels, resamples=50)["shortcut"] is False
    few = site_label_auc(sites, labels % 2, [f"p{row % 8}" for row in range(60)], resamples=50)
    assert few["shortcut"] is None


def test_invalid_requests_are_rejected():
    (a, groups_a), (b, _) = draw_site(0), draw_site(1)
    for message, request in {
        "same width": lambda: domain_auc(a, b[:, 1:]),
        "1 groups for": lambda: domain_auc(a, b, groups_a[:1]),
        "At least two sites": lambda: site_label_auc(["a"] * 4, np.array([0, 1, 0, 1])),
        "one entry": lambda: site_label_auc(["a", "b"], np.array([0, 1, 0])),
    }.items():
        with pytest.raises(RequestError, match=message):
            request()
