"""Load weights files into a backbone, verify them, and download them. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerastl.console import print_status, progress_bar
from kerastl.errors import Problem, Problems, RequestError, first_line, quote, setting
from kerastl.image_size import Size
from kerastl.models import flatten, weights
from kerastl.models.backbone import PublishedWeights
from kerastl.models.functional import layers_inside
from kerastl.models.hub_presets import nested_values
from kerastl.runs import atomic_path

if TYPE_CHECKING:
    import h5py
    import keras


@contextmanager
def weights_file_errors(path: Path) -> Iterator[None]:
    """Convert any error from reading a damaged file into one that names the file.

    Raises:
        RequestError: Instead of any exception in the `with` block.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # a damaged or malicious file may raise anything
        raise RequestError(
            f"{path} cannot be read as a weights file: {first_line(error)}. "
            "Save the model again with model.save(FILE), or use another file."
        ) from error


@contextmanager
def open_h5(file: Path | io.BytesIO) -> Iterator[h5py.File]:
    """Open an HDF5 file without links. A link may refer to any file on the machine, so links are checked first.

    Raises:
        OSError: If the file contains a link, or is not an HDF5 file.
    """
    import h5py

    def name_of_link(name: bytes, info: Any) -> str | None:
        return None if info.type == h5py.h5l.TYPE_HARD else name.decode(errors="replace")

    with h5py.File(file) as opened:
        # Not `visititems_links`, which opens the file that an external link refers to.
        link = opened.id.links.visit(name_of_link, info=True)
        if link is not None:
            raise OSError(f"/{link} is a link, not an array of this file")
        yield opened


