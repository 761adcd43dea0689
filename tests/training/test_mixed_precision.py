"""Mixed precision: the types of the operations, what stays in float32, and the accuracy of the gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase, write_images
from memory_dataset import MemoryDataset

from kerastl.errors import RequestError
from kerastl.evaluation import predict
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock
from kerastl.training import ClassificationStep, fit, unfreeze
from kerastl.training.train_step import computing_in_precision
from kerastl.training.trunk import with_folded_trunk

CLASSES = ("dark", "light")
ALL = {"trainable": "all", "batch_norm": "trainable"}
LAST = {"trainable": FromBlock(from_block="block_3")}


@pytest.fixture
def train(tmp_path):
    records = write_images(tmp_path, 24, CLASSES)
    return MemoryDataset(records, class_names=CLASSES, image_size_px=32, batch_size=8)


def network():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=CLASSES, seed=1)


def types_of_step(model, precision):
    """Return the result types of the operations of a training step by type of operation."""
    step = ClassificationStep(2)

    @tf.function(autograph=False)
    def losses(images, labels):
        with computing_in_precision(precision, model), tf.GradientTape() as tape:
            loss = step.losses(model, {"train": (images, labels, None)}, tf.constant(0.0))["loss"]
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    traced = losses.get_concrete_function(
        tf.TensorSpec([None, 32, 32, 3], tf.float32), tf.TensorSpec([None], tf.int32)
    )
    kinds: dict[str, set] = {}
    for operation in traced.graph.get_operations():
        if operation.outputs:
            kinds.setdefault(operation.type, set()).add(operation.outputs[0].dtype.name)
    return kinds, traced


def test_convolutions_compute_in_bfloat16_and_logits_and_gradients_in_float32():
    model = network()
    kinds, traced = types_of_step(model, "mixed_bfloat16")
    assert kinds["Conv2D"] == {"bfloat16"}
    loss, gradients = traced.structured_outputs
    assert loss.dtype == tf.float32
    assert len(gradients) == len(model.trainable_variables)
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    # The operations of the cross-entropy depend on op determinism.
    ends = [operations for kind, operations in kinds.items() if "Softmax" in kind]
    assert ends
    assert not any("bfloat16" in operations for operations in ends)
    plain, _ = types_of_step(model, "float32")
    assert plain["Conv2D"] == {"float32"}


def test_frozen_trunk_keeps_its_own_precision():
    model, phase = network(), plain_phase("late", 1, **LAST)
    kinds, _ = types_of_step(with_folded_trunk(model, phase), "mixed_bfloat16")
    assert kinds["Conv2D"] == {"bfloat16", "float32"}


def test_precision_is_restored_even_after_an_error():
    model = network()
    before = [layer.dtype_policy.name for layer in model._flatten_layers()]
    with computing_in_precision("mixed_bfloat16", model):
        assert any(layer.compute_dtype == "bfloat16" for layer in model._flatten_layers())
    assert [layer.dtype_policy.name for layer in model._flatten_layers()] == before
    with pytest.raises(ZeroDivisionError), computing_in_precision("mixed_bfloat16", model):
        1 / 0  # noqa: B018
    assert [layer.dtype_policy.name for layer in model._flatten_layers()] == before


def gradients(model, batch, precision):
    unfreeze(model, ALL["trainable"], batch_norm=ALL["batch_norm"])
    with computing_in_precision(precision, model), tf.GradientTape() as tape:
        loss = ClassificationStep(2).losses(model, {"train": batch}, tf.constant(0.0))["loss"]
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return np.concatenate([np.asarray(gradient).ravel() for gradient in gradients])


def test_gradients_are_as_accurate_as_with_the_keras_policy(train):
    batch = next(iter(train.indexed_batches(0)))
    model = network()
    exact, rounded = (gradients(model, batch, precision) for precision in ("float32", "mixed_bfloat16"))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        kerases = network()
    finally:
        keras.config.set_dtype_policy("float32")
    kerases.set_weights(model.get_weights())
    error, its = (
        np.linalg.norm(gradient - exact) for gradient in (rounded, gradients(kerases, batch, "float32"))
    )
    assert 0 < error < 1.5 * its


@pytest.mark.parametrize(
    "options",
    [
        *(pytest.param(options, marks=pytest.mark.slow) for options in (ALL, LAST)),
        {**LAST, "cache": "boundary"},
    ],
    ids=["all", "last", "boundary"],
)
def test_validation_and_saved_model_are_float32(train, options, tmp_path):
    model = network()
    before = model.get_weights()
    phase = plain_phase("p", 2, optimizer="sgd", precision="mixed_bfloat16", keep="last", **options)
    history = fit(model, train, val=train, phases=[phase], cache_dir=tmp_path)
    assert any(
        (initial != trained).any() for initial, trained in zip(before, model.get_weights(), strict=True)
    )
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    predictions = predict(model, train)
    right = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    assert history.rows[-1]["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_mixed_precision_of_the_head_alone_is_rejected(train):
    phase = plain_phase("head", 1, precision="mixed_bfloat16")
    with pytest.raises(RequestError, match=r"phase head.*precision"):
        fit(network(), train, phases=[phase])
