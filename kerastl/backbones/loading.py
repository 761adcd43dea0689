"""Put the weights of a file into a backbone, or say which layers do not fit. Nothing is unpickled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastl.backbones.flatten import layers_inside, stable_names
from kerastl.backbones.hdf5 import h5_datasets, reading
from kerastl.backbones.keras_file import (
    SavedLayer,
    layer_arrays,
    layer_groups,
    numbered_key,
    saved_layers,
)
from kerastl.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD
from kerastl.errors import Problem, RequestError

if TYPE_CHECKING:
    import keras

SHOWN_DIFFERENCES = 5
Slot = tuple[str, tuple[int, ...], Any]
"""A layer's name, the shape it expects, and the variable to fill (None: nothing to fill)."""


def load_file(path: Path, source: keras.Model, model: keras.Model, origins: dict[str, str]) -> None:
    """Fill a backbone from a weights file, all or nothing.

    Args:
        path: `.keras`, `.weights.h5`, or `.h5` as older Keras and keras.applications write it.
        source: the network as its builder makes it; its order of layers is the order of a `.h5`.
        model: the flat copy that is filled.
        origins: for each layer of `model` with weights, the layer of `source` it copies.

    Raises:
        RequestError: the file cannot be read, or belongs to another architecture; the first layers
            that differ are named.
    """
    with reading(path):
        if path.suffix == ".keras":
            pairs, problems = _from_keras(path, model, _replaced(source, origins))
        elif path.name.endswith(".weights.h5"):
            pairs, problems = _from_weights_h5(path, model)
        else:
            pairs, problems = _from_h5(path, source, model, origins)
    if problems:
        raise _refusal(path, model.name, problems)
    for variable, value in pairs:
        variable.assign(value)


def fitting_problems(path: Path, source: keras.Model) -> list[Problem]:
    """Say what of a keras.applications file does not fit a network; empty when all fits.

    Raises:
        RequestError: the file cannot be read.
    """
    import h5py

    slots = [
        (layer.name, tuple(variable.shape), None)
        for layer in source.layers
        for variable in _in_file_order([layer])
    ]
    with reading(path), h5py.File(path) as file:
        return _differences(slots, h5_datasets(file))


def _from_h5(
    path: Path, source: keras.Model, model: keras.Model, origins: dict[str, str]
) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match by order, as Keras does: these files were written under names of other releases."""
    import h5py

    copies = {old: model.get_layer(new) for new, old in origins.items()}
    slots: list[Slot] = []
    for layer in source.layers:
        inside = layers_inside(layer) if hasattr(layer, "layers") else [layer]
        targets = [copies.get(one.name) for one in inside]
        filled = _in_file_order(targets) if all(targets) else [None] * len(layer.weights)
        originals = _in_file_order(inside)
        slots += [
            (layer.name, tuple(original.shape), variable)
            for original, variable in zip(originals, filled, strict=False)
        ]
    with h5py.File(path) as file:
        datasets = h5_datasets(file)
        problems = _differences(slots, datasets)
        if problems:
            return [], problems
        arrays = [np.asarray(values) for _, values in datasets[: len(slots)]]
    found = list(zip(slots, arrays, strict=True))
    dropped = [value for (_, _, variable), value in found if variable is None]
    pairs = [(slot[2], value) for slot, value in found if slot[2] is not None]
    return pairs, _pixel_problems(dropped)


def _from_weights_h5(path: Path, model: keras.Model) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match by the paths Keras 3 writes: class of the layer and its number among its class."""
    import h5py

    counted: Counter[str] = Counter()
    pairs, problems = [], []
    with h5py.File(path) as file:
        groups = layer_groups(file)
        for layer in model.layers:
            key = numbered_key(type(layer).__name__, counted)
            if layer.weights:
                more, problem = _matched(layer, layer_arrays(groups, key))
                pairs += more
                problems += problem
    return pairs, problems


