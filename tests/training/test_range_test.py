"""The range test: its rules on curves whose answer is known, and that it leaves no trace."""

import keras
import numpy as np
import pytest
from sources_drawn import ArraySource, drawn, plain_phase

from kerastl.errors import Problems, RequestError, RunFailed
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock
from kerastl.training import find_learning_rate
from kerastl.training.lr_finder import falls, smooth, suggest

RATES = list(np.geomspace(1e-6, 1.0, 61))


def test_the_rules_on_a_curve_whose_answers_are_known():
    """Flat to 1e-4, then down a straight line (in the logarithm) to 1e-2, then up."""
    logs = np.log10(RATES)
    losses = np.where(logs < -4, 2.0, np.where(logs < -2, 2.0 - 0.75 * (logs + 4), 0.5 + 3 * (logs + 2)))
    found = suggest(RATES, list(losses))
    assert found["minimum_tenth"] == pytest.approx(1e-3, rel=0.3)
    assert 1e-4 <= found["steepest"] <= 1e-2
    assert found["valley"] == pytest.approx(10 ** (-4 + 2 * 2 / 3), rel=0.5)


def test_the_steepest_place_is_before_the_lowest():
    logs = np.log10(RATES)
    losses = 1.0 / (1.0 + np.exp(6 * (logs + 3.5))) + np.where(logs > -2, 0.1 * (logs + 2) ** 2, 0.0)
    assert suggest(RATES, list(losses))["steepest"] == pytest.approx(10**-3.5, rel=0.3)


def test_a_jump_of_few_batches_at_the_start_is_not_the_steepest_place():
    logs = np.log10(RATES)
    losses = 2.0 + np.where(logs < -4.7, 0.4, 0.0) - 1.5 * np.clip((logs + 3) / 2, 0, 1)
    assert 1e-3 < suggest(RATES, list(losses))["steepest"] < 1e-1


def test_smoothing_is_free_of_bias_towards_its_start():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    found = smooth([1.0, 0.0])
    assert found[1] == pytest.approx(0.9 * 0.1 / (1 - 0.81))


def planted(seed, *, noise, best=1e-2, steps=120):
    """A curve as a training draws it: no change, then down by 1.5 over two decades to `best`, then steeply up."""
    rates = np.geomspace(1e-6, 1.0, steps)
    below = np.log10(rates) - np.log10(best)
    losses = 2.0 - 1.5 * np.clip((below + 2) / 2, 0, 1) + 4 * np.clip(below, 0, None)
    return list(rates), list(losses + noise * np.random.default_rng(seed).normal(size=steps))


@pytest.mark.parametrize("best", [1e-3, 1e-2, 1e-1])
def test_the_rules_find_a_planted_fall_through_noise(best):
    for seed in range(5):
        rates, losses = planted(seed, noise=0.1, best=best)
        assert falls(losses)
        found = suggest(rates, smooth(losses))
        assert best / 100 < found["steepest"] < best * 1.5
        assert best / 100 < found["valley"] < best * 1.5
        # The average lags behind: the lowest is read off some steps late, never a decade.
        assert best / 20 < found["minimum_tenth"] < best / 2


def test_a_flat_curve_tells_nothing_and_a_slight_fall_does():
    generator = np.random.default_rng(0)
    flat = [falls(list(0.7 + 0.1 * generator.normal(size=100))) for _ in range(200)]
    assert sum(flat) <= 10
    assert not falls([0.7] * 100)
    assert not falls(list(np.linspace(0.7, 0.6999, 100)))
    assert not falls(list(0.7 + np.linspace(0, 5, 100) ** 2))
    assert falls(list(np.linspace(0.7, 0.5, 100)))
    assert sum(falls(planted(seed, noise=0.3)[1]) for seed in range(50)) >= 49


