"""Every family of keras.applications trains two steps at a small size, and its freezing is proven."""

import keras
import numpy as np
import pytest
from sources_drawn import ArraySource, drawn, plain_phase

from kerastl.models import build_backbone, build_model
from kerastl.recipe import TopFraction
from kerastl.training import batch_norm_layers, fit

LIGHT = {"mobilenet": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32, "vgg16": 32}
HEAVY = {
    "resnet50": 32,
    "resnet50_v2": 32,
    "inception_v3": 75,
    "inception_resnet_v2": 75,
    "xception": 71,
    "densenet121": 32,
    "nasnet_mobile": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_b0": 32,
    "convnext_tiny": 32,
}
CASES = [
    *(pytest.param(name, size, id=name) for name, size in LIGHT.items()),
    *(pytest.param(name, size, id=name, marks=pytest.mark.slow) for name, size in HEAVY.items()),
]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_family_trains_two_steps_and_only_its_top_moves(name, size):
    backbone = build_backbone(name, weights="none", image_size_px=size, seed=1)
    model = build_model(backbone, class_names=("dark", "light"), seed=1)
    source = ArraySource(*drawn(8, size=size), batch_size=4)
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    phase = plain_phase("top", epochs=1, learning_rate=1e-2, trainable=TopFraction(top_fraction=0.3))
    (proof,) = fit(model, source, phases=[phase]).freeze_reports
    moved = {
        w.path for w in model.weights if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    rows = proof["layers"]
    trained = {row["layer"] for row in rows if row["trainable"]}
    assert trained > {"head"}
    assert len(trained) < len(rows)
    assert {path.split("/")[0] for path in moved} <= trained
    statistics = {v.path for layer in batch_norm_layers(model) for v in layer.weights}
    assert not moved & statistics, "BatchNorm stays frozen"


def test_every_family_is_tried():
    from kerastl import registry

    files = {registry.module("backbone", name).__name__ for name in registry.names("backbone")}
    tried = {registry.module("backbone", name).__name__ for name in [*LIGHT, *HEAVY, "small_cnn"]}
    assert tried == files
