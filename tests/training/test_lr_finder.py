"""The learning-rate finder: its suggestions for known curves, and that it restores the model."""

import keras
import numpy as np
import pytest
from array_dataset import ArrayDataset, make_images, plain_phase

from kerastl.errors import Problems, RequestError, RunFailed
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock
from kerastl.training import find_learning_rate
from kerastl.training.lr_finder import falls, smooth, suggest

RATES = list(np.geomspace(1e-6, 1.0, 61))


def test_suggestions_for_a_known_curve():
    """The curve is flat up to 1e-4, falls linearly in the logarithm to 1e-2, then rises."""
    logs = np.log10(RATES)
    losses = np.where(logs < -4, 2.0, np.where(logs < -2, 2.0 - 0.75 * (logs + 4), 0.5 + 3 * (logs + 2)))
    result = suggest(RATES, list(losses))
    assert result["minimum_tenth"] == pytest.approx(1e-3, rel=0.3)
    assert 1e-4 <= result["steepest"] <= 1e-2
    assert result["valley"] == pytest.approx(10 ** (-4 + 2 * 2 / 3), rel=0.5)


def test_steepest_is_before_the_minimum():
    logs = np.log10(RATES)
    losses = 1.0 / (1.0 + np.exp(6 * (logs + 3.5))) + np.where(logs > -2, 0.1 * (logs + 2) ** 2, 0.0)
    assert suggest(RATES, list(losses))["steepest"] == pytest.approx(10**-3.5, rel=0.3)


def test_initial_jump_is_not_the_steepest_point():
    logs = np.log10(RATES)
    losses = 2.0 + np.where(logs < -4.7, 0.4, 0.0) - 1.5 * np.clip((logs + 3) / 2, 0, 1)
    assert 1e-3 < suggest(RATES, list(losses))["steepest"] < 1e-1


def test_smoothing_is_bias_corrected():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    result = smooth([1.0, 0.0])
    assert result[1] == pytest.approx(0.9 * 0.1 / (1 - 0.81))


def planted(seed, *, noise, best=1e-2, steps=120):
    """The curve is flat, falls by 1.5 over two decades to `best`, then rises steeply."""
    rates = np.geomspace(1e-6, 1.0, steps)
    below = np.log10(rates) - np.log10(best)
    losses = 2.0 - 1.5 * np.clip((below + 2) / 2, 0, 1) + 4 * np.clip(below, 0, None)
    return list(rates), list(losses + noise * np.random.default_rng(seed).normal(size=steps))


@pytest.mark.parametrize("best", [1e-3, 1e-2, 1e-1])
def test_suggestions_are_robust_to_noise(best):
    for seed in range(5):
        rates, losses = planted(seed, noise=0.1, best=best)
        assert falls(losses)
        result = suggest(rates, smooth(losses))
        assert best / 100 < result["steepest"] < best * 1.5
        assert best / 100 < result["valley"] < best * 1.5
        # The moving average has a delay of some steps, less than a decade.
        assert best / 20 < result["minimum_tenth"] < best / 2


def test_flat_curve_does_not_fall_and_a_small_fall_is_detected():
    generator = np.random.default_rng(0)
    flat = [falls(list(0.7 + 0.1 * generator.normal(size=100))) for _ in range(200)]
    assert sum(flat) <= 10
    assert not falls([0.7] * 100)
    assert not falls(list(np.linspace(0.7, 0.6999, 100)))
    assert not falls(list(0.7 + np.linspace(0, 5, 100) ** 2))
    assert falls(list(np.linspace(0.7, 0.5, 100)))
    assert sum(falls(planted(seed, noise=0.3)[1]) for seed in range(50)) >= 49


def test_random_labels_give_no_suggestion(tmp_path):
    images, labels = make_images(32)
    phase = plain_phase("x", epochs=1, batch_norm="frozen")
    test = find_learning_rate(
        model_of(), ArrayDataset(np.zeros_like(images), labels), phase=phase, steps=40, highest=1e-3,
        cache_dir=tmp_path,
    )  # fmt: skip
    assert test.suggestions == {}
    assert len(test.losses) == 40


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lowest": 1.0, "highest": 1e-6}, "lowest 1.*highest 1e-06"),
        ({"lowest": 0.0}, "lowest.*0"),
        ({"highest": float("nan")}, "highest.*nan"),
        ({"steps": 9}, "10.*9"),
    ],
)
def test_invalid_request_is_rejected(wrong, words, tmp_path):
    with pytest.raises(RequestError, match=words):
        find_learning_rate(
            model_of(), source(), phase=plain_phase("x", epochs=1), cache_dir=tmp_path, **wrong
        )


