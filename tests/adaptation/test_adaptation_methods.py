"""What is special about single methods."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from domains_drawn import (
    Datasets,
    batch,
    built,
    centroids_by_hand,
    drawn_entropy,
    plain_phase,
    softmax,
    two_batches,
)

from kerastl import registry
from kerastl.adaptation import (
    batch_norm_alone,
    check_phase,
    domain_loss,
    features_and_logits,
    method_named,
    step_for,
)
from kerastl.errors import RequestError
from kerastl.training import ClassificationStep, unfreeze

ALL = "all"


def gradients(loss_of, variables):
    with tf.GradientTape() as tape:
        loss = loss_of()
    return tape.gradient(loss, [one.value for one in variables])


def test_source_only_is_classification_of_the_source(model):
    batches = two_batches()
    told = built("source_only").losses(model, batches, tf.constant(0.5))
    plain = ClassificationStep(3).losses(model, {"train": batches["source"]}, tf.constant(0.5))
    assert told.keys() == plain.keys()
    for name, value in plain.items():
        assert float(told[name]) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_danns_features_get_the_reversed_gradient_and_its_classifier_the_plain_one(model, progress):
    step, batches = built("dann", strength=0.5), two_batches()
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

    def of_step():
        return step.losses(model, batches, tf.constant(progress))["domain_loss"]

    assert float(of_step()) == pytest.approx(float(plain()), rel=1e-5)
    (own, *own_rest), (turned, *rest) = (
        gradients(loss, [kernel, hidden, hidden_bias, out, out_bias]) for loss in (plain, of_step)
    )
    strength = 0.5 * (2 / (1 + np.exp(-10 * progress)) - 1)
    largest = np.abs(own).max()
    assert largest > 0
    np.testing.assert_allclose(turned, -strength * own.numpy(), atol=1e-5 * largest)
    for one, other in zip(own_rest, rest, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_cdan_heeds_sure_images_more(model):
    batches = two_batches()
    plain, conditioned = (
        float(
            built("cdan", entropy_conditioning=sure).losses(model, batches, tf.constant(1.0))["domain_loss"]
        )
        for sure in (False, True)
    )
    assert plain != conditioned
    narrow = built("cdan", widest=100, random_width=50)
    assert narrow.variables[0].shape == (50, 256)
    assert built("cdan").variables[0].shape == (128 * 3, 256)


def test_tent_lowers_the_entropy_of_a_shifted_batch_and_moves_batch_norm_alone(model):
    unfreeze(model, batch_norm_alone(model), batch_norm="trainable")
    step = built("tent")
    head = {one.path for one in model.get_layer("head").weights}
    scales = [one for one in model.trainable_variables if one.path not in head]
    assert {one.path.rsplit("/")[-1] for one in scales} == {"gamma", "beta"}
    batches = {"target": two_batches(target=16)["target"]}
    optimizer = keras.optimizers.SGD(0.3)
    optimizer.build(model.trainable_variables)
    others = [one.numpy() for one in model.get_layer("block_1_conv").weights]
    kept = [one.numpy() for one in model.get_layer("head").weights]
    seen = []
    for _ in range(10):
        with tf.GradientTape() as tape:
            loss = step.losses(model, batches, tf.constant(0.0))["loss"]
        seen.append(float(loss))
        found = tape.gradient(loss, [one.value for one in model.trainable_variables])
        optimizer.apply_gradients(zip(found, model.trainable_variables, strict=True))
    logits = model(batches["target"][0], training=True).numpy()
    assert drawn_entropy(logits).mean() < 0.9 * seen[0]
    assert seen == sorted(seen, reverse=True)
    for before, one in zip(others, model.get_layer("block_1_conv").weights, strict=True):
        np.testing.assert_array_equal(before, one)
    for before, one in zip(kept, model.get_layer("head").weights, strict=True):
        np.testing.assert_array_equal(before, one)


def test_shots_pseudo_labels_are_those_of_numpys_centroids(model):
    images = np.concatenate([batch(9, seed=6)[0], batch(6, seed=7, shifted=True)[0]])
    step = built("shot")
    step.on_phase_begin(model, {"target": Datasets(images)})
    read, logits = features_and_logits(model, tf.constant(images), training=False)
    labels = step.state()["pseudo_labels"]
    assert list(labels) == centroids_by_hand(np.float64(read), np.float64(logits))
    some = np.array([12, 3, 7])
    batches = {"target": (tf.constant(images[some]), tf.fill([3], -1), tf.constant(some))}
    told = step.losses(model, batches, tf.constant(0.0))
    shares = softmax(logits.numpy()[some])
    against = -np.log([share[label] for share, label in zip(shares, labels[some], strict=True)])
    assert float(told["pseudo_label_loss"]) == pytest.approx(0.3 * against.mean(), rel=1e-4)
    assert float(told["loss"]) == pytest.approx(drawn_entropy(logits.numpy()[some]).mean(), rel=1e-4)
    mean = shares.mean(axis=0)
    assert float(told["diversity_loss"]) == pytest.approx((mean * np.log(mean)).sum(), rel=1e-4)


def test_shot_has_no_pseudo_labels_before_it_has_seen_the_target(model):
    step = built("shot")
    told = step.losses(model, two_batches(), tf.constant(0.0))
    assert float(told["pseudo_label_loss"]) == 0.0
    assert step.state()["pseudo_labels"].shape == (0,)


def test_adabns_statistics_are_the_targets_computed_by_numpy(model):
    unfreeze(model, ALL, batch_norm="statistics")
    images = np.concatenate([batch(5, seed=6)[0], batch(6, seed=7, shifted=True)[0]])
    step = built("adabn")
    other = batch(8, seed=9)[0].numpy()
    step.on_epoch(model, {"source": Datasets(other), "target": Datasets(images)})
    layer = model.get_layer("block_1_bn")
    seen = keras.Model(model.inputs[0], layer.input)(images).numpy().astype(np.float64)
    np.testing.assert_allclose(layer.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3)
    assert step.may_change(layer.moving_mean)
    assert not step.may_change(layer.gamma)


def test_fine_tuning_leaves_unlabelled_images_out(model):
    images, labels, indices = batch(6, seed=2)
    known = np.array([True, False, True, True, False, False])
    told, alone = (
        built("fine_tune").losses(model, {"target": one}, tf.constant(0.0))
        for one in (
            (images, tf.where(known, labels, -1), indices),
            (images[known], labels[known], indices[known]),
        )
    )
    for name, value in alone.items():
        assert float(told[name]) == pytest.approx(float(value), rel=1e-5)
    nobody = (images, tf.fill([6], -1), indices)
    assert float(built("fine_tune").losses(model, {"target": nobody}, 0.0)["loss"]) == 0.0


def test_fine_tuning_on_both_domains_counts_them_the_same_whatever_their_sizes(model):
    batches = {"source": batch(7, seed=1), "target": batch(2, seed=2)}
    both = built("fine_tune", both_domains=True)
    assert both.stream_names == ("source", "target")
    parts = [
        ClassificationStep(3).losses(model, {"train": one}, tf.constant(0.0))["loss"]
        for one in batches.values()
    ]
    told = both.losses(model, batches, tf.constant(0.0))
    assert float(told["loss"]) == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "phase", "words"),
    [
        ("adabn", plain_phase("one", 1, trainable=ALL), ["batch_norm: statistics"]),
        ("tent", plain_phase("one", 1, trainable=ALL), ["batch_norm: trainable"]),
        ("tent", plain_phase("one", 1, trainable=ALL, batch_norm="trainable"), ["block_1_conv"]),
        ("tent", plain_phase("one", 1, batch_norm="trainable"), ["trainable"]),
        ("coral", plain_phase("one", 1), ["trainable: all"]),
        ("shot", plain_phase("one", 1), ["trainable: all"]),
    ],
)
def test_an_unsuitable_phase_is_refused_with_the_setting_to_write(unchanged_model, name, phase, words):
    with pytest.raises(RequestError, match="phase one: ") as caught:
        check_phase(name, method_named(name), unchanged_model, phase)
    assert all(word in str(caught.value) for word in [name, *words])


@pytest.mark.parametrize(
    "name", [one for one in registry.names("adaptation") if method_named(one).learns == "head"]
)
def test_methods_that_train_the_head_alone_accept_a_frozen_backbone(unchanged_model, name):
    check_phase(name, method_named(name), unchanged_model, plain_phase("one", 1))


def test_a_step_for_a_phase_learns_labels_as_the_phase_says(model):
    class Source:
        class_names = ("a", "b", "c")
        labels = (0, 1, 2)

    phase = plain_phase("one", 1, trainable=ALL, label_smoothing=0.2)
    step = step_for("coral", model, {"weight": 2.0}, seed=3)(phase, Source())
    batches = two_batches()
    expected = ClassificationStep(3, label_smoothing=0.2).losses(
        model, {"train": batches["source"]}, tf.constant(0.0)
    )
    told = step.losses(model, batches, tf.constant(0.0))
    assert float(told["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert set(told) == {"loss", "accuracy", "coral_loss"}
