import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerastl.errors import RequestError
from kerastl.selection import domain_auc, site_label_auc
from kerastl.selection.domain_classifier import fit_domain_classifier, group_folds, within_fold_auc


def site(seed, *, patients=40, images=4, width=16, shift=0.0):
    generator = np.random.default_rng(seed)
    middle = 0.5 * generator.normal(size=(patients, 1, width))
    features = middle + generator.normal(size=(patients, images, width)) + shift
    names = np.repeat([f"{seed}-{patient}" for patient in range(patients)], images)
    return features.reshape(-1, width).astype(np.float32), list(names)


def told(seed, shift, **how):
    (a, of_a), (b, of_b) = site(2 * seed), site(2 * seed + 1, shift=shift)
    return domain_auc(a, b, of_a, of_b, seed=seed, resamples=300, **how)


def test_equal_sites_are_seldom_told_apart():
    """30 pairs of equal sites: above 0.5 by interval in at most 3; the mean AUC near 0.5."""
    found = [told(seed, 0.0) for seed in range(30)]
    assert sum(one["low"] > 0.5 for one in found) <= 3
    assert np.mean([one["value"] for one in found]) == pytest.approx(0.5, abs=0.03)


def test_sites_that_differ_are_told_apart():
    assert all(told(seed, 0.5)["low"] > 0.5 for seed in range(10))


def test_patients_held_out_whole_are_not_told_by_who_they_are():
    """Patients differ far more than their images. Held out by image, a classifier knows them; by patient, it does not."""
    generator = np.random.default_rng(0)
    middle = 5 * generator.normal(size=(24, 1, 40))
    features = (middle + generator.normal(size=(24, 10, 40))).reshape(-1, 40).astype(np.float32)
    names = list(np.repeat([f"p{patient}" for patient in range(24)], 10))
    a, b = features[:120], features[120:]
    assert domain_auc(a, b)["value"] > 0.9
    assert domain_auc(a, b, names[:120], names[120:])["value"] < 0.75


def test_the_domain_classifier_equals_scikit_learns_pipeline():
    (a, _), (b, _) = site(0), site(1, shift=0.2)
    features, where = np.concatenate([a, b]), np.repeat([0, 1], len(a))
    mine = fit_domain_classifier(features, where, inverse_penalty=3.0).log_odds(features)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(C=3.0 / 16, max_iter=1000))
    theirs = scaled.fit(features.astype(np.float64), where).decision_function(features)
    np.testing.assert_allclose(mine, theirs, atol=0.01)


@pytest.mark.parametrize("count", [20, 400])
def test_constant_and_wide_features_do_no_harm(count):
    generator = np.random.default_rng(0)
    features = np.concatenate([generator.normal(size=(count, 100)), np.ones((count, 3))], axis=1)
    where = np.arange(count) % 2
    features[:, 0] += 4 * where
    scores = fit_domain_classifier(features, where, inverse_penalty=30.0).log_odds(features)
    assert roc_auc_score(where, scores) > 0.9


def test_auc_within_one_fold_is_scikit_learns_and_over_folds_their_mean_by_pairs():
    generator = np.random.default_rng(0)
    positive, scores = generator.random(40) < 0.4, generator.random(40)
    folds = [(np.arange(0), np.arange(25)), (np.arange(0), np.arange(25, 40))]
    areas, pairs = [], []
    for _, rows in folds:
        areas.append(roc_auc_score(positive[rows], scores[rows]))
        pairs.append(positive[rows].sum() * (~positive[rows]).sum())
    found = within_fold_auc(folds, positive, scores, np.ones(40))(np.ones((1, 40)))[0]
    assert found == pytest.approx(np.average(areas, weights=pairs))


def test_folds_judge_everybody_once_and_keep_patients_whole():
    labels = np.repeat([0, 1], 60)
    units = [str(row // 4) for row in range(120)]
    folds = group_folds(labels, units, 0)
    assert sorted(np.concatenate([rows for _, rows in folds])) == list(range(120))
    for learnt, rows in folds:
        assert not {units[row] for row in learnt} & {units[row] for row in rows}


def test_weights_undo_another_prevalence():
    """Two sites that differ in how common a class is and in nothing else: weighed, they are one."""
    generator = np.random.default_rng(0)

    def part(count, share):
        labels = (generator.random(count) < share).astype(int)
        return (generator.normal(size=(count, 3)) + 3 * labels[:, None]).astype(np.float32), labels

    (a, of_a), (b, of_b) = part(400, 0.5), part(400, 0.8)
    weights = (np.bincount(of_b) / np.bincount(of_a))[of_a]
    assert domain_auc(a, b)["low"] > 0.5
    assert domain_auc(a, b, weights_a=weights)["low"] <= 0.5


def test_few_patients_give_no_interval_and_one_gives_nothing():
    (a, of_a), (b, _) = site(0), site(1)
    few = domain_auc(a, b, of_a, ["x"] * 80 + ["y"] * 80)
    assert few["value"] is not None
    assert few["low"] is None
    assert "fewer than 10" in few["reason"]
    assert domain_auc(a, b, of_a, ["x"] * 160)["value"] is None


def test_told_apart_repeats_by_seed():
    assert told(0, 0.2) == told(0, 0.2)


def labelled(seed, difference, patients=120):
    generator = np.random.default_rng(seed)
    place = np.arange(patients) % 2
    labels = (generator.random(patients) < 0.3 + difference * place).astype(int)
    rows = np.repeat(np.arange(patients), 3)
    return [f"site {place[row]}" for row in rows], labels[rows], [f"p{row}" for row in rows]


def test_a_site_that_tells_the_label_is_a_shortcut():
    assert sum(bool(site_label_auc(*labelled(s, 0.5), resamples=300)["shortcut"]) for s in range(10)) >= 9


def test_sites_alike_are_no_shortcut():
    assert sum(bool(site_label_auc(*labelled(s, 0.0), resamples=300)["shortcut"]) for s in range(20)) <= 2


def test_the_auc_of_two_sites_is_that_of_their_prevalences():
    """A score with two values: AUC = 1/2 + (share of the sick at site 1 - share of the healthy at site 1) / 2."""
    sites, labels, groups = labelled(0, 0.5, patients=2000)
    at_one = np.array(sites) == "site 1"
    expected = 0.5 + (at_one[labels == 1].mean() - at_one[labels == 0].mean()) / 2
    found = site_label_auc(sites, labels, groups, resamples=50)
    assert found["value"] == pytest.approx(expected, abs=0.01)


def test_three_classes_and_few_patients():
    sites = ["a", "b"] * 30
    labels = np.arange(60) % 3
    assert site_label_auc(sites, labels, resamples=50)["shortcut"] is False
    few = site_label_auc(sites, labels % 2, [f"p{row % 8}" for row in range(60)], resamples=50)
    assert few["shortcut"] is None


def test_what_cannot_be_compared_is_refused_in_words():
    (a, of_a), (b, _) = site(0), site(1)
    for words, wrong in {
        "one width": lambda: domain_auc(a, b[:, 1:]),
        "1 groups do not fit": lambda: domain_auc(a, b, of_a[:1]),
        "Two sites": lambda: site_label_auc(["a"] * 4, np.array([0, 1, 0, 1])),
        "one entry": lambda: site_label_auc(["a", "b"], np.array([0, 1, 0])),
    }.items():
        with pytest.raises(RequestError, match=words):
            wrong()
