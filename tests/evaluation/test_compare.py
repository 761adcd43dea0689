import numpy as np
import pytest
from synthetic_predictions import make_predictions

from kerastl.errors import RequestError
from kerastl.evaluation import paired_difference
from kerastl.evaluation.metrics import auc


def test_better_model_has_outcome_better_and_equal_model_is_inconclusive():
    bad, good = make_predictions(signal=0.0), make_predictions(signal=3.0)
    assert paired_difference(bad, good, metric="group_auc")["outcome"] == "better"
    assert paired_difference(good, bad, metric="auc")["outcome"] == "worse"
    assert paired_difference(bad, good, metric="log_loss")["outcome"] == "better"
    assert paired_difference(good, good)["outcome"] == "cannot_tell"


def test_comparison_ignores_row_order_and_unlabeled_images():
    bad, good = make_predictions(signal=0.0), make_predictions(signal=3.0)
    expected = paired_difference(bad, good)
    assert paired_difference(bad.take(range(119, -1, -1)), good) == expected
    for predictions in (bad, good):
        predictions.labels[:10] = -1
    assert paired_difference(bad, good)["value"] == pytest.approx(
        auc(good.labels[10:], good.probabilities[10:], np.ones((1, 110)))[0]
        - auc(bad.labels[10:], bad.probabilities[10:], np.ones((1, 110)))[0]
    )


def test_different_images_and_unknown_metrics_are_rejected():
    predictions = make_predictions()
    with pytest.raises(RequestError, match="different images"):
        paired_difference(predictions, predictions.take(range(100)))
    with pytest.raises(RequestError, match="Unknown metric 'acuracy'"):
        paired_difference(predictions, predictions, metric="acuracy")
