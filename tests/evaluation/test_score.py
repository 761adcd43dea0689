import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from synthetic_predictions import make_predictions

from kerastl.evaluation import Predictions, bootstrap, paired_difference, score
from kerastl.evaluation.bootstrap import resample, resampling_units


def test_interval_contains_the_value_and_is_reproducible():
    first, second = score(make_predictions(), seed=3), score(make_predictions(), seed=3)
    assert first == second
    estimate = first["test"]["overall"]["auc"]
    assert estimate["low"] < estimate["value"] < estimate["high"]


def test_scores_do_not_depend_on_the_order_of_rows():
    predictions = make_predictions(domains=("a", "b"))
    rows = np.random.default_rng(1).permutation(len(predictions.labels)).tolist()
    assert json.dumps(score(predictions)) == json.dumps(score(predictions.take(rows)))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(60)), st.integers(2, 4))
def test_scores_are_equal_to_the_byte_for_any_order_of_rows(rows, classes):
    predictions = make_predictions(count=60, classes=classes, groups=20)
    expected = json.dumps(score(predictions, resamples=20))
    assert json.dumps(score(predictions.take(rows), resamples=20)) == expected


def test_repeated_images_of_a_group_do_not_narrow_the_interval():
    predictions = make_predictions(groups=30)
    repeated = predictions.take([*range(120), *range(120)])
    width = {
        name: scores["high"] - scores["low"]
        for name, scores in (
            ("once", score(predictions)["test"]["overall"]["auc"]),
            ("twice", score(repeated)["test"]["overall"]["auc"]),
        )
    }
    assert width["twice"] == pytest.approx(width["once"], rel=0.02)


def test_fewer_than_ten_groups_have_no_interval_and_a_reason():
    estimate = score(make_predictions(groups=8))["test"]["overall"]["accuracy"]
    assert estimate["value"] is not None
    assert (estimate["low"], estimate["high"]) == (None, None)
    assert "8 groups (at least 10 are needed)" in estimate["reason"]


