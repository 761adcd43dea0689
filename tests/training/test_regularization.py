"""Weight averages, L2-SP, focal loss and gradient accumulation: their formulas, and in the training loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import ArrayDataset, make_images, phase_with, plain_phase
from stopping import snapshots

from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock
from kerastl.tasks import SINGLE_LABEL
from kerastl.training import fit
from kerastl.training.optimizer import WeightAverages, build_l2_sp

LAST = FromBlock(from_block="block_3")


def model_of(seed=1):
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=("dark", "light"), dropout=0.3, seed=seed)


def source(count=32, seed=0, **more):
    images, labels = make_images(count, seed)
    return ArrayDataset(images, labels, **more)


def trained(*phases, **more):
    model = model_of()
    history = fit(model, source(), val=source(16, seed=1, shuffle=False), phases=list(phases), **more)
    return model, history


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def test_moving_average_equals_the_formula():
    weight = keras.Variable(np.array([1.0, -2.0], "float32"))
    averages = WeightAverages(plain_phase("x", epochs=1, ema=0.9), [weight])
    expected, generator = weight.numpy().astype(float), np.random.default_rng(0)
    for step in range(120):
        weight.assign(generator.normal(size=2).astype("float32"))
        averages.on_step()
        momentum = min(0.9, (1 + step) / (10 + step))
        expected = momentum * expected + (1 - momentum) * weight.numpy()
    last = weight.numpy().copy()
    with averages.applied():
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(weight.numpy(), last)


def test_average_last_is_the_mean_of_the_last_epochs():
    weight = keras.Variable(np.zeros(3, "float32"))
    averages = WeightAverages(plain_phase("x", epochs=5, average_last=3), [weight])
    values = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    for epoch, value in enumerate(values, start=1):
        weight.assign(value)
        averages.on_epoch(epoch)
        first = min(epoch - 1, 2) if epoch < 3 else 2
        with averages.applied():
            np.testing.assert_allclose(
                weight.numpy(), values[first if epoch >= 3 else epoch - 1 : epoch].mean(axis=0), rtol=1e-5
            )  # fmt: skip


AVERAGED = plain_phase("x", epochs=3, learning_rate=3e-3, trainable=LAST, keep="last")


@pytest.fixture(scope="module")
def plain():
    return weights_of(trained(AVERAGED)[0])


@pytest.mark.parametrize(
    "more", [{"ema": 0.9}, pytest.param({"average_last": 2}, marks=pytest.mark.slow)], ids=str
)
def test_averaged_weights_are_evaluated_and_kept(plain, more):
    averaged, history = trained(phase_with(AVERAGED, **more))
    differ = [
        not np.array_equal(first, second) for first, second in zip(plain, weights_of(averaged), strict=True)
    ]
    assert any(differ)
    assert not all(differ)  # what is frozen is not averaged
    logits = averaged(source(16, seed=1).images, training=False)
    loss = float(tf.reduce_mean(SINGLE_LABEL.loss(source(16, seed=1).labels, logits)))
    assert loss == pytest.approx(history.rows[-1]["val_loss"], rel=1e-4)


def assert_resumed_runs_end_alike(phases, folder, *epochs):
    """Train without interruption, and again from the checkpoints of some epochs. Return the weights and the history."""
    checkpoints = folder / "whole"
    whole, expected = trained(*phases, checkpoints=checkpoints, on_epoch=snapshots(checkpoints))
    for epoch in epochs:
        again, history = trained(*phases, checkpoints=folder / f"whole-{epoch}", resume=True)
        assert history.rows == expected.rows
        for whole_weights, resumed_weights in zip(weights_of(whole), weights_of(again), strict=True):
            assert whole_weights.tobytes() == resumed_weights.tobytes()
    return weights_of(whole), expected


@pytest.mark.parametrize("more", [{"ema": 0.9, "accumulate": 3}, {"average_last": 3}], ids=str)
@pytest.mark.slow
def test_averages_and_accumulated_gradients_are_resumed(more, tmp_path):
    phase = plain_phase("x", epochs=4, learning_rate=3e-3, trainable=LAST, keep="last", **more)
    after = plain_phase("y", epochs=1, learning_rate=1e-3, keep="last")
    assert_resumed_runs_end_alike([phase, after], tmp_path, 3)


@pytest.mark.slow
def test_gradual_unfreezing_with_kept_optimizer_state_is_resumed(tmp_path):
    phases = [
        plain_phase("head", epochs=1, keep="last", schedule="cosine").with_schedule_span(0, 3),
        plain_phase("last", epochs=2, keep="last", trainable=LAST, optimizer_state="keep", schedule="cosine").with_schedule_span(1, 3),
    ]  # fmt: skip
    kept, expected = assert_resumed_runs_end_alike(phases, tmp_path, 1)
    rates = [row["learning_rate"] for row in expected.rows]
    assert rates[0] > rates[1] > rates[2] > 0
    reset, _ = trained(phases[0], phase_with(phases[1], optimizer_state="reset"))
    assert any(
        not np.array_equal(first, second) for first, second in zip(kept, weights_of(reset), strict=True)
    )


def test_l2_sp_equals_the_formula_and_excludes_the_head():
    weight, head = (keras.Variable(np.array([1.0, 2.0], "float32"), name=name) for name in ("w", "head"))
    pull = build_l2_sp(0.5, [weight, head], {weight.path: np.array([0.0, 4.0], "float32")})
    assert float(pull()) == pytest.approx(0.5 * 0.5 * (1.0 + 4.0))
    assert build_l2_sp(0.0, [weight], {weight.path: np.zeros(2, "float32")}) is None
    assert build_l2_sp(1.0, [head], {}) is None


@pytest.mark.slow
def test_l2_sp_keeps_weights_closer_to_their_initial_values():
    def way(strength):
        phase = plain_phase("x", epochs=3, learning_rate=3e-3, trainable=LAST, keep="last", l2_sp=strength)
        start = model_of()
        model, history = trained(phase)
        assert ("l2_sp" in history.rows[0]) == bool(strength)
        return sum(
            float(np.square(trained - initial).sum())
            for layer in model.layers if layer.name != "head"
            for trained, initial in zip(layer.get_weights(), start.get_layer(layer.name).get_weights(), strict=True)
        )  # fmt: skip

    assert way(100.0) < 0.5 * way(0.0)


def test_focal_loss_equals_the_formula_and_cross_entropy_for_gamma_zero():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 4, (50, 3)).astype("float32")
    labels = generator.integers(0, 3, 50).astype("int32")
    shares = np.exp(logits.astype(float))
    right = (shares / shares.sum(axis=1, keepdims=True))[np.arange(50), labels]
    for gamma in (0.0, 0.5, 2.0):
        loss = SINGLE_LABEL.loss(labels, tf.constant(logits), focal_gamma=gamma).numpy()
        np.testing.assert_allclose(loss, -((1 - right) ** gamma) * np.log(right), rtol=2e-4, atol=1e-6)


def test_focal_loss_has_a_finite_gradient_for_confident_predictions():
    logits = tf.constant([[60.0, -60.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = SINGLE_LABEL.loss(tf.constant([0]), logits, focal_gamma=0.5)
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()
