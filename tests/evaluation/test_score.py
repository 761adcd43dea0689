import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions_drawn import made
from sklearn import metrics as sk

from kerastl.evaluation import Predictions, bootstrap, paired_difference, score
from kerastl.evaluation.bootstrap import resample, resampling_units


def test_the_interval_holds_the_value_and_is_the_same_twice():
    first, second = score(made(), seed=3), score(made(), seed=3)
    assert first == second
    measured = first["test"]["overall"]["auc"]
    assert measured["low"] < measured["value"] < measured["high"]


def test_the_order_of_rows_is_irrelevant():
    one = made(domains=("a", "b"))
    rows = np.random.default_rng(1).permutation(len(one.labels)).tolist()
    assert json.dumps(score(one)) == json.dumps(score(one.take(rows)))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(60)), st.integers(2, 4))
def test_no_order_of_rows_changes_a_byte_of_the_scores(rows, classes):
    one = made(count=60, classes=classes, groups=20)
    expected = json.dumps(score(one, resamples=20))
    assert json.dumps(score(one.take(rows), resamples=20)) == expected


def test_images_repeated_within_their_group_do_not_make_the_interval_narrower():
    one = made(groups=30)
    twice = one.take([*range(120), *range(120)])
    width = {
        name: scores["high"] - scores["low"]
        for name, scores in (
            ("once", score(one)["test"]["overall"]["auc"]),
            ("twice", score(twice)["test"]["overall"]["auc"]),
        )
    }
    assert width["twice"] == pytest.approx(width["once"], rel=0.02)


def test_fewer_than_ten_groups_give_no_interval_and_say_why():
    measured = score(made(groups=8))["test"]["overall"]["accuracy"]
    assert measured["value"] is not None
    assert (measured["low"], measured["high"]) == (None, None)
    assert "8 groups are fewer than 10" in measured["reason"]


