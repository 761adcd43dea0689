"""Put the weights of a file into a backbone, or say which layers do not fit. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastl.backbones.flatten import layers_inside, snake_case, stable_names
from kerastl.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD
from kerastl.errors import Problem, RequestError

if TYPE_CHECKING:
    import h5py
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
    try:
        if path.suffix == ".keras":
            pairs, problems = _from_keras(path, model)
        elif path.name.endswith(".weights.h5"):
            pairs, problems = _from_weights_h5(path, model)
        else:
            pairs, problems = _from_h5(path, source, model, origins)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} cannot be read as a weights file: {error}") from error
    if problems:
        raise _refusal(path, model.name, problems)
    for variable, value in pairs:
        variable.assign(value)


def h5_datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Return the arrays of a `.h5` in order, each with its layer's name; nothing is read yet.

    Raises:
        OSError: it has no list of layers, or an array that lies in another file.
    """
    group = file.get("model_weights", file)
    if not {"layer_names", "layer_names0"} & set(group.attrs):
        raise OSError("it has no list of layers")
    return [
        (_text(layer), _dataset(group[_text(layer)], _text(weight)))
        for layer in _names(group, "layer_names")
        for weight in _names(group[_text(layer)], "weight_names")
    ]


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return an array that lies in this very file: a link could name any other file of the machine."""
    import h5py

    found = group[name]
    if (
        not isinstance(found, h5py.Dataset)
        or found.file.filename != group.file.filename
        or found.external
        or found.is_virtual
    ):
        raise OSError(f"{name} is not an array of this file")
    return found


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
    try:
        with h5py.File(path) as file:
            return _differences(slots, h5_datasets(file))
    except (OSError, KeyError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as a weights file: {error}") from error


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
        groups = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]
        for layer in model.layers:
            kind = snake_case(type(layer).__name__)
            key = kind if not counted[kind] else f"{kind}_{counted[kind]}"
            counted[kind] += 1
            if not layer.weights:
                continue
            values = groups.get(f"{key}/vars", {})
            arrays = [_dataset(values, number) for number in sorted(values, key=int)]
            more, problem = _matched(layer, arrays)
            pairs += more
            problems += problem
    return pairs, problems


def _from_keras(path: Path, model: keras.Model) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match by name and shape, wherever in the saved model the layers lie."""
    import keras

    try:
        saved = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a hostile or damaged file may raise anything while it is rebuilt
        raise RequestError(f"{path} cannot be loaded safely: {error}") from error
    layers = layers_inside(saved)
    renamed = stable_names(layers)
    by_name = {renamed.get(layer.name, layer.name): layer for layer in layers}
    pairs, problems = [], []
    for layer in model.layers:
        if layer.weights:
            found = by_name.get(layer.name)
            arrays = [np.asarray(value) for value in found.get_weights()] if found else []
            more, problem = _matched(layer, arrays)
            pairs += more
            problems += problem
    return pairs, problems


def _matched(
    layer: keras.Layer, arrays: Sequence[Any]
) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Pair a layer's variables with arrays, or say how they differ; read only what fits."""
    slots = [(layer.name, tuple(variable.shape), variable) for variable in layer.weights]
    problems = _differences(slots, [(layer.name, value) for value in arrays])
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


def _names(group: Any, attribute: str) -> list[Any]:
    """Read a list of names that may have been cut in pieces: `layer_names0`, `layer_names1`."""
    if attribute in group.attrs:
        return list(group.attrs[attribute])
    pieces: list[Any] = []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    return [name for piece in pieces for name in piece]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
