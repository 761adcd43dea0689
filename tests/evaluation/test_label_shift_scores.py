import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from sklearn import metrics as sk
from synthetic_predictions import concatenate

from kerastl.evaluation import Predictions
from kerastl.evaluation import score as score_fully
from kerastl.evaluation.label_shift import estimate_label_shift

score = partial(score_fully, resamples=40)
label_shift = partial(estimate_label_shift, seed=0, resamples=40, level=0.95)
DISTANCE = 2.0


def draw_patients(split, share, *, seed, patients=150, images=4, labeled=True, bias=0.0, domain="b"):
    """Return predictions for patients of two normal classes at distance 2, calibrated for a prevalence of 0.5 except for a bias."""
    generator = np.random.default_rng(seed)
    sick = np.repeat(generator.random(patients) < share, images)
    position = generator.normal(size=len(sick)) + DISTANCE * sick
    odds = DISTANCE * position - DISTANCE**2 / 2 + bias
    names = tuple(f"{split}{row // images}" for row in range(len(sick)))
    return Predictions(
        tuple(f"{split}/{row}.png" for row in range(len(sick))),
        sick.astype(np.int32) if labeled else np.full(len(sick), -1, np.int32),
        np.column_stack([np.zeros(len(sick)), odds]).astype(np.float32),
        ("benign", "malignant"),
        (split,) * len(sick),
        names,
        ("a" if split == "val" else domain,) * len(sick),
    )


def draw_sites(share, seed=0, **how):
    source = draw_patients("val", 0.5, seed=10 * seed, **how)
    return concatenate(source, draw_patients("target_test", share, seed=10 * seed + 1, **how))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_planted_prevalence_is_reported_with_the_true_one(share):
    predictions = draw_sites(share)
    result = label_shift(predictions)
    malignant = result["classes"]["malignant"]
    true = predictions.of("target_test").labels.mean()
    assert malignant["true"]["value"] == pytest.approx(true)
    for method in ("em", "bbse"):
        assert malignant[method]["value"] == pytest.approx(true, abs=0.05)
        assert malignant[method]["low"] < true < malignant[method]["high"]
        assert result["differs"][method] is True
    assert malignant["source"]["value"] == pytest.approx(predictions.of("val").labels.mean())
    benign = result["classes"]["benign"]
    assert benign["em"]["value"] == pytest.approx(1 - malignant["em"]["value"])


def test_equal_prevalence_does_not_differ():
    result = label_shift(draw_sites(0.5, seed=3))
    assert result["differs"] == {"em": False, "bbse": False}


def test_target_labels_do_not_change_the_estimates():
    predictions = draw_sites(0.2)
    noise = predictions.labels.copy()
    at_target = np.array(predictions.splits) == "target_test"
    noise[at_target] = np.random.default_rng(0).integers(0, 2, at_target.sum())
    first, second = (
        label_shift(some) for some in (predictions, dataclasses.replace(predictions, labels=noise))
    )
    for name in ("benign", "malignant"):
        for part in ("source", "em", "bbse"):
            was = first["classes"][name][part]
            assert second["classes"][name][part] == was
        true = (some["classes"][name]["true"] for some in (first, second))
        assert len({entry["value"] for entry in true}) == 2


def test_unlabeled_images_are_used_for_the_estimate_only():
    free = draw_patients("target_unlabelled", 0.1, seed=7, labeled=False)
    result = score(concatenate(draw_patients("val", 0.5, seed=0), free))
    assert set(result) == {"val", "label_shift", "interval"}
    label_shift = result["label_shift"]
    assert label_shift["target"] == {"splits": ["target_unlabelled"], "images": 600, "groups": 150}
    malignant = label_shift["classes"]["malignant"]
    assert malignant["em"]["value"] == pytest.approx(0.1, abs=0.04)
    assert malignant["true"]["value"] is None
    assert "no labeled image" in malignant["true"]["reason"]
    assert label_shift["correction"] is None


def test_correction_follows_bayes_theorem():
    """The reference is the odds times the odds of the true prevalence, because the model is calibrated for 0.5."""
    predictions = draw_sites(0.1, seed=2)
    result = label_shift(predictions)["correction"]
    test = predictions.of("target_test")
    share = test.labels.mean()
    odds = np.exp(test.logits[:, 1].astype(float)) * share / (1 - share)
    expected = odds / (1 + odds)
    plain = 1 / (1 + np.exp(-test.logits[:, 1].astype(float)))
    assert result["uncalibrated"]["brier"]["value"] == pytest.approx(sk.brier_score_loss(test.labels, plain))
    assert result["corrected"]["brier"]["value"] == pytest.approx(
        sk.brier_score_loss(test.labels, expected), abs=0.005
    )
    assert result["corrected"]["log_loss"]["value"] == pytest.approx(
        sk.log_loss(test.labels, expected), abs=0.03
    )
    for name in ("ece", "brier", "log_loss"):
        change = result["difference"][name]
        assert change["outcome"] == "better", name
        assert change["low"] <= change["value"] <= change["high"] < 0
        gap = result["corrected"][name]["value"] - result["uncalibrated"][name]["value"]
        assert change["value"] == pytest.approx(gap)
    # The rare class is predicted less often, which reduces the balanced accuracy.
    assert result["difference"]["balanced_accuracy"]["value"] < 0


def test_other_scores_are_not_corrected():
    predictions = draw_sites(0.1)
    result = score(predictions)
    plain = result["target_test"]["overall"]["brier"]
    assert result["label_shift"]["correction"]["uncalibrated"]["brier"] == plain


def test_source_val_replaces_the_split_val():
    """The split val is shifted, as with BatchNorm statistics of the target; `source_val` is not."""
    right = draw_patients("val", 0.5, seed=0)
    wrong = draw_patients("val", 0.5, seed=0, bias=4.0)
    target = draw_patients("target_test", 0.2, seed=1)
    biased, correct = (
        label_shift(concatenate(wrong, target), source_val=given)["classes"]["malignant"]
        for given in (None, right)
    )
    assert correct["em"]["value"] == pytest.approx(0.2, abs=0.05)
    assert abs(biased["em"]["value"] - 0.2) > 0.15


def test_training_counts_give_training_frequencies():
    result = label_shift(draw_sites(0.2), training_counts={"benign": 30, "malignant": 10})
    assert result["classes"]["malignant"]["train"]["value"] == 0.25
    assert label_shift(draw_sites(0.2))["classes"]["malignant"]["train"] is None


def test_no_label_shift_without_target_or_source():
    assert "label_shift" not in score(draw_patients("val", 0.5, seed=0))
    assert label_shift(draw_patients("target_test", 0.5, seed=0)) is None


def test_few_patients_and_an_absent_class_give_reasons():
    few = draw_sites(0.3, patients=9)
    malignant = label_shift(few)["classes"]["malignant"]["em"]
    assert malignant["low"] is None
    assert "9 groups at the source (at least 10 are needed)" in malignant["reason"]
    predictions = concatenate(draw_patients("val", 0.0, seed=0), draw_patients("target_test", 0.5, seed=1))
    assert label_shift(predictions)["reason"] == "no source validation image of malignant"


def test_label_shift_does_not_depend_on_the_order_of_rows():
    predictions = draw_sites(0.2, patients=40)
    order = np.random.default_rng(0).permutation(len(predictions.paths)).tolist()
    first, second = (json.dumps(label_shift(some)) for some in (predictions, predictions.take(order)))
    assert first == second
    assert "NaN" not in first
