import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from predictions_drawn import together
from sklearn import metrics as sk

from kerastl.evaluation import Predictions
from kerastl.evaluation import score as score_fully
from kerastl.evaluation.label_shift import estimate_label_shift

score = partial(score_fully, resamples=100)
shift = partial(estimate_label_shift, seed=0, resamples=60, level=0.95)
DISTANCE = 2.0


def drawn(split, share, *, seed, patients=150, images=4, labelled=True, bias=0.0, domain="b"):
    """Patients of two normal classes two apart; the model knows the odds at a prevalence of a half, but for a bias."""
    generator = np.random.default_rng(seed)
    sick = np.repeat(generator.random(patients) < share, images)
    place = generator.normal(size=len(sick)) + DISTANCE * sick
    odds = DISTANCE * place - DISTANCE**2 / 2 + bias
    names = tuple(f"{split}{row // images}" for row in range(len(sick)))
    return Predictions(
        tuple(f"{split}/{row}.png" for row in range(len(sick))),
        sick.astype(np.int32) if labelled else np.full(len(sick), -1, np.int32),
        np.column_stack([np.zeros(len(sick)), odds]).astype(np.float32),
        ("benign", "malignant"),
        (split,) * len(sick),
        names,
        ("a" if split == "val" else domain,) * len(sick),
    )


def sites(share, seed=0, **how):
    source = drawn("val", 0.5, seed=10 * seed, **how)
    return together(source, drawn("target_test", share, seed=10 * seed + 1, **how))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_a_planted_prevalence_is_found_beside_the_true_one(share):
    one = sites(share)
    told = shift(one)
    found = told["classes"]["malignant"]
    true = one.of("target_test").labels.mean()
    assert found["true"]["value"] == pytest.approx(true)
    for method in ("em", "bbse"):
        assert found[method]["value"] == pytest.approx(true, abs=0.05)
        assert found[method]["low"] < true < found[method]["high"]
        assert told["differs"][method] is True
    assert found["source"]["value"] == pytest.approx(one.of("val").labels.mean())
    others = told["classes"]["benign"]
    assert others["em"]["value"] == pytest.approx(1 - found["em"]["value"])


def test_the_same_prevalence_does_not_differ():
    told = shift(sites(0.5, seed=3))
    assert told["differs"] == {"em": False, "bbse": False}


def test_no_label_of_the_target_moves_an_estimate():
    one = sites(0.2)
    noise = one.labels.copy()
    at_target = np.array(one.splits) == "target_test"
    noise[at_target] = np.random.default_rng(0).integers(0, 2, at_target.sum())
    first, second = (shift(some) for some in (one, dataclasses.replace(one, labels=noise)))
    for name in ("benign", "malignant"):
        for part in ("source", "em", "bbse"):
            was = first["classes"][name][part]
            assert second["classes"][name][part] == was
        true = (some["classes"][name]["true"] for some in (first, second))
        assert len({one["value"] for one in true}) == 2


def test_images_without_labels_count_for_the_estimate_and_for_nothing_else():
    free = drawn("target_unlabelled", 0.1, seed=7, labelled=False)
    told = score(together(drawn("val", 0.5, seed=0), free))
    assert set(told) == {"val", "label_shift", "interval"}
    shift = told["label_shift"]
    assert shift["target"] == {"splits": ["target_unlabelled"], "images": 600, "groups": 150}
    found = shift["classes"]["malignant"]
    assert found["em"]["value"] == pytest.approx(0.1, abs=0.04)
    assert found["true"]["value"] is None
    assert "no labelled image" in found["true"]["reason"]
    assert shift["correction"] is None


def test_what_the_correction_changes_is_what_bayes_says():
    """The reference: odds times the odds of the true prevalence, as the model is calibrated at one half."""
    one = sites(0.1, seed=2)
    told = shift(one)["correction"]
    test = one.of("target_test")
    share = test.labels.mean()
    odds = np.exp(test.logits[:, 1].astype(float)) * share / (1 - share)
    expected = odds / (1 + odds)
    plain = 1 / (1 + np.exp(-test.logits[:, 1].astype(float)))
    assert told["uncalibrated"]["brier"]["value"] == pytest.approx(sk.brier_score_loss(test.labels, plain))
    assert told["corrected"]["brier"]["value"] == pytest.approx(
        sk.brier_score_loss(test.labels, expected), abs=0.005
    )
    assert told["corrected"]["log_loss"]["value"] == pytest.approx(
        sk.log_loss(test.labels, expected), abs=0.03
    )
    for name in ("ece", "brier", "log_loss"):
        change = told["difference"][name]
        assert change["outcome"] == "better", name
        assert change["low"] <= change["value"] <= change["high"] < 0
        gap = told["corrected"][name]["value"] - told["uncalibrated"][name]["value"]
        assert change["value"] == pytest.approx(gap)
    # Who is rare is answered less: the balance of the two recalls pays for it.
    assert told["difference"]["balanced_accuracy"]["value"] < 0


def test_predictions_stay_uncorrected_and_the_other_scores_too():
    one = sites(0.1)
    told = score(one)
    plain = told["target_test"]["overall"]["brier"]
    assert told["label_shift"]["correction"]["uncalibrated"]["brier"] == plain


def test_the_source_as_its_own_statistics_see_it_is_what_counts():
    """The split val is shifted, as where BatchNorm's statistics are the target's; the other one is not."""
    right = drawn("val", 0.5, seed=0)
    wrong = drawn("val", 0.5, seed=0, bias=4.0)
    target = drawn("target_test", 0.2, seed=1)
    astray, found = (
        shift(together(wrong, target), source_val=given)["classes"]["malignant"] for given in (None, right)
    )
    assert found["em"]["value"] == pytest.approx(0.2, abs=0.05)
    assert abs(astray["em"]["value"] - 0.2) > 0.15


def test_training_images_are_counted_beside_validation():
    told = shift(sites(0.2), training_counts={"benign": 30, "malignant": 10})
    assert told["classes"]["malignant"]["train"]["value"] == 0.25
    assert shift(sites(0.2))["classes"]["malignant"]["train"] is None


def test_a_run_without_a_target_has_none_of_it_and_one_without_a_source_neither():
    assert "label_shift" not in score(drawn("val", 0.5, seed=0))
    assert shift(drawn("target_test", 0.5, seed=0)) is None


def test_few_patients_and_an_absent_class_are_told_as_reasons():
    few = sites(0.3, patients=9)
    found = shift(few)["classes"]["malignant"]["em"]
    assert found["low"] is None
    assert "9 groups are fewer than 10" in found["reason"]
    one = together(drawn("val", 0.0, seed=0), drawn("target_test", 0.5, seed=1))
    assert shift(one)["reason"] == "no validation image of malignant at the source"


def test_bytes_do_not_depend_on_the_order_of_rows():
    one = sites(0.2, patients=40)
    order = np.random.default_rng(0).permutation(len(one.paths)).tolist()
    first, second = (json.dumps(shift(some)) for some in (one, one.take(order)))
    assert first == second
    assert "NaN" not in first