@pytest.mark.slow
def test_two_images_are_enough_and_none_are_rejected(tmp_path):
    images, labels = make_images(32)
    phase = plain_phase("x", epochs=1, trainable="all", batch_norm="trainable")
    with pytest.raises(RequestError, match="0"):
        find_learning_rate(model_of(), ArrayDataset(images[:0], labels[:0]), phase=phase, cache_dir=tmp_path)
    test = find_learning_rate(
        model_of(), ArrayDataset(images[:2], labels[:2]), phase=phase, steps=30, cache_dir=tmp_path
    )
    assert len(test.losses) >= 10


def source(count=32):
    return ArrayDataset(*make_images(count))


def model_of():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=("dark", "light"), seed=1)


@pytest.mark.parametrize(
    "trainable", ["all", pytest.param(FromBlock(from_block="block_3"), marks=pytest.mark.slow)]
)
def test_model_is_restored(trainable, tmp_path):
    model = model_of()
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*make_images(8), verbose=0)
    optimizer = model.optimizer
    momenta = [keras.ops.convert_to_numpy(variable).tobytes() for variable in optimizer.variables]
    assert len(momenta) > 10
    before = [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables]
    flags = [layer.trainable for layer in model.layers]
    phase = plain_phase("x", epochs=1, trainable=trainable, batch_norm="trainable")
    test = find_learning_rate(model, source(), phase=phase, steps=12, cache_dir=tmp_path)
    assert [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables] == before
    assert [layer.trainable for layer in model.layers] == flags
    assert model.optimizer is optimizer
    assert [keras.ops.convert_to_numpy(variable).tobytes() for variable in optimizer.variables] == momenta
    assert len(test.rates) == len(test.losses) == len(test.smoothed) <= 12
    assert test.rates[0] == pytest.approx(1e-6)
    for rate in test.suggestions.values():
        assert 1e-8 < rate < 3.0


def test_a_new_head_is_not_pulled_toward_its_initial_weights(tmp_path):
    tests = [
        find_learning_rate(
            model_of(), source(), phase=plain_phase("x", epochs=1, l2_sp=l2_sp), steps=12, highest=1e-1,
            cache_dir=tmp_path,
        )
        for l2_sp in (0.0, 100.0)
    ]  # fmt: skip
    assert tests[0] == tests[1]


@pytest.mark.slow
def test_run_ends_when_the_loss_diverges_and_is_reproducible(tmp_path):
    phase = plain_phase("x", epochs=1, trainable="all", optimizer="sgd", batch_norm="trainable")
    images, labels = make_images(32)
    # The labels are random, so a high learning rate only increases the loss.
    chance = ArrayDataset(images, np.random.default_rng(0).permutation(labels))
    tests = [
        find_learning_rate(model_of(), chance, phase=phase, steps=60, highest=1e4, cache_dir=tmp_path)
        for _ in range(2)
    ]
    assert len(tests[0].rates) < 60
    assert tests[0] == tests[1]


@pytest.mark.slow
def test_invalid_phase_and_too_high_learning_rate_are_rejected(tmp_path):
    with pytest.raises(Problems, match=r"phase x.*'b'"):
        find_learning_rate(
            model_of(), source(), phase=plain_phase("x", epochs=1, trainable=FromBlock(from_block="b")),
            cache_dir=tmp_path,
        )  # fmt: skip
    phase = plain_phase("x", epochs=1, trainable="all", optimizer="sgd", batch_norm="trainable")
    model = model_of()
    before = [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables]
    with pytest.raises(RunFailed, match=r"\d steps"):
        find_learning_rate(model, source(), phase=phase, lowest=1e30, highest=1e38, cache_dir=tmp_path)
    assert [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables] == before
