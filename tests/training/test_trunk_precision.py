"""A frozen trunk in bfloat16: the trainable part and the saved model stay float32, and the difference is reported."""

import keras
import numpy as np
import pytest
from array_dataset import plain_phase, write_images
from memory_dataset import MemoryDataset
from sklearn.datasets import load_sample_images

from kerastl.errors import Problems
from kerastl.models import build_backbone, build_model, fold_batch_norm
from kerastl.recipe import FromBlock
from kerastl.report.tables import rounded_lines
from kerastl.runs import Freeze
from kerastl.training import batch_norm_layers, fit

CLASSES = ("dark", "light")
LAST = FromBlock(from_block="block_3")


@pytest.fixture
def steady(model, train):
    """The model with BatchNorm statistics of the images."""
    images = np.concatenate([images for images, _, _ in train.indexed_batches(0)])
    for norm in batch_norm_layers(model):
        norm.momentum = 0.0
    model(images, training=True)
    return model


def in_mixed_precision(layer):
    return type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})


@pytest.mark.slow
def test_bfloat16_trunk_is_as_accurate_as_keras_mixed_precision_and_returns_float32(keras_home):
    backbone = build_backbone("mobilenet_v2", weights="imagenet", image_size_px=224, alpha=0.35)
    mixed = keras.models.clone_model(backbone, clone_function=in_mixed_precision)
    mixed.set_weights(backbone.get_weights())
    images = np.stack(load_sample_images().images)[:, :224, :224].astype("float32")
    rounded = fold_batch_norm(backbone, "bfloat16")
    exact = keras.ops.convert_to_numpy(backbone(images, training=False))
    answer = keras.ops.convert_to_numpy(rounded(images))
    assert answer.dtype == np.float32
    by_keras = keras.ops.convert_to_numpy(keras.ops.cast(mixed(images, training=False), "float32"))
    assert 0 < np.linalg.norm(answer - exact) < 1.5 * np.linalg.norm(by_keras - exact)
    assert rounded.get_layer("out_relu").compute_dtype == "bfloat16"
    dtypes = {weight.dtype for model in (backbone, rounded) for weight in model.weights}
    assert dtypes == {"float32"}


@pytest.mark.parametrize(
    "trainable", ["none", pytest.param(LAST, marks=pytest.mark.slow)], ids=["head", "last"]
)
def test_comparison_uses_the_kept_weights(steady, train, val, trainable):
    phase = plain_phase("late", 2, trainable=trainable, trunk_precision="bfloat16")
    history = fit(steady, train, val=val, phases=[phase])
    comparison = history.freeze_reports[0]["trunk"]
    assert (comparison["precision"], comparison["boundary"] == "pooled") == (
        "bfloat16",
        trainable is not LAST,
    )
    best = history.best["source"][0]
    (row,) = [row for row in history.rows if row["epoch"] == best]
    assert comparison["rounded"]["val_loss"] == pytest.approx(row["val_loss"], rel=1e-4)
    assert comparison["float32"]["val_loss"] != comparison["rounded"]["val_loss"]
    assert comparison["float32"]["val_loss"] == pytest.approx(row["val_loss"], rel=0.1)
    assert {weight.dtype for weight in steady.weights} == {"float32"}
    (line,) = rounded_lines(Freeze.model_validate({"phases": history.freeze_reports}).phases)
    assert (
        f"loss {comparison['rounded']['val_loss']:.4f}, in float32 {comparison['float32']['val_loss']:.4f}"
        in line
    )


@pytest.mark.slow
def test_comparison_without_validation_images_has_no_metrics(steady, train):
    history = fit(steady, train, phases=[plain_phase("head", 1, trunk_precision="bfloat16")])
    assert history.freeze_reports[0]["trunk"]["rounded"] is None
    assert (
        "without validation images"
        in rounded_lines(Freeze.model_validate({"phases": history.freeze_reports}).phases)[0]
    )


@pytest.mark.slow
def test_caches_of_two_precisions_are_different_entries(tmp_path):
    records = write_images(tmp_path, 12, CLASSES)

    def kept(precision):
        keras.utils.clear_session()
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
        model = build_model(backbone, class_names=CLASSES, seed=1)
        source = MemoryDataset(records, class_names=CLASSES, image_size_px=32, batch_size=4, shuffle=True)
        phase = plain_phase("head", 1, cache="features", trunk_precision=precision)
        fit(model, source, phases=[phase], cache_dir=tmp_path / "kept")
        return {
            file.parent.name: np.fromfile(file, np.float32) for file in (tmp_path / "kept").glob("*/*.bin")
        }

    ((name, exact),) = kept("float32").items()
    both = kept("bfloat16")
    assert len(both) == 2
    (rounded,) = (model for other, model in both.items() if other != name)
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def test_trunk_precision_without_frozen_layers_is_rejected_for_all_phases(model, train):
    phases = [
        plain_phase("all", 1, trainable="all", trunk_precision="bfloat16"),
        plain_phase("free", 1, batch_norm="statistics", trunk_precision="bfloat16"),
        plain_phase("lost", 1, trainable=FromBlock(from_block="block_9"), trunk_precision="bfloat16"),
    ]
    with pytest.raises(Problems) as caught:
        fit(model, train, phases=phases)
    comparison = str(caught.value)
    assert (
        "but all layers are trainable. Use trainable='none', or trainable={'from_block': 'NAME'} with one of block_2, block_3"
        in comparison
    )
    assert "Use batch_norm='frozen', or trunk_precision='float32'" in comparison
    assert comparison.count("block_9") == 1
