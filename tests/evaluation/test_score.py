import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kerastl.evaluation import (
    Predictions,
    paired_difference,
    read_predictions,
    score,
    write_predictions,
)
from kerastl.evaluation.metrics import (
    BY_CLASS,
    accuracy,
    auc,
    balanced_accuracy,
    binary_auc,
    log_loss,
    macro_f1,
)


def made(count=120, classes=2, groups=30, seed=0, signal=1.5, domains=("a",)) -> Predictions:
    generator = np.random.default_rng(seed)
    owner = np.arange(count) % groups
    labels = (owner % classes).astype(np.int32)
    logits = generator.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += signal
    return Predictions(
        tuple(f"p{row}.png" for row in range(count)),
        labels,
        logits,
        tuple(f"class{place}" for place in range(classes)),
        ("test",) * count,
        tuple(f"g{one}" for one in owner),
        tuple(domains[one % len(domains)] for one in owner),
    )


def ones(predictions):
    return np.ones((1, len(predictions.labels)))


@pytest.mark.parametrize("classes", [2, 4])
def test_every_figure_equals_scikit_learn(classes):
    one = made(classes=classes, groups=40)
    labels, p = one.labels, one.probabilities
    said, weights = p.argmax(1), ones(one)
    expected_auc = (
        sk.roc_auc_score(labels, p[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, p / p.sum(1, keepdims=True), multi_class="ovr")
    )
    assert accuracy(labels, p, weights)[0] == pytest.approx(sk.accuracy_score(labels, said))
    assert balanced_accuracy(labels, p, weights)[0] == pytest.approx(
        sk.balanced_accuracy_score(labels, said)
    )
    assert macro_f1(labels, p, weights)[0] == pytest.approx(
        sk.f1_score(labels, said, average="macro")
    )
    assert auc(labels, p, weights)[0] == pytest.approx(expected_auc)
    assert log_loss(labels, p, weights)[0] == pytest.approx(
        sk.log_loss(labels, p / p.sum(1, keepdims=True)), rel=1e-5
    )
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, said)
    for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
        np.testing.assert_allclose(BY_CLASS[name](labels, p, weights)[0], values)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=30
    )
)
def test_weighted_auc_equals_scikit_learn_on_the_pictures_repeated(rows):
    """Many ties, and weights as a bootstrap gives them."""
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    drawn = np.repeat(np.arange(len(rows)), weights)
    value = binary_auc(positive.astype(bool), scores.astype(float), weights[None].astype(float))[0]
    if len(set(positive[drawn].tolist())) < 2:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(sk.roc_auc_score(positive[drawn], scores[drawn]))


def test_the_interval_holds_the_value_and_is_the_same_twice():
    first, second = score(made(), seed=3), score(made(), seed=3)
    assert first == second
    measured = first["test"]["overall"]["auc"]
    assert measured["low"] < measured["value"] < measured["high"]


def test_the_order_of_rows_is_irrelevant():
    one = made(domains=("a", "b"))
    rows = np.random.default_rng(1).permutation(len(one.labels)).tolist()
    straight, shuffled = score(one)["test"]["overall"], score(one.take(rows))["test"]["overall"]
    for name, measured in straight.items():
        for edge in ("value", "low", "high"):
            assert shuffled[name][edge] == pytest.approx(measured[edge], rel=1e-12)


def test_pictures_repeated_within_their_group_do_not_make_the_interval_narrower():
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
    assert "absent" in measured["reason"]


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


def test_unlabelled_pictures_are_not_scored():
    one = made()
    one.labels[:20] = -1
    assert score(one)["test"]["count"] == 100


def test_the_confusion_equals_scikit_learn():
    one = made(classes=3, groups=30)
    expected = sk.confusion_matrix(one.labels, one.probabilities.argmax(1))
    assert score(one)["test"]["confusion"] == expected.tolist()


def test_a_better_model_is_called_better_and_an_equal_one_is_not():
    bad, good = made(signal=0.0), made(signal=3.0)
    assert paired_difference(bad, good, metric="group_auc")["outcome"] == "better"
    assert paired_difference(good, bad, metric="auc")["outcome"] == "worse"
    assert paired_difference(bad, good, metric="log_loss")["outcome"] == "better"
    assert paired_difference(good, good)["outcome"] == "cannot_tell"


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


def test_the_table_gives_the_probabilities_back_exactly(tmp_path):
    one = made(classes=3, groups=30)
    write_predictions(tmp_path / "p.csv", one)
    back = read_predictions(tmp_path / "p.csv")
    assert back.paths == one.paths
    assert back.groups == one.groups
    np.testing.assert_array_equal(back.labels, one.labels)
    np.testing.assert_allclose(back.probabilities, one.probabilities, rtol=3e-7)


def test_a_hostile_path_is_no_formula_in_the_table(tmp_path):
    one = made(count=2, groups=2)
    hostile = Predictions(
        ("=cmd|'/c calc'!A1", "b.png"),
        one.labels,
        one.logits,
        one.class_names,
        one.splits,
        one.groups,
        one.domains,
    )
    write_predictions(tmp_path / "p.csv", hostile)
    assert "\n'=cmd" in (tmp_path / "p.csv").read_text()
    assert read_predictions(tmp_path / "p.csv").paths == hostile.paths