def h5_datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Return the arrays of an `.h5` file in order, each with the name of its layer, without reading them.

    Raises:
        OSError: If the file has no list of layers, or an array is in another file.
    """
    group = group_inside(file, "model_weights") if "model_weights" in file else file
    if not {"layer_names", "layer_names0"} & set(group.attrs):
        raise OSError("it has no list of layers")
    datasets = []
    for layer in _names(group, "layer_names"):
        layer_group = group_inside(group, layer)
        datasets += [
            (layer, dataset_inside(layer_group, name)) for name in _names(layer_group, "weight_names")
        ]
    return datasets


def group_inside(group: h5py.Group, path: str) -> h5py.Group:
    """Return a group of a file.

    Raises:
        OSError: If there is none.
    """
    import h5py

    entry = _inside(group, path)
    if not isinstance(entry, h5py.Group):
        raise OSError(f"{entry.name} is not a group of this file")
    return entry


def dataset_inside(group: h5py.Group, path: str) -> h5py.Dataset:
    """Return a numeric array of a file.

    Raises:
        OSError: If there is none, if its data is in another file, or if it is not numeric.
    """
    import h5py

    entry = _inside(group, path)
    if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
        raise OSError(f"{entry.name} is not an array of this file")
    if entry.dtype.kind not in "fiu":
        raise OSError(f"{entry.name} has type {entry.dtype}, which is not numeric")
    return entry


def read_vectors(path: Path) -> list[np.ndarray[Any, Any]]:
    """Return the arrays of one dimension in an HDF5 file: biases, and the parameters of normalization layers.

    Raises:
        OSError: It contains a link, an array in another file, or text.
    """
    with open_h5(path) as file:
        return [np.asarray(array, np.float32) for array in _arrays(file).values() if array.ndim == 1]


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array in an HDF5 file by its path in the file, without the states of random generators.

    Raises:
        RequestError: The file is damaged, or contains a link, an array in another file, or text.
    """
    with weights_file_errors(path), open_h5(path) as file:
        return {name: array.shape for name, array in _arrays(file).items() if SEED_GENERATOR not in name}


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return all arrays of a file. Each one is checked, so that another library can read the file afterwards."""
    import h5py

    names: list[str] = []
    file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
    return {name: dataset_inside(file, name) for name in names}


def _inside(group: h5py.Group, path: str) -> Any:
    if path not in group:
        raise OSError(f"it has no {group.name.rstrip('/')}/{path}")
    return group[path]


def _names(group: Any, attribute: str) -> list[str]:
    """Read a list of names that may be split into `layer_names0`, `layer_names1`, ..."""
    pieces = takewhile(lambda piece: piece in group.attrs, (f"{attribute}{number}" for number in count()))
    names = (
        name for piece in ([attribute] if attribute in group.attrs else pieces) for name in group.attrs[piece]
    )
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


MAX_UNPACKING = 10
"""Maximum ratio of unpacked to packed size. Keras does not compress, and weights hardly compress."""
ALWAYS_UNPACKED_BYTES = 64 * 2**20
SEED_GENERATOR = "seed_generator"


class SavedLayer(NamedTuple):
    """A layer of a saved model.

    Args:
        kind: The name of its class.
        name: Its name in a new process.
        arrays: Its own arrays in the order of `layer.weights`, not read yet.
        holds_weights: Whether it, or a sublayer, has weights.
        config: Its config.
    """

    kind: str
    name: str
    arrays: list[h5py.Dataset]
    holds_weights: bool
    config: dict[str, Any]


@contextmanager
def saved_layers(path: Path) -> Iterator[list[SavedLayer]]:
    """Open a saved model and list its layers in the order of the model, with nested models expanded.

    The saved model is not built, because its `config.json` may request any class and any amount of memory.

    Args:
        path: A `.keras` or `.h5` file written by `model.save`; the arrays can be read while it is open.

    Raises:
        OSError, ValueError, zipfile.BadZipFile, or any other error of a damaged file.
    """
    content: Path | io.BytesIO = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            _check_unpacked_size(path, archive)
            config = json.loads(archive.read("config.json"))
            content = io.BytesIO(archive.read("model.weights.h5"))
    with open_h5(content) as file:
        if path.suffix == ".keras":
            layers = list(_walk(config["config"], file))
        else:
            config = json.loads(file.attrs[H5_CONFIG])
            arrays = defaultdict[str, list[Any]](list)
            for _, dataset in h5_datasets(file):
                arrays[dataset.name.split("/")[-2]].append(dataset)
            layers = list(_walk_h5(config["config"], arrays))
        stable = flatten.counted_names([(layer.kind, layer.name) for layer in layers])
        yield [layer._replace(name=stable.get(layer.name, layer.name)) for layer in layers]


MODEL_PACKAGES = ("keras", "keras_hub", "builtins")
"""Packages whose classes a `.keras` file can contain. `builtins` are functions of Keras, such as activations."""


def check_model_file(path: Path) -> dict[str, Any]:
    """Check a `.keras` file without building the model, and return its config.

    Raises:
        RequestError: The file is damaged, too large, or contains code or classes of other packages.
    """
    if not path.is_file():
        raise RequestError(f"There is no file {path}.")
    with weights_file_errors(path), zipfile.ZipFile(path) as archive:
        _check_unpacked_size(path, archive)
        config = json.loads(archive.read("config.json"))
        with open_h5(io.BytesIO(archive.read("model.weights.h5"))):
            pass
    objects = (value for value in nested_values(config) if isinstance(value, dict) and "class_name" in value)
    for value in objects:
        # A class that was defined in a script has a registered name, but no module.
        module = value.get("module") or ("__main__" if value.get("registered_name") else "keras")
        is_code = value["class_name"] in ("Lambda", "__lambda__")
        if is_code or str(module).partition(".")[0] not in MODEL_PACKAGES:
            remedy = (
                "Replace it with keras.layers.Rescaling or another Keras layer."
                if is_code
                else "Load the model in Python, and pass it to kerastl.build_classifier."
            )
            kind = quote(f"{module}.{value['class_name']}")
            reason = "is not an allowed class of Keras or KerasHub, because a file must not run code"
            raise RequestError(f"{path} contains {kind}, which {reason}. {remedy}")
    return dict(config)


def check_readable(path: Path) -> None:
    """Check that a weights file exists, has a known type and is complete.

    Raises:
        RequestError: Otherwise, or if it contains code or classes of other packages.
    """
    if not path.is_file():
        raise RequestError(f"There is no file {path}.")
    if path.suffix == ".keras":
        check_model_file(path)
    elif path.suffix != ".h5":
        raise RequestError(f"{path} is not a weights file. Supported types: .keras, .weights.h5, .h5.")
    else:
        with weights_file_errors(path), open_h5(path):
            pass


def layer_groups(group: h5py.Group) -> h5py.Group:
    """Return the group of a model's layers, also as named by Keras 2.12.

    Raises:
        OSError: If there is none.
    """
    older = "_layer_checkpoint_dependencies"
    return group_inside(group, older if older in group else "layers")


def _check_unpacked_size(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a zip bomb by its declared sizes, which `zipfile` never exceeds."""
    packed = path.stat().st_size
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(ALWAYS_UNPACKED_BYTES, MAX_UNPACKING * packed):
        raise OSError(f"it would unpack from {packed:,} to {unpacked:,} bytes")


