from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


@given(
    splits=st.lists(
        st.sampled_from(["train", "val", "test", "target_test", ""]), min_size=2, max_size=5, unique=True
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_splits_are_compared_one_at_a_time(splits, seed):
    drawn = np.random.default_rng(seed).permutation(np.arange(120) % len(splits))
    names = tuple(splits[index] for index in drawn)
    bad, good = (replace(make_predictions(signal=signal), splits=names) for signal in (0.0, 3.0))
    with pytest.raises(RequestError, match="one of the splits"):
        paired_difference(bad, good)
    for split in splits:
        pair = bad.of(split), good.of(split)
        value = auc(pair[1].labels, pair[1].probabilities, np.ones((1, len(pair[1].labels))))[0]
        value -= auc(pair[0].labels, pair[0].probabilities, np.ones((1, len(pair[0].labels))))[0]
        compared = paired_difference(bad, good, split=split, resamples=2)["value"]
        assert compared == pytest.approx(value, nan_ok=True)


def test_different_images_and_unknown_metrics_are_rejected():
    predictions = make_predictions()
    with pytest.raises(RequestError, match="different images"):
        paired_difference(predictions, predictions.take(range(100)))
    with pytest.raises(RequestError, match="Unknown metric 'acuracy'"):
        paired_difference(predictions, predictions, metric="acuracy")
