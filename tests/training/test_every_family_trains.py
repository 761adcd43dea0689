"""The smallest member of every backbone family, built once: it is recognized, it can be folded, and its top can be trained."""

import keras
import numpy as np
import pytest
from array_dataset import ArrayDataset, plain_phase
from backbone_families import by_family, calibrated, folding_error

from kerastl.models import build_model, find_foldable, fold_batch_norm, identify_backbone
from kerastl.recipe import TopFraction
from kerastl.training import batch_norm_layers, fit


@pytest.mark.parametrize("member", by_family())
def test_a_family_is_recognized_folds_and_trains_its_top_alone(member):
    backbone, images, norms = calibrated(member.name)
    assert identify_backbone(backbone) == member.name
    _check_folding(backbone, images, norms, member.folded or (len(norms), len(norms)))
    _check_training(backbone, images[:8])


def _check_folding(backbone, images, norms, expected):
    folded = fold_batch_norm(backbone)
    assert (len(find_foldable(backbone)), len(norms)) == expected
    left = [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(left) == expected[1] - expected[0]
    # With random weights, features of all images are similar, and each BatchNorm amplifies rounding errors: by how much depends on
    # the CPU. A BatchNorm without its epsilon would be off by more than a hundredth.
    plain = backbone(images, training=False)
    for training in (False, True):
        assert folding_error(plain, folded, images, training=training) < 5e-4
    assert not folded.trainable_variables


def _check_training(backbone, images):
    model = build_model(backbone, class_names=("dark", "light"), seed=1)
    labels = (np.arange(len(images)) % 2).astype(np.int32)
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    phase = plain_phase("top", epochs=1, learning_rate=1e-2, trainable=TopFraction(top_fraction=0.3))
    (report,) = fit(model, ArrayDataset(images, labels, batch_size=4), phases=[phase]).freeze_reports
    changed = {
        w.path for w in model.weights if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    rows = report["layers"]
    trained = {row["layer"] for row in rows if row["trainable"]}
    assert trained > {"head"}
    assert len(trained) < len(rows)
    assert {path.split("/")[0] for path in changed} <= trained
    statistics = {v.path for layer in batch_norm_layers(model) for v in layer.weights}
    assert not changed & statistics, "BatchNorm stays frozen"
