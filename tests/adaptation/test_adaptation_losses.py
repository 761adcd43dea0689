"""Losses against independent NumPy implementations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from make_domains import features, numpy_entropy, reference_centroid_labels, softmax

from kerastl.adaptation import (
    centroid_labels,
    certainty_weights,
    class_confusion_loss,
    coral_loss,
    diversity_loss,
    domain_loss,
    entropy,
    joint_mmd_loss,
    margin_disparity_loss,
    mmd_loss,
    multilinear_map,
    pseudo_label_loss,
    reversal_strength,
    reverse_gradient,
)
from kerastl.adaptation.alignment_losses import BANDWIDTHS, RandomMultilinearMap

SOURCE, TARGET = features(5, seed=1), features(4, seed=2, shift=0.7)


def test_coral_equals_the_covariance_gap_computed_by_numpy():
    gap = np.cov(SOURCE, rowvar=False) - np.cov(TARGET, rowvar=False)
    assert float(coral_loss(SOURCE, TARGET)) == pytest.approx((gap**2).sum() / (4 * 6**2), rel=1e-5)


def test_coral_ignores_a_constant_shift():
    assert float(coral_loss(SOURCE + 9, TARGET)) == pytest.approx(float(coral_loss(SOURCE, TARGET)), rel=1e-3)


def test_coral_of_a_single_image_is_zero():
    assert float(coral_loss(SOURCE, TARGET[:1])) == 0.0


def kernel_by_loops(parts, others, scales):
    """Return the kernel of every pair: the product over parts of the mean of Gaussians."""
    values = np.zeros((len(parts[0]), len(others[0])))
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            product = 1.0
            for part, other, scale in zip(parts, others, scales, strict=True):
                distance = sum((a - b) ** 2 for a, b in zip(part[i], other[j], strict=True))
                product *= np.mean([np.exp(-distance / (width * scale)) for width in BANDWIDTHS])
            values[i, j] = product
    return values


def scale_by_loops(part, other):
    rows = np.concatenate([part, other]).astype(np.float64)
    pairs = [((rows[i] - rows[j]) ** 2).sum() for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return np.mean(pairs)


def mmd_by_loops(source, target, *, biased):
    source, target = ([np.float64(part) for part in parts] for parts in (source, target))
    scales = [scale_by_loops(*pair) for pair in zip(source, target, strict=True)]
    blocks = []
    for parts in (source, target):
        values = kernel_by_loops(parts, parts, scales)
        count = len(values)
        pairs = [values[i, j] for i in range(count) for j in range(count) if biased or i != j]
        blocks.append(np.mean(pairs))
    return blocks[0] + blocks[1] - 2 * kernel_by_loops(source, target, scales).mean()


@pytest.mark.parametrize("estimate", ["biased", "unbiased"])
def test_mmd_equals_a_double_loop_over_all_pairs(estimate):
    expected = mmd_by_loops([SOURCE], [TARGET], biased=estimate == "biased")
    assert float(mmd_loss(SOURCE, TARGET, estimate=estimate)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("estimate", ["biased", "unbiased"])
def test_joint_mmd_equals_a_double_loop_over_all_pairs(estimate):
    source, target = ((part, softmax(part[:, :3]).astype(np.float32)) for part in (SOURCE, TARGET))
    expected = mmd_by_loops(source, target, biased=estimate == "biased")
    assert float(joint_mmd_loss(source, target, estimate=estimate)) == pytest.approx(expected, rel=1e-4)


def test_unbiased_mmd_of_one_distribution_is_zero_on_average():
    loss = tf.function(lambda source, target: mmd_loss(source, target, estimate="unbiased"))
    values = [
        float(loss(tf.constant(features(8, seed=seed)), tf.constant(features(6, seed=seed + 500))))
        for seed in range(60)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


@pytest.mark.parametrize("loss", [mmd_loss, coral_loss])
def test_distances_are_zero_for_equal_domains_and_grow_with_their_gap(loss):
    assert float(loss(SOURCE, SOURCE)) == pytest.approx(0, abs=1e-6)
    near, far = float(loss(SOURCE, 1.2 * SOURCE)), float(loss(SOURCE, 3 * SOURCE))
    assert 0 < near < far


def test_domain_loss_is_the_binary_cross_entropy_of_each_domain():
    logits = np.float32([2.0, -1.0, 0.5]), np.float32([0.3, -4.0])
    probabilities = [1 / (1 + np.exp(-np.float64(values))) for values in logits]
    expected = -np.log(probabilities[0]).mean() - np.log(1 - probabilities[1]).mean()
    assert float(domain_loss(*logits)) == pytest.approx(expected, rel=1e-5)
    assert float(domain_loss(*(values[:, None] for values in logits))) == pytest.approx(expected, rel=1e-5)


def test_domain_loss_normalizes_weights():
    source, target = np.float32([2.0, -1.0]), np.float32([0.0])
    weights = np.float32([3.0, 1.0])
    losses = np.log1p(np.exp(-np.float64(source)))
    expected = (3 * losses[0] + losses[1]) / 4 + np.log(2)
    assert float(domain_loss(source, target, weights, np.float32([7]))) == pytest.approx(expected, rel=1e-5)


def test_reversal_strength_follows_the_schedule_of_the_paper():
    for progress in (0.0, 0.05, 0.3, 1.0):
        expected = 2 / (1 + np.exp(-10 * progress)) - 1
        assert float(reversal_strength(progress)) == pytest.approx(expected, abs=1e-6)
    assert float(reversal_strength(0.0)) == 0.0
    assert float(reversal_strength(1.0)) > 0.9999


def test_reverse_gradient_keeps_values_and_negates_gradients():
    values = tf.Variable([1.0, -2.0])
    with tf.GradientTape() as tape:
        reversed_ = reverse_gradient(values, 0.25)
        loss = tf.reduce_sum(reversed_**2)
    np.testing.assert_array_equal(reversed_, values)
    np.testing.assert_allclose(tape.gradient(loss, values), [-0.5, 1.0])


def test_multilinear_map_is_the_outer_product():
    probabilities = softmax(SOURCE[:, :3])
    expected = [np.outer(*rows).ravel() for rows in zip(SOURCE, probabilities, strict=True)]
    np.testing.assert_allclose(multilinear_map(SOURCE, probabilities), expected, rtol=1e-5)


def test_random_map_preserves_inner_products_on_average():
    shares = softmax(3 * SOURCE[:, :3]).astype(np.float32)
    whole = multilinear_map(SOURCE, shares).numpy()
    mapped = RandomMultilinearMap(6, 3, width=100_000, seed=3)(SOURCE, shares).numpy()
    lengths = np.linalg.norm(whole, axis=1)
    gap = (mapped @ mapped.T - whole @ whole.T) / np.outer(lengths, lengths)
    # The deviation of one product of this width is about 3 / sqrt(100,000) of the lengths.
    assert np.abs(gap).max() < 0.05


def test_entropy_and_diversity_equal_an_explicit_softmax():
    logits = 4 * SOURCE
    np.testing.assert_allclose(entropy(logits), numpy_entropy(logits), rtol=1e-5)
    np.testing.assert_allclose(certainty_weights(logits), 1 + np.exp(-numpy_entropy(logits)), rtol=1e-5)
    mean = softmax(logits).mean(axis=0)
    assert float(diversity_loss(logits)) == pytest.approx((mean * np.log(mean)).sum(), rel=1e-5)


def test_entropy_of_a_certain_prediction_is_zero_with_a_finite_gradient():
    logits = tf.Variable([[1000.0, 0.0, -1000.0]])
    with tf.GradientTape() as tape:
        loss = entropy(logits)
    assert float(loss[0]) == 0.0
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_diversity_loss_is_smallest_for_balanced_predictions():
    balanced = np.float32(50 * np.eye(3))
    assert float(diversity_loss(balanced)) == pytest.approx(-np.log(3), rel=1e-5)
    assert float(diversity_loss(balanced[[0, 0, 0]])) == pytest.approx(0, abs=1e-5)


def test_class_confusion_equals_its_definition_by_sums_over_images():
    logits = 3 * SOURCE[:, :3]
    shares = softmax(logits / 2.5)
    weights = 1 + np.exp(-numpy_entropy(logits / 2.5))
    weights *= len(weights) / weights.sum()
    confusion = np.array(
        [[(weights * shares[:, j] * shares[:, k]).sum() for k in range(3)] for j in range(3)]
    )
    rows = confusion / confusion.sum(axis=1, keepdims=True)
    expected = sum(rows[j, k] for j in range(3) for k in range(3) if j != k) / 3
    assert float(class_confusion_loss(logits)) == pytest.approx(expected, rel=1e-5)


def test_class_confusion_of_certain_predictions_is_zero():
    assert float(class_confusion_loss(np.float32(1000 * np.eye(3)))) == pytest.approx(0, abs=1e-6)


def test_margin_disparity_equals_its_definition():
    first, second = SOURCE[:, :3], SOURCE[:, 3:]
    third, fourth = TARGET[:, :3], TARGET[:, 3:]
    source_logs = np.log([s[c] for s, c in zip(softmax(second), first.argmax(1), strict=True)])
    target_logs = np.log([1 - s[c] for s, c in zip(softmax(fourth), third.argmax(1), strict=True)])
    expected = -3 * source_logs.mean() - target_logs.mean()
    loss = margin_disparity_loss(first, second, third, fourth, margin=3.0)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_pseudo_label_loss_uses_confident_images_and_gives_the_teacher_no_gradient():
    logits = np.float32([[9, 0, 0], [0, 1, 0], [0, 0, 8]])
    loss, share = pseudo_label_loss(logits, threshold=0.9)
    confident = [-np.log(softmax(logits)[0, 0]), -np.log(softmax(logits)[2, 2])]
    assert float(loss) == pytest.approx(sum(confident) / 3, rel=1e-4)
    assert float(share) == pytest.approx(2 / 3)
    teacher, student = tf.Variable(logits), tf.Variable(logits * 0.1)
    with tf.GradientTape(persistent=True) as tape:
        loss, _ = pseudo_label_loss(student, teacher=teacher, threshold=0.9)
    assert tape.gradient(loss, teacher) is None
    gradient = tape.gradient(loss, student).numpy()
    assert gradient[0, 0] < 0
    assert not gradient[1].any()


def test_centroid_labels_equal_two_rounds_in_numpy():
    rows = np.float64(features(30, width=4, seed=5))
    logits = np.float64(features(30, width=3, seed=6))
    assert list(centroid_labels(rows, logits)) == reference_centroid_labels(rows, logits)


def test_centroid_labels_correct_a_wrong_prediction_inside_a_cluster():
    truth = np.repeat([0, 1], 10)
    rows = np.eye(2)[truth] + 0.05 * features(20, width=2, seed=7)
    logits = 2.0 * np.eye(2)[truth]
    logits[3] = logits[3][::-1]
    assert list(centroid_labels(rows, logits)) == list(truth)


def test_centroid_labels_handle_a_class_without_images():
    logits = np.float64([[5, 0, -50], [0, 5, -50]] * 4)
    rows = logits[:, :2] + 1.0
    assert list(centroid_labels(rows, logits)) == [0, 1] * 4


def test_losses_work_on_features_of_a_plain_keras_model():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    with tf.GradientTape() as tape:
        loss = coral_loss(model(SOURCE), model(TARGET))
    assert np.any(tape.gradient(loss, model.trainable_variables[0]))