def test_an_absent_class_gives_null_with_a_reason_and_no_warning():
    one = made()
    only = one.take([row for row in range(120) if one.labels[row] == 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = score(only)["test"]["overall"]["auc"]
    assert measured["value"] is None
    assert measured["reason"] == "no image of class1"
    classes = score(only)["test"]["classes"]
    assert classes["class1"]["recall"]["reason"] == "no image of this class"
    assert classes["class0"]["auc"]["reason"] == "no image of another class"
    assert classes["class0"]["recall"]["value"] is not None


def test_resamples_without_a_class_are_drawn_again_and_counted():
    one = made(count=40, groups=20)
    rare = [row for row in range(40) if one.labels[row] == 0 or one.groups[row] == "g1"]
    assert score(one.take(rare))["interval"]["redrawn"] > 0


def test_group_auc_is_the_auc_of_the_mean_probabilities():
    one = made()
    means, labels = {}, {}
    for group, label, p in zip(one.groups, one.labels, one.probabilities[:, 1], strict=True):
        means.setdefault(group, []).append(float(p))
        labels[group] = label
    expected = sk.roc_auc_score(list(labels.values()), [np.mean(means[group]) for group in labels])
    assert score(one)["test"]["overall"]["group_auc"]["value"] == pytest.approx(expected)


def test_group_auc_of_more_classes_is_the_one_vs_rest_auc_of_the_mean_probabilities():
    one = made(classes=3, groups=30, signal=0.7)
    groups = sorted(set(one.groups))
    rows = [[row for row, name in enumerate(one.groups) if name == group] for group in groups]
    means = np.array([one.probabilities[members].mean(axis=0) for members in rows])
    labels = [one.labels[members[0]] for members in rows]
    expected = sk.roc_auc_score(labels, means, multi_class="ovr")
    assert score(one)["test"]["overall"]["group_auc"]["value"] == pytest.approx(expected)


def test_a_group_with_two_labels_has_no_group_auc_and_says_why():
    one = made()
    one.labels[0] = 1 - one.labels[0]
    reason = "a group has images of more than one class"
    assert score(one)["test"]["overall"]["group_auc"]["reason"] == reason
    difference = paired_difference(one, one, metric="group_auc")
    assert (difference["outcome"], difference["reason"]) == ("cannot_tell", reason)


def test_without_groups_there_is_no_group_auc_and_images_are_drawn():
    one = made()
    alone = dataclasses.replace(one, groups=("",) * 120)
    scores = score(alone)
    assert "group_auc" not in scores["test"]["overall"]
    assert scores["interval"]["unit"] == "image"
    assert scores["test"]["groups"] == 120


def test_equal_group_names_at_two_hospitals_are_two_patients():
    one = made(groups=10)
    half = ("a",) * 60 + ("b",) * 60
    assert score(dataclasses.replace(one, domains=half))["test"]["groups"] == 20


def test_every_resample_keeps_the_number_of_groups_of_each_domain():
    one = made(groups=30, domains=("a", "b", "b"))
    drawn = resample(resampling_units(one), one.domains, one.labels, seed=0, resamples=50)
    names = np.unique(resampling_units(one))
    for domain, count in (("a", 10), ("b", 20)):
        members = [name.startswith(domain + "\0") for name in names]
        assert (drawn.counts[:, members].sum(axis=1) == count).all()


def test_memory_is_spared_without_changing_a_figure(monkeypatch):
    one = made()
    expected = score(one)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 1000)
    assert score(one) == expected


def test_a_class_of_few_groups_gets_no_interval_of_its_own():
    one = made(count=120, groups=60)
    rows = [row for row in range(120) if one.labels[row] == 0 or int(one.groups[row][1:]) < 12]
    classes = score(one.take(rows))["test"]["classes"]
    assert classes["class1"]["recall"]["reason"].startswith("6 groups of this class are fewer")
    assert classes["class0"]["recall"]["low"] is not None


def test_many_rare_classes_do_not_stop_the_bootstrap():
    """Hardly a resample holds every one of forty classes of two images."""
    one = dataclasses.replace(made(count=80, classes=40, groups=80), groups=("",) * 80)
    scores = score(one, resamples=200)
    assert scores["interval"]["redrawn"] == 0
    measured = scores["test"]["overall"]["balanced_accuracy"]
    assert measured["low"] < measured["high"]


def test_unlabelled_images_are_not_scored():
    one = made()
    one.labels[:20] = -1
    assert score(one)["test"]["count"] == 100


def test_the_confusion_equals_scikit_learn():
    one = made(classes=3, groups=30)
    expected = sk.confusion_matrix(one.labels, one.probabilities.argmax(1))
    assert score(one)["test"]["confusion"] == expected.tolist()


def test_sure_answers_do_not_tie():
    """In float32 a gap of 20 logits and one of 30 are both the probability 1."""
    one = made(count=20, groups=20)
    one.logits[:, 0] = 0
    one.logits[:, 1] = np.where(one.labels == 1, 30.0, 20.0)
    assert score(one)["test"]["overall"]["auc"]["value"] == 1.0


@pytest.mark.slow
def test_the_interval_covers_the_truth_nineteen_times_in_twenty():
    """Accuracy with a known truth over 200 simulated test sets of 60 groups; allowed: 0.90 to 0.99."""
    truth, covered = 0.8, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        right = generator.random(60) < truth
        labels = (np.arange(60) % 2).astype(np.int32)
        logits = np.zeros((60, 2), np.float32)
        logits[np.arange(60), np.where(right, labels, 1 - labels)] = 2.0
        blank = ("",) * 60
        names = tuple(str(row) for row in range(60))
        one = Predictions(names, labels, logits, ("a", "b"), ("test",) * 60, blank, blank)
        measured = score(one, resamples=300)["test"]["overall"]["accuracy"]
        covered += measured["low"] <= truth <= measured["high"]
    assert 0.90 <= covered / 200 <= 0.99
