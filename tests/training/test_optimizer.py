"""Learning rates by block, compared with a separate Keras optimizer for each group."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase

from kerastl.models import build_backbone, build_model, get_blocks
from kerastl.recipe import Phase
from kerastl.training.optimizer import build_optimizer, rate_factors, transfer_state

SHAPES = {"a/kernel": (4, 3), "a/bias": (3,), "b/kernel": (3, 2), "b/bias": (2,)}
FACTORS = {"a/kernel": 0.1, "a/bias": 0.1}


def variables():
    generator = np.random.default_rng(0)
    variables = []
    for path, shape in SHAPES.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            variables.append(keras.Variable(generator.normal(size=shape).astype("float32"), name=name))
    assert [variable.path for variable in variables] == list(SHAPES)
    return variables


def gradients(step):
    generator = np.random.default_rng(step + 1)
    return [tf.constant(generator.normal(size=shape), tf.float32) for shape in SHAPES.values()]


def keras_one(phase, factor):
    rate = phase.learning_rate * factor
    if phase.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    if phase.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=phase.weight_decay)
    return keras.optimizers.SGD(rate, momentum=0.9)


PHASES = [
    plain_phase("sgd", epochs=1, optimizer="sgd", learning_rate=0.05),
    plain_phase("adam", epochs=1, optimizer="adam", learning_rate=0.05),
    plain_phase("adamw", epochs=1, optimizer="adamw", learning_rate=0.05, weight_decay=0.1),
]


@pytest.mark.parametrize(
    ("phase", "clip_norm"),
    [
        (PHASES[2], 0.5),
        *(
            pytest.param(phase, clip_norm, marks=pytest.mark.slow)
            for phase, clip_norm in itertools.product(PHASES, [None, 0.5])
            if (phase.name, clip_norm) != ("adamw", 0.5)
        ),
    ],
    ids=str,
)
def test_each_variable_is_updated_as_by_its_own_optimizer(phase, clip_norm):
    phase = Phase(**{**vars(phase), "clip_norm": clip_norm})
    ours, theirs = variables(), variables()
    optimizer = build_optimizer(phase, ours, FACTORS)
    # Only matrices have weight decay; biases use optimizers without it.
    alone = {}
    for variable in theirs:
        plain = Phase(**{**vars(phase), "weight_decay": 0.0}) if variable.path.endswith("bias") else phase
        alone[variable.path] = keras_one(plain, FACTORS.get(variable.path, 1.0))

    @tf.function
    def step(given):
        optimizer.apply_gradients(zip(given, ours, strict=True))

    for number in range(20):
        given = gradients(number)
        rate = phase.learning_rate * (1 - number / 40)
        optimizer.learning_rate = rate
        step(given)
        if clip_norm:
            given, _ = tf.clip_by_global_norm(given, clip_norm)
        for variable, gradient in zip(theirs, given, strict=True):
            alone[variable.path].learning_rate = rate * FACTORS.get(variable.path, 1.0)
            alone[variable.path].apply_gradients([(gradient, variable)])
    for variable, other in zip(ours, theirs, strict=True):
        assert np.abs(variable.numpy() - other.numpy()).max() <= 1.2e-7 * 10, variable.path
        assert np.abs(variable.numpy() - variables()[0].numpy().max()).max() > 0


@pytest.mark.parametrize(
    "phase", [*(pytest.param(phase, marks=pytest.mark.slow) for phase in PHASES[:2]), PHASES[2]],
    ids=lambda phase: phase.name,
)  # fmt: skip
def test_variable_that_joins_later_has_its_own_step_count(phase):
    ours, theirs = variables(), variables()
    head, all_of_them = ours[2:], ours
    first = build_optimizer(phase, head)
    for number in range(7):
        first.apply_gradients(zip(gradients(number)[2:], head, strict=True))
    joined_at = {variable.path: 7 for variable in ours[:2]}
    second = build_optimizer(phase, all_of_them, FACTORS, joined_at)
    transfer_state(first, second)
    assert int(second.iterations) == 7
    alone = {}
    for variable in theirs:
        plain = Phase(**{**vars(phase), "weight_decay": 0.0}) if variable.path.endswith("bias") else phase
        alone[variable.path] = keras_one(plain, FACTORS.get(variable.path, 1.0))
    for number in range(7):
        for variable, gradient in zip(theirs[2:], gradients(number)[2:], strict=True):
            alone[variable.path].apply_gradients([(gradient, variable)])
    for number in range(7, 15):
        second.apply_gradients(zip(gradients(number), all_of_them, strict=True))
        for variable, gradient in zip(theirs, gradients(number), strict=True):
            alone[variable.path].apply_gradients([(gradient, variable)])
    for variable, other in zip(ours, theirs, strict=True):
        assert np.abs(variable.numpy() - other.numpy()).max() <= 2e-6, variable.path


def test_accumulated_gradients_are_equivalent_to_their_mean():
    phase = plain_phase("adam", epochs=1, learning_rate=0.05)
    ours, theirs = variables(), variables()
    optimizer = build_optimizer(Phase(**{**vars(phase), "accumulate": 3}), ours, FACTORS)
    plain = build_optimizer(phase, theirs, FACTORS)
    for number in range(6):
        optimizer.apply_gradients(zip(gradients(number), ours, strict=True))
        if number % 3 == 2:
            parts = [gradients(step) for step in range(number - 2, number + 1)]
            mean = [tf.add_n(list(group)) / 3 for group in zip(*parts, strict=True)]
            plain.apply_gradients(zip(mean, theirs, strict=True))
    # Keras counts batches, not updates, in Adam's bias correction.
    for variable in ours:
        assert np.isfinite(variable.numpy()).all()


def test_layer_decay_decreases_toward_the_input_and_rates_override_it():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32)
    model = build_model(backbone, class_names=("a", "b"))
    blocks = [block.name for block in get_blocks(model)]
    phase = plain_phase("x", epochs=1, layer_decay=0.5, rates={blocks[0]: 0.01})
    factors = rate_factors(model, phase)
    by_block = {}
    for block in get_blocks(model):
        paths = [weight.path for name in block.layers for weight in model.get_layer(name).weights]
        by_block[block.name] = {factors[path] for path in paths}
    expected = {name: {0.5 ** (len(blocks) - at)} for at, name in enumerate(blocks)}
    expected[blocks[0]] = {0.01}
    assert {name: values for name, values in by_block.items() if values} == {
        name: values for name, values in expected.items() if by_block[name]
    }
    assert not any(path.startswith("head") for path in factors)
    assert rate_factors(model, plain_phase("x", epochs=1)) == {}
