"""A classifier on a backbone: pooled features, dropout, one Dense layer, logits."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def build_model(
    backbone: keras.Model, *, class_names: Sequence[str], dropout: float = 0.2, seed: int = 0
) -> keras.Model:
    """Put a new head on a backbone.

    Args:
        backbone: a flat model from `build_backbone`: `[batch, h, w, 3]` in [0, 255] to a feature map
            `[batch, h', w', channels]`.
        class_names: at least two; the order of the logits.
        dropout: share of the pooled features that is dropped in training, 0 to below 1.
        seed: of the head's first weights and of its dropout.

    Returns:
        An ordinary flat `keras.Model`: input `image`, the backbone's layers, then `pooled`
        (`[batch, channels]`), `head_dropout` and `head`, which gives logits `[batch, classes]` float32.
        Keras's own `fit` works on it. Nothing is frozen yet: see `unfreeze`.
    """
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    dropped = keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(pooled)
    logits = keras.layers.Dense(
        len(class_names),
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        # Logits stay float32 under any mixed-precision policy: softmax over half floats loses digits.
        dtype="float32",
        name="head",
    )(dropped)
    return keras.Model(backbone.inputs[0], logits, name="classifier")