def _walk(config: dict[str, Any], group: h5py.Group) -> Iterator[SavedLayer]:
    """Yield the layers of a Keras 3 file with the names that they were saved with."""
    groups = layer_groups(group)
    counted: Counter[str] = Counter()
    for entry in config["layers"]:
        kind = entry["class_name"]
        key = numbered_key(kind, counted)
        if "layers" in entry["config"]:
            yield from _walk(entry["config"], group_inside(groups, key))
            continue
        arrays = layer_arrays(groups, key)
        holds_weights = key in groups and _holds_weights(groups[key])
        yield SavedLayer(kind, entry["config"]["name"], arrays, holds_weights, entry["config"])


def _walk_h5(config: dict[str, Any], arrays: Mapping[str, list[Any]]) -> Iterator[SavedLayer]:
    """Yield the layers of an `.h5` file, given the arrays by layer name."""
    for entry in config["layers"]:
        if "layers" in entry["config"]:
            yield from _walk_h5(entry["config"], arrays)
        else:
            name = entry["config"]["name"]
            own = arrays.get(name, [])
            yield SavedLayer(entry["class_name"], name, own, bool(own), entry["config"])


def layer_arrays(groups: h5py.Group, key: str) -> list[h5py.Dataset]:
    """Return the arrays of one layer, `vars/0` on, in the order of `layer.weights`, without reading them; may be empty.

    Raises:
        OSError: If an array is in another file, or is not an array.
        ValueError: If a name is not a number.
    """
    if key not in groups or "vars" not in group_inside(groups, key):
        return []
    values = group_inside(groups, f"{key}/vars")
    return [dataset_inside(values, number) for number in sorted(values, key=int)]


def numbered_key(kind: str, counted: Counter[str]) -> str:
    """Return the group name of the next layer of a class (`conv2d`, then `conv2d_1`) and count it."""
    key = flatten.snake_case(kind)
    number = counted[key]
    counted[key] += 1
    return f"{key}_{number}" if number else key


def _holds_weights(group: h5py.Group) -> bool:
    """Return whether a group contains an array other than the state of a random generator."""
    import h5py

    entries = [group[name] for name in group if not name.startswith(SEED_GENERATOR)]
    return any(isinstance(entry, h5py.Dataset) or _holds_weights(entry) for entry in entries)


SHOWN_DIFFERENCES = 5
Slot = tuple[str, tuple[int, ...], Any]
"""Layer name, expected shape, and variable; None if no variable receives the array."""


def load_weights_file(
    path: Path, source: keras.Model, model: keras.Model, copies: Mapping[str, keras.Layer]
) -> None:
    """Load a weights file into a backbone, completely or not at all.

    Args:
        path: `.keras`, `.weights.h5`, or `.h5` as written by older Keras and keras.applications.
        source: The network as built by its builder; its layer order is that of an `.h5` file.
        model: The flat copy that receives the weights. It can be built by `without_values`.
        copies: The layers of `model` with weights by the name of the corresponding layer of `source`.

    Raises:
        RequestError: If the file is damaged, or belongs to a different architecture.
    """
    with weights_file_errors(path):
        if path.suffix == ".keras":
            pairs, problems = _from_saved_model(path, model)
        elif path.name.endswith(".weights.h5"):
            pairs, problems = _from_weights_h5(path, model)
        else:
            pairs, problems = _from_h5(path, _slots(source, copies))
            if problems and stores_config(path):  # a nested model stores its arrays in a different order
                by_name = _from_saved_model(path, model)
                pairs, problems = by_name if not by_name[1] else (pairs, problems)
    if problems:
        footer = f"It belongs to a different architecture than {model.name}, or to different options of it."
        raise Problems(f"The weights file {path}", problems, footer, SHOWN_DIFFERENCES)
    for variable, value in pairs:
        if variable._value is None:
            variable._initializer = partial(_value_of, value)
        else:
            variable.assign(value)
    for variable in model.variables:
        if variable._value is None:
            variable._deferred_initialize()


