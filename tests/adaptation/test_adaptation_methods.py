"""Properties of single methods."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from make_domains import (
    ArrayDataset,
    batch,
    build_method,
    make_batches,
    make_phase,
    numpy_entropy,
    reference_centroid_labels,
    softmax,
)

from kerastl import registry
from kerastl.adaptation import (
    check_phase,
    domain_loss,
    features_and_logits,
    get_method,
    select_batch_norm,
    step_for,
)
from kerastl.errors import RequestError
from kerastl.training import ClassificationStep, unfreeze

ALL = "all"


def gradients(loss_of, variables):
    with tf.GradientTape() as tape:
        loss = loss_of()
    return tape.gradient(loss, [variable.value for variable in variables])


def test_source_only_is_classification_of_the_source(model):
    batches = make_batches()
    losses = build_method("source_only").losses(model, batches, tf.constant(0.5))
    plain = ClassificationStep(3).losses(model, {"train": batches["source"]}, tf.constant(0.5))
    assert losses.keys() == plain.keys()
    for name, value in plain.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_dann_reverses_the_gradient_of_features_but_not_of_the_classifier(model, progress):
    step, batches = build_method("dann", strength=0.5), make_batches()
    hidden, hidden_bias, out, out_bias = step.variables
    kernel = model.get_layer("block_3_conv").kernel

    def plain():
        logits = [
            tf.nn.relu(features @ hidden.value + hidden_bias.value) @ out.value + out_bias.value
            for features, _ in (
                features_and_logits(model, batches[name][0], training=True) for name in ("source", "target")
            )
        ]
        return domain_loss(*logits)

    def reversed_loss():
        return step.losses(model, batches, tf.constant(progress))["domain_loss"]

    assert float(reversed_loss()) == pytest.approx(float(plain()), rel=1e-5)
    (expected, *expected_own), (reversed_gradient, *own) = (
        gradients(loss, [kernel, hidden, hidden_bias, out, out_bias]) for loss in (plain, reversed_loss)
    )
    strength = 0.5 * (2 / (1 + np.exp(-10 * progress)) - 1)
    largest = np.abs(expected).max()
    assert largest > 0
    np.testing.assert_allclose(reversed_gradient, -strength * expected.numpy(), atol=1e-5 * largest)
    for gradient, expected_gradient in zip(own, expected_own, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_cdan_entropy_conditioning_and_random_map(model):
    batches = make_batches()
    plain, conditioned = (
        float(
            build_method("cdan", entropy_conditioning=conditioning).losses(model, batches, tf.constant(1.0))[
                "domain_loss"
            ]
        )
        for conditioning in (False, True)
    )
    assert plain != conditioned
    narrow = build_method("cdan", widest=100, random_width=50)
    assert narrow.variables[0].shape == (50, 256)
    assert build_method("cdan").variables[0].shape == (128 * 3, 256)


def test_tent_decreases_the_entropy_and_changes_only_batch_norm(model):
    unfreeze(model, select_batch_norm(model), batch_norm="trainable")
    step = build_method("tent")
    head = {weight.path for weight in model.get_layer("head").weights}
    trained = [variable for variable in model.trainable_variables if variable.path not in head]
    assert {variable.path.rsplit("/")[-1] for variable in trained} == {"gamma", "beta"}
    batches = {"target": make_batches(target=16)["target"]}
    optimizer = keras.optimizers.SGD(0.3)
    optimizer.build(model.trainable_variables)
    conv_before = [weight.numpy() for weight in model.get_layer("block_1_conv").weights]
    head_before = [weight.numpy() for weight in model.get_layer("head").weights]
    entropies = []
    for _ in range(10):
        with tf.GradientTape() as tape:
            loss = step.losses(model, batches, tf.constant(0.0))["loss"]
        entropies.append(float(loss))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    logits = model(batches["target"][0], training=True).numpy()
    assert numpy_entropy(logits).mean() < 0.9 * entropies[0]
    assert entropies == sorted(entropies, reverse=True)
    for before, weight in zip(conv_before, model.get_layer("block_1_conv").weights, strict=True):
        np.testing.assert_array_equal(before, weight)
    for before, weight in zip(head_before, model.get_layer("head").weights, strict=True):
        np.testing.assert_array_equal(before, weight)


def test_shot_losses_and_pseudo_labels_equal_numpy(model):
    images = np.concatenate([batch(9, seed=6)[0], batch(6, seed=7, shifted=True)[0]])
    step = build_method("shot")
    step.on_phase_begin(model, {"target": ArrayDataset(images)})
    features, logits = features_and_logits(model, tf.constant(images), training=False)
    labels = step.state()["pseudo_labels"]
    assert list(labels) == reference_centroid_labels(np.float64(features), np.float64(logits))
    rows = np.array([12, 3, 7])
    batches = {"target": (tf.constant(images[rows]), tf.fill([3], -1), tf.constant(rows))}
    losses = step.losses(model, batches, tf.constant(0.0))
    probabilities = softmax(logits.numpy()[rows])
    cross_entropy = -np.log([
        row[label] for row, label in zip(probabilities, labels[rows], strict=True)
    ])  # fmt: skip
    assert float(losses["pseudo_label_loss"]) == pytest.approx(0.3 * cross_entropy.mean(), rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(numpy_entropy(logits.numpy()[rows]).mean(), rel=1e-4)
    mean = probabilities.mean(axis=0)
    assert float(losses["diversity_loss"]) == pytest.approx((mean * np.log(mean)).sum(), rel=1e-4)


def test_shot_has_no_pseudo_labels_before_the_phase_begins(model):
    step = build_method("shot")
    losses = step.losses(model, make_batches(), tf.constant(0.0))
    assert float(losses["pseudo_label_loss"]) == 0.0
    assert step.state()["pseudo_labels"].shape == (0,)


def test_adabn_statistics_equal_those_of_the_target_in_numpy(model):
    unfreeze(model, ALL, batch_norm="statistics")
    images = np.concatenate([batch(5, seed=6)[0], batch(6, seed=7, shifted=True)[0]])
    step = build_method("adabn")
    source = batch(8, seed=9)[0].numpy()
    step.on_epoch(model, {"source": ArrayDataset(source), "target": ArrayDataset(images)})
    layer = model.get_layer("block_1_bn")
    inputs = keras.Model(model.inputs[0], layer.input)(images).numpy().astype(np.float64)
    np.testing.assert_allclose(layer.moving_mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, inputs.var(axis=(0, 1, 2)), rtol=1e-3)
    assert step.may_change(layer.moving_mean)
    assert not step.may_change(layer.gamma)


def test_fine_tuning_ignores_unlabeled_images(model):
    images, labels, indices = batch(6, seed=2)
    is_labeled = np.array([True, False, True, True, False, False])
    losses, expected = (
        build_method("fine_tune").losses(model, {"target": target}, tf.constant(0.0))
        for target in (
            (images, tf.where(is_labeled, labels, -1), indices),
            (images[is_labeled], labels[is_labeled], indices[is_labeled]),
        )
    )
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-5)
    unlabeled = (images, tf.fill([6], -1), indices)
    assert float(build_method("fine_tune").losses(model, {"target": unlabeled}, 0.0)["loss"]) == 0.0


def test_fine_tuning_gives_both_domains_equal_weight(model):
    batches = {"source": batch(7, seed=1), "target": batch(2, seed=2)}
    both = build_method("fine_tune", both_domains=True)
    assert both.stream_names == ("source", "target")
    parts = [
        ClassificationStep(3).losses(model, {"train": domain_batch}, tf.constant(0.0))["loss"]
        for domain_batch in batches.values()
    ]
    losses = both.losses(model, batches, tf.constant(0.0))
    assert float(losses["loss"]) == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "phase", "message_parts"),
    [
        ("adabn", make_phase("one", 1, trainable=ALL), ["batch_norm='statistics'"]),
        ("tent", make_phase("one", 1, trainable=ALL), ["batch_norm='trainable'"]),
        ("tent", make_phase("one", 1, trainable=ALL, batch_norm="trainable"), ["block_1_conv"]),
        ("tent", make_phase("one", 1, batch_norm="trainable"), ["trainable"]),
        ("coral", make_phase("one", 1), ["trainable='all'"]),
        ("shot", make_phase("one", 1), ["trainable='all'"]),
    ],
)
def test_unsuitable_phase_is_rejected_with_the_right_setting(unchanged_model, name, phase, message_parts):
    with pytest.raises(RequestError, match="phase one: ") as caught:
        check_phase(name, get_method(name), unchanged_model, phase)
    assert all(part in str(caught.value) for part in [name, *message_parts])


@pytest.mark.parametrize(
    "name", [name for name in registry.names("adaptation") if get_method(name).learns == "head"]
)
def test_methods_that_can_train_the_head_alone_accept_a_frozen_backbone(unchanged_model, name):
    check_phase(name, get_method(name), unchanged_model, make_phase("one", 1))


def test_step_uses_the_classification_loss_of_the_phase(model):
    class Source:
        class_names = ("a", "b", "c")
        labels = (0, 1, 2)

    phase = make_phase("one", 1, trainable=ALL, label_smoothing=0.2)
    step = step_for("coral", model, {"weight": 2.0}, seed=3)(phase, Source())
    batches = make_batches()
    expected = ClassificationStep(3, label_smoothing=0.2).losses(
        model, {"train": batches["source"]}, tf.constant(0.0)
    )
    losses = step.losses(model, batches, tf.constant(0.0))
    assert float(losses["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert set(losses) == {"loss", "accuracy", "coral_loss"}
