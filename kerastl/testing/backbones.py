"""Contract checks for backbones."""

from __future__ import annotations

import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kerastl.image_size import Size, as_size
from kerastl.models import build_backbone, get_backbone, get_blocks, split_at_block

PIXEL_TOLERANCE = 1e-5
"""Relative to the largest value; float32 sums differ in their order."""
MAX_SPLITS = 4


def check_backbone(name: str, *, image_size_px: int | Size) -> None:
    """Check a backbone against its own builder, and its blocks against its graph.

    Checks parameters and names; the outputs for RGB pixels against the builder's network with its own
    `preprocess_input`, with weights loaded from an `.h5` file; that the blocks hold all layers in order;
    splitting, saving, loading and freezing.

    Args:
        name: Name of the backbone.
        image_size_px: Side length of the random images, or (height, width); small is fast.

    Raises:
        AssertionError: If a check fails.
    """
    size = as_size(image_size_px)
    images = np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    model, output = _check_against_builder(name, images)
    _check_shape(name, model)
    _check_blocks(model)
    _check_splitting(model, images, output)
    _check_round_trip(model, images, output)
    _check_freezing(model)


def _check_against_builder(name: str, images: np.ndarray) -> tuple[keras.Model, np.ndarray]:
    """Return the backbone with the weights of its builder's network, and its output, which is compared with theirs."""
    size = as_size(images.shape[1:3])
    reference, preprocess = _reference(name, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.h5"
        reference.save(path)
        with h5py.File(path, "r+") as file:
            del file.attrs["model_config"]  # published files hold weights only
        model = build_backbone(name, weights=path, image_size_px=size)
    _set_deviations(reference)
    expected = _predict(reference, preprocess(images.copy()))
    output = _predict(model, images)
    gap = np.abs(output - expected).max()
    assert gap <= PIXEL_TOLERANCE * np.abs(expected).max() + 1e-12, f"{name} differs by {gap}"
    return model, output


def _reference(name: str, size: Size) -> tuple[keras.Model, Any]:
    """Return the builder's network with random weights, and its preprocessing function."""
    builder = pkgutil.resolve_name(get_backbone(name).builder)
    keras.utils.set_random_seed(1)
    network = builder(include_top=False, weights=None, input_shape=(*size, 3))
    random = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))
            layer.moving_mean.assign(random.normal(0, 0.1, layer.beta.shape))
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # As in EfficientNet's published files, which hold standard deviations in place of variances.
            layer.set_weights([IMAGENET_MEAN, IMAGENET_STD, np.zeros(())])
    module = sys.modules[builder.__module__]
    return network, getattr(module, "preprocess_input", lambda pixels: pixels / 127.5 - 1)


IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def _set_deviations(network: keras.Model) -> None:
    """Replace the standard deviations of the published files by variances, without Keras's compensation."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([IMAGENET_MEAN, IMAGENET_STD**2, np.zeros(())])
            layer.finalize_state()


def _predict(model: keras.Model, images: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def _check_shape(name: str, model: keras.Model) -> None:
    names = [operation.name for operation in model.operations]
    assert len(names) == len(set(names)), "two layers share a name"
    assert names[0] == "image"
    assert "pixels" in names
    assert len(model.output.shape) == 4
    assert model.count_params() == get_backbone(name).parameters


def _check_blocks(model: keras.Model) -> None:
    blocks = get_blocks(model)
    layers = [layer.name for layer in model.layers]
    in_blocks = [layer for block in blocks for layer in block.layers]
    assert sorted(in_blocks) == sorted(layers), "a layer is in no block, or in two"
    for block in blocks:
        indices = [layers.index(layer) for layer in block.layers]
        assert indices == sorted(indices), f"the layers of {block.name} are out of order"
        assert indices, f"{block.name} is empty"


def _check_splitting(model: keras.Model, images: np.ndarray, expected: np.ndarray) -> None:
    names = [block.name for block in get_blocks(model)][:-1]
    for name in {*names[:: max(1, len(names) // MAX_SPLITS)], names[-1]}:
        trunk, tail = split_at_block(model, name)
        output = _predict(tail, trunk(images, training=False))
        assert np.array_equal(output, expected), f"splitting after {name} changes the output"
        assert all(isinstance(part, keras.Model) for part in (trunk, tail))


def _check_round_trip(model: keras.Model, images: np.ndarray, expected: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    assert np.array_equal(_predict(loaded, images), expected)
    assert get_blocks(loaded) == get_blocks(model)


def _check_freezing(model: keras.Model) -> None:
    for layer in model.layers:
        layer.trainable = False
    assert not model.trainable_weights
    for layer in model.layers:
        layer.trainable = True
    assert model.trainable_weights