def _value_of(value: Any, shape: Any, dtype: Any) -> Any:  # noqa: ARG001 - the arguments of an initializer
    """Return a value that is read from a file, as an initializer."""
    import keras

    return keras.ops.convert_to_tensor(value, dtype)


def _from_h5(path: Path, slots: Sequence[Slot]) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match arrays by order, as Keras does, because other releases wrote other layer names."""
    with open_h5(path) as file:
        datasets = h5_datasets(file)
        problems = _differences(slots, datasets)
        if problems:
            return [], problems
        arrays = [np.asarray(values) for _, values in datasets[: len(slots)]]
    values = [(variable, array) for (_, _, variable), array in zip(slots, arrays, strict=True)]
    dropped = [array for variable, array in values if variable is None]
    pairs = [(variable, array) for variable, array in values if variable is not None]
    return pairs, _pixel_problems(dropped)


def _slots(source: keras.Model, copies: Mapping[str, keras.Layer]) -> list[Slot]:
    """Return the arrays of a network in the order of an `.h5` file, each with the variable of the copied layer."""
    slots: list[Slot] = []
    for layer in source.layers:
        sublayers = layers_inside(layer) if hasattr(layer, "layers") else [layer]
        targets = [copies.get(sublayer.name) for sublayer in sublayers]
        originals = _in_file_order(sublayers)
        filled = _in_file_order(targets) if all(targets) else [None] * len(originals)
        slots += [
            (layer.name, tuple(original.shape), variable)
            for original, variable in zip(originals, filled, strict=False)
        ]
    return slots


def _from_weights_h5(path: Path, model: keras.Model) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match arrays by the paths of Keras 3: the class of the layer and its number within the class."""
    counted: Counter[str] = Counter()
    keys = {layer.name: numbered_key(type(layer).__name__, counted) for layer in model.layers}
    with open_h5(path) as file:
        results = []
        constants: list[Any] = []
        for groups in _nested_groups(layer_groups(file)):
            results.append(_matched(model, {name: layer_arrays(groups, key) for name, key in keys.items()}))
            constants = constants or [np.asarray(value) for value in layer_arrays(groups, "normalization")]
        pairs, problems = min(results, key=lambda result: len(result[1]))
        return pairs, problems or _pixel_problems(constants)


def _nested_groups(groups: h5py.Group) -> Iterator[h5py.Group]:
    """Yield the group of a model's layers and those of the models nested in it."""
    yield groups
    for name in groups:
        if "layers" in groups[name]:
            yield from _nested_groups(group_inside(groups, f"{name}/layers"))