def _from_keras(
    path: Path, model: keras.Model, replaced: set[str]
) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match by name and shape, wherever in the saved model the layers lie.

    Args:
        path: the file.
        model: what is filled.
        replaced: layers that the network has and `model` has not, as `pixels` takes their place.
    """
    wanted = {layer.name: layer for layer in model.layers if layer.weights}
    pairs, problems = [], []
    with saved_layers(path) as saved:
        by_name = {one.name: one for one in saved}
        for name, layer in wanted.items():
            more, problem = _matched(layer, by_name[name].arrays if name in by_name else [])
            pairs += more
            problems += problem
        problems += _unmatched(saved, set(wanted), replaced, model.name)
        for one in saved:
            if one.name in replaced and one.arrays:
                problems += _pixel_problems([np.asarray(value) for value in one.arrays])
    return pairs, problems


def _replaced(source: keras.Model, origins: dict[str, str]) -> set[str]:
    """Return the names of layers with weights that `flatten` did not copy, as a fresh process names them."""
    layers = layers_inside(source)
    fresh = stable_names(layers)
    copied = set(origins.values())
    return {
        fresh.get(layer.name, layer.name)
        for layer in layers
        if layer.weights and layer.name not in copied
    }


def _unmatched(
    saved: list[SavedLayer], wanted: set[str], replaced: set[str], name: str
) -> list[Problem]:
    """Name saved layers with weights between those that match: a deeper network holds a shallower one's
    layers too, and more. What follows the last match is a head, which is left out.
    """
    last = max((index for index, one in enumerate(saved) if one.name in wanted), default=-1)
    return [
        Problem(f"layer {one.name}", f"the file has weights for it, {name} has no such layer")
        for one in saved[: last + 1]
        if one.holds_weights and one.name not in wanted | replaced
    ]


def _matched(
    layer: keras.Layer, arrays: Sequence[Any]
) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Pair a layer's variables with arrays, or say how they differ; read only what fits."""
    slots = [(layer.name, tuple(variable.shape), variable) for variable in layer.weights]
    problems = _differences(slots, [(layer.name, value) for value in arrays])
    if len(arrays) > len(slots):
        message = f"expected {len(slots)} arrays of weights, found {len(arrays)}"
        problems.append(Problem(f"layer {layer.name}", message))
    if problems:
        return [], problems
    read = [np.asarray(value) for value in arrays]
    return list(zip(layer.weights, read, strict=False)), []


def _differences(slots: Sequence[Slot], arrays: Sequence[tuple[str, Any]]) -> list[Problem]:
    """Name the first wrong array of each layer. Arrays beyond the last layer are a top, left out."""
    first: dict[str, str] = {}
    for (layer, shape, _), (name, value) in zip(slots, arrays, strict=False):
        if shape != value.shape:
            first.setdefault(layer, f"expected shape {shape}, found {value.shape} ({name})")
    for layer, shape, _ in slots[len(arrays) :]:
        first.setdefault(layer, f"expected shape {shape}, found no more weights")
    return [Problem(f"layer {layer}", message) for layer, message in first.items()]


def _pixel_problems(constants: list[np.ndarray]) -> list[Problem]:
    """Check the constants of a normalization that `pixels` takes the place of.

    EfficientNet's files hold ImageNet's standard deviations where a variance belongs, and Keras
    divides once more to make up for it (github.com/tensorflow/tensorflow/issues/49930): together
    they are the rule `mean_and_std`. Other constants mean that other pixels were learnt.
    """
    if not constants:
        return []
    mean, variance = constants[0], constants[1]
    if np.allclose(mean, IMAGENET_MEAN, atol=1e-3) and np.allclose(
        variance, IMAGENET_STD, atol=1e-3
    ):
        return []
    return [
        Problem(
            "layer normalization",
            f"learnt on other pixels: expected mean {IMAGENET_MEAN} and variance {IMAGENET_STD}, "
            f"found {tuple(mean.round(4).tolist())} and {tuple(variance.round(4).tolist())}",
        )
    ]


def _refusal(path: Path, name: str, problems: list[Problem]) -> RequestError:
    count = len(problems)
    lines = [f"{path} does not fit {name}: {count} layer{'s differ' if count > 1 else ' differs'}."]
    lines += [f"  {problem}" for problem in problems[:SHOWN_DIFFERENCES]]
    if count > SHOWN_DIFFERENCES:
        lines.append(f"  and {count - SHOWN_DIFFERENCES} more.")
    lines.append("The file belongs to another architecture, or to other options of this one.")
    return RequestError("\n".join(lines))


def _in_file_order(layers: list[Any]) -> list[Any]:
    """Return variables as a `.h5` lists them: of one layer, trainable ones first."""
    return [variable for layer in layers for variable in layer.trainable_weights] + [
        variable for layer in layers for variable in layer.non_trainable_weights
    ]