def test_where_nothing_is_learnt_no_rate_is_suggested(tmp_path):
    images, labels = drawn(32)
    phase = plain_phase("x", epochs=1, batch_norm="frozen")
    test = find_learning_rate(
        model_of(), ArraySource(np.zeros_like(images), labels), phase=phase, steps=40, highest=1e-3,
        cache_dir=tmp_path,
    )  # fmt: skip
    assert test.suggestions == {}
    assert len(test.losses) == 40


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lowest": 1.0, "highest": 1e-6}, "lowest.*1, highest.*1e-06"),
        ({"lowest": 0.0}, "lowest.*0"),
        ({"highest": float("nan")}, "highest.*nan"),
        ({"steps": 9}, "10.*9"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(tmp_path, wrong, words):
    with pytest.raises(RequestError, match=words):
        find_learning_rate(
            model_of(), source(), phase=plain_phase("x", epochs=1), cache_dir=tmp_path, **wrong
        )


def test_no_image_is_refused_and_two_are_enough(tmp_path):
    images, labels = drawn(32)
    phase = plain_phase("x", epochs=1, trainable="all", batch_norm="trainable")
    with pytest.raises(RequestError, match="0"):
        find_learning_rate(model_of(), ArraySource(images[:0], labels[:0]), phase=phase, cache_dir=tmp_path)
    test = find_learning_rate(
        model_of(), ArraySource(images[:2], labels[:2]), phase=phase, steps=30, cache_dir=tmp_path
    )
    assert len(test.losses) >= 10


def source(count=32):
    return ArraySource(*drawn(count))


def model_of():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=("dark", "light"), seed=1)


@pytest.mark.parametrize("trainable", ["all", FromBlock(from_block="block_3")])
def test_the_model_is_given_back_as_it_was(trainable, tmp_path):
    model = model_of()
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*drawn(8), verbose=0)
    optimizer = model.optimizer
    momenta = [keras.ops.convert_to_numpy(one).tobytes() for one in optimizer.variables]
    assert len(momenta) > 10
    before = [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables]
    flags = [layer.trainable for layer in model.layers]
    phase = plain_phase("x", epochs=1, trainable=trainable, batch_norm="trainable")
    test = find_learning_rate(model, source(), phase=phase, steps=30, cache_dir=tmp_path)
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables] == before
    assert [layer.trainable for layer in model.layers] == flags
    assert model.optimizer is optimizer
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in optimizer.variables] == momenta
    assert len(test.rates) == len(test.losses) == len(test.smoothed) <= 30
    assert test.rates[0] == pytest.approx(1e-6)
    for rate in test.suggestions.values():
        assert 1e-8 < rate < 3.0


def test_it_ends_where_the_loss_diverges_and_again_gives_the_same(tmp_path):
    phase = plain_phase("x", epochs=1, trainable="all", optimizer="sgd", batch_norm="trainable")
    images, labels = drawn(32)
    # Nothing is to be learnt from labels by chance: a high rate only raises the loss.
    chance = ArraySource(images, np.random.default_rng(0).permutation(labels))
    tests = [
        find_learning_rate(model_of(), chance, phase=phase, steps=60, highest=1e4, cache_dir=tmp_path)
        for _ in range(2)
    ]
    assert len(tests[0].rates) < 60
    assert tests[0] == tests[1]


def test_a_phase_that_cannot_run_is_refused_and_a_rate_too_high_is_told(tmp_path):
    with pytest.raises(Problems, match=r"phase x.*'b'"):
        find_learning_rate(
            model_of(), source(), phase=plain_phase("x", epochs=1, trainable=FromBlock(from_block="b")),
            cache_dir=tmp_path,
        )  # fmt: skip
    phase = plain_phase("x", epochs=1, trainable="all", optimizer="sgd", batch_norm="trainable")
    model = model_of()
    before = [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables]
    with pytest.raises(RunFailed, match=r"\d steps"):
        find_learning_rate(model, source(), phase=phase, lowest=1e30, highest=1e38, cache_dir=tmp_path)
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables] == before
