import numpy as np
import pytest
from predictions_drawn import made

from kerastl.errors import RequestError
from kerastl.evaluation import paired_difference
from kerastl.evaluation.metrics import auc


def test_a_better_model_is_called_better_and_an_equal_one_is_not():
    bad, good = made(signal=0.0), made(signal=3.0)
    assert paired_difference(bad, good, metric="group_auc")["outcome"] == "better"
    assert paired_difference(good, bad, metric="auc")["outcome"] == "worse"
    assert paired_difference(bad, good, metric="log_loss")["outcome"] == "better"
    assert paired_difference(good, good)["outcome"] == "cannot_tell"


def test_models_are_compared_whatever_the_order_of_their_rows_and_without_unlabelled_ones():
    bad, good = made(signal=0.0), made(signal=3.0)
    expected = paired_difference(bad, good)
    assert paired_difference(bad.take(range(119, -1, -1)), good) == expected
    for one in (bad, good):
        one.labels[:10] = -1
    assert paired_difference(bad, good)["value"] == pytest.approx(
        auc(good.labels[10:], good.probabilities[10:], np.ones((1, 110)))[0]
        - auc(bad.labels[10:], bad.probabilities[10:], np.ones((1, 110)))[0]
    )


def test_models_judged_on_other_images_are_not_compared():
    one = made()
    with pytest.raises(RequestError, match="same images"):
        paired_difference(one, one.take(range(100)))
    with pytest.raises(RequestError, match="no metric 'acuracy'"):
        paired_difference(one, one, metric="acuracy")