def _from_saved_model(path: Path, model: keras.Model) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Match arrays by layer name and shape."""
    wanted = {layer.name for layer in model.layers if layer.weights}
    with saved_layers(path) as saved:
        pairs, problems = _matched(model, {layer.name: layer.arrays for layer in saved})
        problems += _unmatched(saved, wanted, model.name)
    return pairs, problems


def _unmatched(saved: list[SavedLayer], wanted: set[str], name: str) -> list[Problem]:
    """Report saved layers with weights between those that match, as a deeper network has.

    Layers after the last match are a head, which is ignored. `adopt_preprocessing` reads normalization layers.
    """
    last = max((index for index, layer in enumerate(saved) if layer.name in wanted), default=-1)
    return [
        Problem(f"layer {layer.name}", f"the file has weights for it, but {name} has no such layer")
        for layer in saved[: last + 1]
        if layer.holds_weights and layer.name not in wanted and layer.kind != "Normalization"
    ]


def _matched(
    model: keras.Model, arrays_of: Mapping[str, Sequence[Any]]
) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    """Pair the variables of each layer with its arrays, or report how they differ; reads only what fits."""
    pairs: list[tuple[Any, Any]] = []
    problems: list[Problem] = []
    for layer in model.layers:
        if not layer.weights:
            continue
        arrays = arrays_of.get(layer.name, [])
        slots = [(layer.name, tuple(variable.shape), variable) for variable in layer.weights]
        differences = _differences(slots, [(layer.name, value) for value in arrays])
        if len(arrays) > len(slots):
            message = f"expected {len(slots)} arrays of weights, found {len(arrays)}"
            differences.append(Problem(f"layer {layer.name}", message))
        if not differences:
            pairs += zip(layer.weights, map(np.asarray, arrays), strict=True)
        problems += differences
    return pairs, problems


def _differences(slots: Sequence[Slot], arrays: Sequence[tuple[str, Any]]) -> list[Problem]:
    """Report the first wrong array of each layer. Arrays after the last layer are a top, which is ignored."""
    first: dict[str, str] = {}
    for (layer, shape, _), (name, value) in zip(slots, arrays, strict=False):
        if shape != value.shape:
            first.setdefault(layer, f"expected shape {shape}, found {value.shape} ({name})")
    for layer, shape, _ in slots[len(arrays) :]:
        first.setdefault(layer, f"expected shape {shape}, found no more weights")
    return [Problem(f"layer {layer}", message) for layer, message in first.items()]


def _pixel_problems(constants: list[np.ndarray]) -> list[Problem]:
    """Check the constants of a normalization layer that `pixels` replaces.

    EfficientNet's files hold ImageNet's standard deviations in place of variances, and Keras compensates with
    another division (github.com/tensorflow/tensorflow/issues/49930): together they equal `mean_and_std`.
    Other constants mean different preprocessing.
    """
    if not constants:
        return []
    mean, variance = constants[0], constants[1]
    expected = (flatten.IMAGENET_MEAN, flatten.IMAGENET_STD)
    if np.allclose((mean, variance), expected, atol=1e-3):
        return []
    return [
        Problem(
            "layer normalization",
            f"trained with different preprocessing: expected mean {expected[0]} and variance {expected[1]}, "
            f"found {tuple(mean.round(4).tolist())} and {tuple(variance.round(4).tolist())}",
        )
    ]


H5_CONFIG = "model_config"
KEEPS_PIXELS = ("InputLayer", "ZeroPadding2D", "Identity", "Dropout", "Resizing", "CenterCrop")
"""Layers before the network that do not change pixel values in inference, in addition to augmentation layers."""
SAVE_PREPROCESSING = (
    "Save the model with its preprocessing as the first layer, keras.layers.Rescaling or keras.layers.Normalization; or, "
    "if its images were preprocessed as published, only its weights: model.save_weights('model.weights.h5')."
)


def stores_config(path: Path) -> bool:
    """Return whether a file is a saved model, not only weights."""
    if path.suffix == ".keras":
        return True
    with open_h5(path) as file:
        return H5_CONFIG in file.attrs


def adopt_preprocessing(path: Path, model: keras.Model) -> str:
    """Make the layer `pixels` of a backbone equal to the preprocessing layers in a saved model.

    Args:
        path: A weights file that was loaded.
        model: The backbone.

    Returns:
        A note for the user. Empty if there is nothing to report.

    Raises:
        RequestError: If the preprocessing in the file is unknown, missing, or cannot be adopted.
    """
    with weights_file_errors(path):
        if not stores_config(path):
            return (
                f"{path.name} stores no preprocessing: images are preprocessed as for the published weights."
            )
        with saved_layers(path) as layers:
            is_bgr, scale, offset = _preprocessing(path, layers)
    pixels = model.get_layer("pixels")
    gray, black = (np.asarray(pixels(np.full((1, 1, 1, 3), value, np.float32))) for value in (1, 0))
    has_bgr = any(operation.name == "pixels_bgr" for operation in model.operations)
    if is_bgr == has_bgr and np.allclose([scale, offset], [(gray - black).ravel(), black.ravel()], rtol=1e-3):
        return ""
    if is_bgr != has_bgr or type(pixels).__name__ != "Rescaling":
        raise RequestError(
            f"{path} was trained with different preprocessing than {model.name}, x * {scale.round(4).tolist()} + "
            f"{offset.round(4).tolist()} per channel, which this backbone cannot apply. {SAVE_PREPROCESSING}"
        )
    pixels.scale, pixels.offset = scale.tolist(), offset.tolist()
    return f"{path.name}: its own preprocessing replaces that of the published weights."


def _preprocessing(path: Path, layers: Sequence[SavedLayer]) -> tuple[bool, Any, Any]:
    """Return whether the layers before the network reverse the channels, and scale and offset of each channel."""
    is_bgr, scale, offset, has_preprocessing = False, np.ones(3), np.zeros(3), False
    for layer in layers:
        if layer.kind == "Rescaling":
            factor, shift = (_numbers(layer.config[key]) for key in ("scale", "offset"))
        elif layer.kind == "Normalization" and not layer.config.get("invert"):
            stored = layer.arrays or [_numbers(layer.config[key]) for key in ("mean", "variance")]
            mean, variance = (np.asarray(values, np.float64).ravel() for values in stored[:2])
            factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
            shift = -mean * factor
        elif layer.name == "pixels_bgr":
            is_bgr, scale, offset = not is_bgr, scale[::-1], offset[::-1]
            continue
        elif layer.holds_weights:
            break
        elif layer.kind in KEEPS_PIXELS or layer.kind.startswith("Random"):
            continue
        else:
            raise RequestError(
                f"{path}: the preprocessing in layer {layer.name!r} ({layer.kind}) cannot be read. {SAVE_PREPROCESSING}"
            )
        scale, offset, has_preprocessing = scale * factor, offset * factor + shift, True
    if not has_preprocessing:
        raise RequestError(
            f"{path} is a model without preprocessing, so that the range of its images is unknown. {SAVE_PREPROCESSING}"
        )
    return is_bgr, scale, offset


def _numbers(value: Any) -> Any:
    """Return a number or an array in a config as an array; Keras stores NumPy arrays in a dictionary."""
    return np.asarray(value["config"]["value"] if isinstance(value, dict) else value, np.float64).ravel()


def _in_file_order(layers: list[Any]) -> list[Any]:
    """Return variables in the order of an `.h5` file: trainable ones of a layer first."""
    return [variable for layer in layers for variable in layer.trainable_weights] + [
        variable for layer in layers for variable in layer.non_trainable_weights
    ]


def weights_problem(
    path: Path, name: str, row: PublishedWeights, top: bool = False, source: keras.Model | None = None
) -> str | None:
    """Return what is wrong with a weights file, by its published hash or else its shapes; None if nothing.

    Args:
        path: The file.
        name: Name of the backbone.
        row: The description of the file.
        top: Whether it is the file with the 1,000-class top.
        source: The network as built by its builder; None builds it if needed.
    """
    published_hash = row.top_hash if top else row.hash
    if published_hash:
        return hash_problem(path, published_hash)
    with flatten.without_values():
        slots = _slots(source or flatten.build_source(name, **dict(row.options)), {})
    try:
        with weights_file_errors(path), open_h5(path) as file:
            problems = _differences(slots, h5_datasets(file))
    except RequestError as error:
        return str(error)
    return str(problems[0]) if problems else None


def hash_problem(path: Path, wanted: str) -> str | None:
    """Return how the hash of a file differs from the published one; None if it does not.

    Args:
        path: The file.
        wanted: MD5 (32 hex digits) or SHA-256 (64); empty accepts any file.
    """
    if not wanted:
        return None
    algorithm = "md5" if len(wanted) == 32 else "sha256"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if digest == wanted else f"its {algorithm} is {digest}, but {wanted} is published"


def check_published_weights(located: weights.LocatedWeights, name: str, source: keras.Model) -> None:
    """Check that a file in the Keras cache is the published one.

    Raises:
        RequestError: If it is not. The message contains the command that downloads it again.
    """
    row = located.weights
    problem = weights_problem(located.path, name, row, source=source)
    if problem:
        raise RequestError(
            f"{located.path} is not the published weights of {name}: {problem}\n"
            f"  Replace it: {weights.fetch_command(name, row.size_px, dict(row.options))}\n"
            f"  or, if the weights are your own, use the file: {setting('weights', str(located.path))}"
        )


CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
CHUNK_BYTES = 1 << 20


def fetch_weights(name: str, *, image_size_px: int | Size | None = None, **options: Any) -> Path:
    """Download the published weights of a backbone, without the top, to the folder of Keras.

    The file gets its name after its hash is verified. If no hash is published (MobileNet, MobileNetV2), its
    arrays must fit the network. `KERASTL_WEIGHTS_URL` selects a mirror: the URL of a folder that holds the
    files under their Keras names.

    Args:
        name: Name of the backbone.
        image_size_px: Side length or (height, width) of the images. The weights of the nearest published size are
            downloaded.
        **options: Options of the family.

    Returns:
        The path of the file. A valid file is not downloaded again; a damaged one is replaced.

    Raises:
        RequestError: If there is no connection, no such file, or the file is not the published one. Nothing
            is kept.
    """
    row = weights.published_weights(name, image_size_px=image_size_px, **options)[0]
    path = weights.models_folder() / row.file
    if path.is_file():
        damage = weights_problem(path, name, row)
        if damage is None:
            return path
        print_status(f"{path} is damaged and is downloaded again: {damage}")
    url = _url(row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            try:
                _download(url, part, row.file)
            except OSError as error:
                raise RequestError(
                    f"{url} could not be downloaded: {_reason(error)}\n"
                    f"{weights.missing_weights_message(name, image_size_px, options)}"
                ) from error
            problem = weights_problem(part, name, row)
            if problem:
                raise RequestError(f"{url} is not {row.file}: {problem}")
    except OSError as error:
        raise RequestError(
            f"{path.parent} cannot be written: {error.strerror}. Set KERAS_HOME to another folder."
        ) from error
    return path


def verify_weights(name: str) -> list[tuple[Path, str | None]]:
    """Check each cached file of a backbone.

    Returns:
        The files, each with its problem or None.
    """
    return [(path, weights_problem(path, name, row, top)) for path, row, top in weights.cached_files(name)]


def _url(row: PublishedWeights) -> str:
    """Return the URL of a file, on the mirror if one is set."""
    mirror = os.environ.get("KERASTL_WEIGHTS_URL")
    if not mirror:
        return row.url
    if not mirror.startswith(("https://", "http://")):
        raise RequestError(f"KERASTL_WEIGHTS_URL must begin with https:// or http://, got {mirror}")
    return f"{mirror.rstrip('/')}/{row.file}"


def _download(url: str, path: Path, file: str) -> None:
    """Download a file. The errors of requests are OSErrors."""
    import pooch

    with ExitStack() as stack:
        download = pooch.HTTPDownloader(
            progressbar=_ProgressBar(f"downloading {file}", stack),
            chunk_size=CHUNK_BYTES,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        )
        download(url, str(path), None)


class _ProgressBar:
    """The interface that pooch expects of a progress bar; `total` is set before the first update."""

    total = 0

    def __init__(self, title: str, stack: ExitStack) -> None:
        self._title, self._stack = title, stack
        self._advance: Callable[[int], object] | None = None

    def update(self, num_bytes: int) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(progress_bar(self._title, "bytes", self.total))
        self._advance(num_bytes)

    def reset(self) -> None:
        self._advance = lambda _: None  # pooch counts everything once more at the end

    def close(self) -> None:
        """Do nothing: the stack closes the bar."""


def _reason(error: OSError) -> str:
    from requests import exceptions

    # The text of these two is a nested repr of urllib3 objects.
    if isinstance(error, exceptions.Timeout):
        return "the server does not respond"
    if isinstance(error, exceptions.ConnectionError):
        return "the connection failed"
    return str(error)
