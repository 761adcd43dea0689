"""The range test: its rules on curves whose answer is known, and that it leaves no trace."""

import keras
import numpy as np
import pytest
from sources_drawn import ArraySource, drawn

from kerastl.backbones import build_backbone
from kerastl.errors import Problems, RunFailed
from kerastl.training import Phase, Trainable, build_model, range_test
from kerastl.training.range_test import smooth, suggest

RATES = list(np.geomspace(1e-6, 1.0, 61))


def test_the_rules_on_a_curve_whose_answers_are_known():
    """Flat to 1e-4, then down a straight line (in the logarithm) to 1e-2, then up."""
    logs = np.log10(RATES)
    losses = np.where(
        logs < -4, 2.0, np.where(logs < -2, 2.0 - 0.75 * (logs + 4), 0.5 + 3 * (logs + 2))
    )
    found = suggest(RATES, list(losses))
    assert found["minimum_tenth"] == pytest.approx(1e-3, rel=0.3)
    assert 1e-4 <= found["steepest"] <= 1e-2
    assert found["valley"] == pytest.approx(10 ** (-4 + 2 * 2 / 3), rel=0.5)


def test_the_steepest_place_is_before_the_lowest():
    logs = np.log10(RATES)
    losses = 1.0 / (1.0 + np.exp(6 * (logs + 3.5))) + np.where(
        logs > -2, 0.1 * (logs + 2) ** 2, 0.0
    )
    assert suggest(RATES, list(losses))["steepest"] == pytest.approx(10**-3.5, rel=0.3)


def test_smoothing_is_free_of_bias_towards_its_start():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    found = smooth([1.0, 0.0])
    assert found[1] == pytest.approx(0.9 * 0.1 / (1 - 0.81))


def source(count=32):
    return ArraySource(*drawn(count))


def model_of():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=("dark", "light"), seed=1)


@pytest.mark.parametrize("trainable", [Trainable("all"), Trainable("from_block", text="block_3")])
def test_the_model_is_given_back_as_it_was(trainable, tmp_path):
    model = model_of()
    model.compile("sgd")
    optimizer = model.optimizer
    before = [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables]
    flags = [layer.trainable for layer in model.layers]
    phase = Phase("x", epochs=1, trainable=trainable, batch_norm="trainable")
    test = range_test(model, source(), phase=phase, steps=30, cache_dir=tmp_path)
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables] == before
    assert [layer.trainable for layer in model.layers] == flags
    assert model.optimizer is optimizer
    assert len(test.rates) == len(test.losses) == len(test.smoothed) <= 30
    assert test.rates[0] == pytest.approx(1e-6)
    for rate in test.suggestions.values():
        assert 1e-8 < rate < 3.0


def test_it_ends_where_the_loss_diverges_and_again_gives_the_same(tmp_path):
    phase = Phase(
        "x", epochs=1, trainable=Trainable("all"), optimizer="sgd", batch_norm="trainable"
    )
    images, labels = drawn(32)
    # Nothing is to be learnt from labels by chance: a high rate only raises the loss.
    chance = ArraySource(images, np.random.default_rng(0).permutation(labels))
    tests = [
        range_test(model_of(), chance, phase=phase, steps=60, highest=1e4, cache_dir=tmp_path)
        for _ in range(2)
    ]
    assert len(tests[0].rates) < 60
    assert tests[0] == tests[1]


def test_a_phase_that_cannot_run_is_refused_and_a_rate_too_high_is_told(tmp_path):
    with pytest.raises(Problems, match="no block"):
        range_test(
            model_of(), source(), phase=Phase("x", epochs=1, trainable=Trainable("from_block", text="b")),
            cache_dir=tmp_path,
        )  # fmt: skip
    phase = Phase(
        "x", epochs=1, trainable=Trainable("all"), optimizer="sgd", batch_norm="trainable"
    )
    with pytest.raises(RunFailed, match="Begin with a smaller rate"):
        range_test(model_of(), source(), phase=phase, lowest=1e30, highest=1e38, cache_dir=tmp_path)
