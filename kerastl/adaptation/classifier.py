"""The small networks that tell domains apart."""

from __future__ import annotations

import keras


def build_domain_classifier(num_inputs: int, *, hidden: int, seed: int) -> keras.Model:
    """Return a network of one hidden layer: `[batch, num_inputs]` to a logit `[batch, 1]`, positive for the source.

    Args:
        num_inputs: numbers that it reads.
        hidden: units of the hidden layer.
        seed: of its first weights.
    """
    return keras.Sequential(
        [
            keras.Input((num_inputs,)),
            _dense(hidden, "domain_hidden", seed, activation="relu"),
            _dense(1, "domain", seed + 1),
        ],
        name="domain_classifier",
    )


def build_second_head(num_features: int, num_classes: int, *, seed: int) -> keras.Model:
    """Return one layer, `[batch, num_features]` to logits `[batch, num_classes]`."""
    return keras.Sequential(
        [keras.Input((num_features,)), _dense(num_classes, "second_head_logits", seed)],
        name="second_head",
    )


def _dense(units: int, name: str, seed: int, activation: str | None = None) -> keras.layers.Dense:
    # float32 under any policy, as the classifier's own head.
    return keras.layers.Dense(
        units, activation=activation, dtype="float32", name=name,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )  # fmt: skip