def test_absent_class_has_a_null_score_with_a_reason_and_no_warning():
    predictions = make_predictions()
    single_class = predictions.take([row for row in range(120) if predictions.labels[row] == 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = score(single_class)["test"]["overall"]["auc"]
    assert estimate["value"] is None
    assert estimate["reason"] == "no image of class1"
    classes = score(single_class)["test"]["classes"]
    assert classes["class1"]["recall"]["reason"] == "no image of this class"
    assert classes["class0"]["auc"]["reason"] == "no image of another class"
    assert classes["class0"]["recall"]["value"] is not None


def test_resamples_with_a_single_class_are_redrawn_and_counted():
    predictions = make_predictions(count=40, groups=20)
    rare = [row for row in range(40) if predictions.labels[row] == 0 or predictions.groups[row] == "g1"]
    assert score(predictions.take(rare))["interval"]["redrawn"] > 0


def test_group_auc_is_the_auc_of_mean_probabilities():
    predictions = make_predictions()
    means, labels = {}, {}
    for group, label, p in zip(
        predictions.groups, predictions.labels, predictions.probabilities[:, 1], strict=True
    ):
        means.setdefault(group, []).append(float(p))
        labels[group] = label
    expected = sk.roc_auc_score(list(labels.values()), [np.mean(means[group]) for group in labels])
    assert score(predictions)["test"]["overall"]["group_auc"]["value"] == pytest.approx(expected)


def test_group_auc_of_three_classes_is_the_one_vs_rest_auc_of_mean_probabilities():
    predictions = make_predictions(classes=3, groups=30, signal=0.7)
    groups = sorted(set(predictions.groups))
    rows = [[row for row, name in enumerate(predictions.groups) if name == group] for group in groups]
    means = np.array([predictions.probabilities[members].mean(axis=0) for members in rows])
    labels = [predictions.labels[members[0]] for members in rows]
    expected = sk.roc_auc_score(labels, means, multi_class="ovr")
    assert score(predictions)["test"]["overall"]["group_auc"]["value"] == pytest.approx(expected)


def test_group_with_two_labels_has_no_group_auc_and_a_reason():
    predictions = make_predictions()
    predictions.labels[0] = 1 - predictions.labels[0]
    reason = "a group has images of more than one class"
    assert score(predictions)["test"]["overall"]["group_auc"]["reason"] == reason
    difference = paired_difference(predictions, predictions, metric="group_auc")
    assert (difference["outcome"], difference["reason"]) == ("cannot_tell", reason)


def test_without_groups_images_are_resampled_and_there_is_no_group_auc():
    predictions = make_predictions()
    alone = dataclasses.replace(predictions, groups=("",) * 120)
    scores = score(alone)
    assert "group_auc" not in scores["test"]["overall"]
    assert scores["interval"]["unit"] == "image"
    assert scores["test"]["groups"] == 120


def test_equal_group_names_in_two_domains_are_different_groups():
    predictions = make_predictions(groups=10)
    half = ("a",) * 60 + ("b",) * 60
    assert score(dataclasses.replace(predictions, domains=half))["test"]["groups"] == 20


def test_every_resample_has_the_same_number_of_groups_per_domain():
    predictions = make_predictions(groups=30, domains=("a", "b", "b"))
    units, domains = resampling_units(predictions), predictions.domains
    drawn = resample(units, predictions.labels, seed=0, resamples=50, domains=domains)
    names = np.unique(units)
    for domain, count in (("a", 10), ("b", 20)):
        members = [name.startswith(domain + "\0") for name in names]
        assert (drawn.counts[:, members].sum(axis=1) == count).all()


def test_chunk_size_does_not_change_scores(monkeypatch):
    predictions = make_predictions()
    expected = score(predictions)
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 1000)
    assert score(predictions) == expected


def test_class_with_few_groups_has_no_interval():
    predictions = make_predictions(count=120, groups=60)
    rows = [
        row for row in range(120) if predictions.labels[row] == 0 or int(predictions.groups[row][1:]) < 12
    ]
    classes = score(predictions.take(rows))["test"]["classes"]
    assert classes["class1"]["recall"]["reason"].startswith("no interval: 6 groups of this class")
    assert classes["class0"]["recall"]["low"] is not None


def test_bootstrap_works_with_many_rare_classes():
    """Almost no resample contains all of forty classes with two images each."""
    predictions = dataclasses.replace(make_predictions(count=80, classes=40, groups=80), groups=("",) * 80)
    scores = score(predictions, resamples=200)
    assert scores["interval"]["redrawn"] == 0
    estimate = scores["test"]["overall"]["balanced_accuracy"]
    assert estimate["low"] < estimate["high"]


def test_unlabeled_images_are_not_scored():
    predictions = make_predictions()
    predictions.labels[:20] = -1
    assert score(predictions)["test"]["count"] == 100


def test_confusion_matrix_equals_scikit_learn():
    predictions = make_predictions(classes=3, groups=30)
    expected = sk.confusion_matrix(predictions.labels, predictions.probabilities.argmax(1))
    assert score(predictions)["test"]["confusion"] == expected.tolist()


def test_confident_predictions_do_not_tie():
    """In float32 gaps of 20 and of 30 logits both give a probability of 1."""
    predictions = make_predictions(count=20, groups=20)
    predictions.logits[:, 0] = 0
    predictions.logits[:, 1] = np.where(predictions.labels == 1, 30.0, 20.0)
    assert score(predictions)["test"]["overall"]["auc"]["value"] == 1.0


@pytest.mark.slow
def test_interval_has_nominal_coverage():
    """Accuracy with a known truth over 200 simulated test sets of 60 groups; allowed: 0.90 to 0.99."""
    truth, covered = 0.8, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        is_correct = generator.random(60) < truth
        labels = (np.arange(60) % 2).astype(np.int32)
        logits = np.zeros((60, 2), np.float32)
        logits[np.arange(60), np.where(is_correct, labels, 1 - labels)] = 2.0
        blank = ("",) * 60
        names = tuple(str(row) for row in range(60))
        predictions = Predictions(names, labels, logits, ("a", "b"), ("test",) * 60, blank, blank)
        estimate = score(predictions, resamples=300)["test"]["overall"]["accuracy"]
        covered += estimate["low"] <= truth <= estimate["high"]
    assert 0.90 <= covered / 200 <= 0.99
