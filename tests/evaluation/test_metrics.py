import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from synthetic_predictions import make_predictions

from kerastl.evaluation.metrics import (
    BY_CLASS,
    accuracy,
    auc,
    balanced_accuracy,
    binary_auc,
    log_loss,
    macro_f1,
)


def ones(predictions):
    return np.ones((1, len(predictions.labels)))


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_equal_scikit_learn(classes):
    predictions = make_predictions(classes=classes, groups=40)
    labels, p = predictions.labels, predictions.probabilities
    predicted, weights = p.argmax(1), ones(predictions)
    expected_auc = (
        sk.roc_auc_score(labels, p[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, p / p.sum(1, keepdims=True), multi_class="ovr")
    )
    assert accuracy(labels, p, weights)[0] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert balanced_accuracy(labels, p, weights)[0] == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted)
    )
    assert macro_f1(labels, p, weights)[0] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert auc(labels, p, weights)[0] == pytest.approx(expected_auc)
    assert log_loss(labels, p, weights)[0] == pytest.approx(
        sk.log_loss(labels, p / p.sum(1, keepdims=True)), rel=1e-5
    )
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, predicted)
    for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
        np.testing.assert_allclose(BY_CLASS[name](labels, p, weights)[0], values)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=30))
def test_weighted_auc_equals_scikit_learn_on_repeated_images(rows):
    """Many ties, and weights as a bootstrap gives them."""
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    drawn = np.repeat(np.arange(len(rows)), weights)
    value = binary_auc(positive.astype(bool), scores.astype(float), weights[None].astype(float))[0]
    if len(set(positive[drawn].tolist())) < 2:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(sk.roc_auc_score(positive[drawn], scores[drawn]))
