"""The trial that tells how long a phase takes: it leaves the model and the caches alone."""

import keras
import pytest
from sources_drawn import plain_phase, stored

from kerastl.backbones import build_backbone
from kerastl.data import ImageDataset
from kerastl.training import FromBlock, build_model, cost_of

CLASSES = ("dark", "light")


@pytest.mark.parametrize(
    "phase",
    [
        plain_phase("all", epochs=3, trainable="all", batch_norm="trainable"),
        plain_phase("last", epochs=3, trainable=FromBlock(from_block="block_3"), cache="boundary"),
        plain_phase("head", epochs=3, cache="features"),
    ],
    ids=lambda phase: phase.name,
)
def test_a_cost_is_told_and_nothing_changed(tmp_path, monkeypatch, phase):
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path / "cache"))
    records = stored(tmp_path, 20, CLASSES)
    train, val = (
        ImageDataset(part, class_names=CLASSES, image_size_px=32, batch_size=4)
        for part in (records[:14], records[14:])
    )
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    model = build_model(backbone, class_names=CLASSES, seed=1)
    before = [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables]
    trainable = [one.path for one in model.trainable_variables]
    cost = cost_of(model, train, val, phase=phase)
    assert cost.once > 0
    assert cost.epoch > 0
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in model.variables] == before
    assert [one.path for one in model.trainable_variables] == trainable
    assert not (tmp_path / "cache").exists()
