"""Training with backbones of KerasHub: freezing by block, caches, pooling, precision, resuming."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from stopping import Stop

import kerastl
from kerastl import Phase
from kerastl.models import get_blocks
from kerastl.training import fit

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hub_backbones import build

LAST_BLOCK = {
    "vit": "transformer_block_2",
    "dinov2_with_registers": "layers_1",
    "dinov3": "layers_1",
    "mobilenet": "P4",
}


def classifier(name, **options):
    return kerastl.build_classifier(
        build(name), class_names=["dark", "light"], image_size_px=32, scale=1 / 127.5, offset=-1.0, **options
    )


def phases(name, **fine):
    return [
        Phase("head", epochs=2, learning_rate=1e-2, keep="last"),
        Phase(
            "fine",
            epochs=2,
            learning_rate=1e-3,
            trainable={"from_block": LAST_BLOCK[name]},
            keep="last",
            **fine,
        ),
    ]


@pytest.fixture
def arrays(train, monkeypatch, tmp_path):
    """The training images as a dataset whose activations can be cached."""
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path))
    return kerastl.data.ArrayDataset(train.images, train.labels, class_names=train.class_names, batch_size=8)


def values_of(model):
    return {weight.path: weight.numpy() for weight in model.weights if "seed" not in weight.path}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST_BLOCK)
def test_only_the_chosen_block_changes_and_a_resumed_training_has_the_same_bytes(name, arrays, tmp_path):
    model = classifier(name)
    before = values_of(model)
    history = fit(model, arrays, phases=phases(name, layer_decay=0.5))
    changed = {path for path, value in values_of(model).items() if (value != before[path]).any()}
    last = get_blocks(model)[-1]
    allowed = {weight.path for layer in (*last.layers, "head") for weight in model.get_layer(layer).weights}
    assert changed <= allowed
    assert len(changed) > 4
    assert not any(report["faults"] for report in history.freeze_reports)
    with pytest.raises(KeyboardInterrupt):
        fit(
            classifier(name),
            arrays,
            phases=phases(name, layer_decay=0.5),
            checkpoints=tmp_path / "c",
            callbacks=[Stop(3)],
        )
    resumed = classifier(name)
    fit(resumed, arrays, phases=phases(name, layer_decay=0.5), checkpoints=tmp_path / "c", resume=True)
    for first, second in zip(model.weights, resumed.weights, strict=True):
        assert first.numpy().tobytes() == second.numpy().tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "dinov3", "mobilenet"])
def test_cached_activations_train_the_same_model(name, arrays):
    cached, fresh = classifier(name), classifier(name)
    fit(cached, arrays, phases=phases(name, cache="boundary"))
    head, fine = phases(name, cache="none")
    fit(fresh, arrays, phases=[head.model_copy(update={"cache": "none"}), fine])
    for first, second in zip(cached.weights, fresh.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_attention_pooling_is_trained_with_the_head(arrays):
    model = classifier("vit", pooling="map")
    before = values_of(model)
    fit(model, arrays, phases=phases("vit")[:1])
    changed = {
        path.split("/")[0] for path, value in values_of(model).items() if (value != before[path]).any()
    }
    assert changed == {"attention_pooling", "head"}


@pytest.mark.slow
def test_dropout_inside_frozen_layers_is_disabled(arrays):
    import keras_hub

    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.ViTBackbone(
        (32, 32, 3), 8, 2, 2, 16, 32, dropout_rate=0.5, attention_dropout=0.5
    )
    losses = []
    for cache in ("features", "none"):
        model = kerastl.build_classifier(backbone, class_names=["dark", "light"], dropout=0.0)
        phase = Phase("head", epochs=1, learning_rate=1e-9, cache=cache)
        losses.append(fit(model, arrays, phases=[phase]).rows[-1]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_reduced_precision_is_computed_in_transformer_layers(train):
    model = classifier("dinov2_with_registers")
    exact, reduced = (
        fit(
            classifier("dinov2_with_registers"), train,
            phases=[Phase("all", epochs=1, trainable="all", precision=precision, learning_rate=1e-9)],
        ).rows[-1]["loss"]
        for precision in ("float32", "mixed_bfloat16")
    )  # fmt: skip
    assert exact != reduced
    assert exact == pytest.approx(reduced, rel=0.05)
    assert model.compute_dtype == "float32"
