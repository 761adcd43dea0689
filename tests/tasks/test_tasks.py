"""The contract of tasks: every task of `kerastl.tasks.TASKS` has these properties."""

import subprocess
import sys
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.adaptation import method
from kerastl.audit import search
from kerastl.evaluation.metrics import OVERALL
from kerastl.export.endpoints import outputs_from_logits
from kerastl.recipe import Recipe
from kerastl.selection import decision
from kerastl.tasks import SINGLE_LABEL, TASKS

CLASSES = ("cat", "prob_x", "=cmd", 'a,b\n"c"')
LOGITS = np.random.default_rng(0).normal(0, 4, (60, 4)).astype(np.float32)


@pytest.fixture(params=TASKS.values(), ids=TASKS)
def task(request):
    return request.param


def test_recipes_name_every_task():
    assert set(get_args(Recipe.model_fields["task"].annotation)) == set(TASKS)
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("package", [method, decision, search])
def test_packages_declare_known_tasks(package):
    assert package.TASKS
    assert set(package.TASKS) <= set(TASKS.values())


def test_tasks_are_imported_without_heavy_packages():
    heavy = ("numpy", "scipy", "tensorflow", "keras")
    script = f"import sys, kerastl.tasks; assert not set({heavy}) & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_and_unknown_labels_are_unlabeled(task):
    encoded = task.encode([None, "dog", *CLASSES], CLASSES)
    assert (encoded[:2] == task.unlabeled).all()
    assert task.unlabeled not in encoded[2:]
    assert len(encoded) == 6


def test_single_labels_are_encoded_as_class_indices():
    labels = ["=cmd", "cat", "cat", "prob_x"]
    encoded = SINGLE_LABEL.encode(labels, CLASSES)
    assert encoded.dtype == np.int32
    assert encoded.tolist() == [2, 0, 0, 1]


def test_loss_of_each_image_is_finite_and_smaller_for_larger_logits_of_its_label(task):
    labels = tf.constant(task.encode(CLASSES, CLASSES))
    right = 10 * np.eye(4, dtype=np.float32)
    losses = [task.loss(labels, tf.constant(logits)).numpy() for logits in (right, 0 * right, -right)]
    assert np.isfinite(losses).all()
    assert np.shape(losses) == (3, 4)
    assert (np.diff(losses, axis=0) > 0).all()


def test_single_label_loss_equals_that_of_keras():
    labels = np.random.default_rng(1).integers(0, 4, 60)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")(labels, LOGITS)
    np.testing.assert_allclose(
        SINGLE_LABEL.loss(tf.constant(labels), tf.constant(LOGITS)), expected, rtol=1e-5, atol=1e-6
    )


def test_probabilities_of_tensors_and_arrays_agree(task):
    of_arrays = task.probabilities(LOGITS)
    assert of_arrays.dtype == np.float64
    np.testing.assert_allclose(task.activation(tf.constant(LOGITS)), of_arrays, atol=1e-6)
    assert of_arrays.min() >= 0
    assert of_arrays.max() <= 1


def test_single_label_probabilities_sum_to_1_and_distinguish_confident_images():
    np.testing.assert_allclose(SINGLE_LABEL.probabilities(LOGITS).sum(axis=1), 1)
    confident = SINGLE_LABEL.probabilities(np.array([[0, 20], [0, 25]], np.float32))[:, 1]
    assert confident[0] < confident[1] < 1


def test_class_names_are_read_back_from_columns(task):
    columns = task.columns(CLASSES)
    assert task.class_names_of(["path", "label", *columns, "subgroup_prob_y"]) == CLASSES
    assert len(set(columns)) == len(CLASSES)


def test_metrics_have_titles_and_headlines_are_metrics(task):
    assert set(task.metric_titles) == {*OVERALL, "group_auc"}
    assert set(task.headlines) <= set(task.metric_titles)


def test_a_served_model_has_the_outputs_of_its_task():
    assert set(SINGLE_LABEL.outputs) <= set(outputs_from_logits(tf.constant(LOGITS), CLASSES))
