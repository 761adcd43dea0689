"""Read a `.keras` file as data: nothing of the saved model is built, and none of its code is run."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kerastl.backbones.flatten import counted_names, snake_case
from kerastl.backbones.hdf5 import group_inside, has, is_link, numbered_datasets

if TYPE_CHECKING:
    import h5py

MAX_UNPACKING = 10
"""How many times its own size a file may unpack to. Keras packs nothing, and weights pack badly."""
ALWAYS_UNPACKED_BYTES = 64 * 2**20
SEED_GENERATOR = "seed_generator"


class SavedLayer(NamedTuple):
    """A layer of a saved model.

    Args:
        name: as a fresh process would name it.
        arrays: its own, in the order of `layer.weights`; none is read yet.
        holds_weights: whether it, or something inside it, has weights.
    """

    name: str
    arrays: list[h5py.Dataset]
    holds_weights: bool


@contextmanager
def saved_layers(path: Path) -> Iterator[list[SavedLayer]]:
    """Open a `.keras` file and list its layers in the model's order, nested models opened up.

    Building the saved model instead would let its `config.json` ask for any class and any amount of
    memory, for weights that the file may not even hold.

    Args:
        path: a file that `model.save` wrote; its arrays can be read while it is open.

    Raises:
        OSError, ValueError, zipfile.BadZipFile, or what else a damaged file raises.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        _check_unpacked_size(path, archive)
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights)) as file:
        found = list(_walk(config["config"], file))
        fresh = counted_names([(kind, name) for kind, name, _, _ in found])
        yield [SavedLayer(fresh.get(name, name), arrays, holds) for _, name, arrays, holds in found]


def layer_groups(group: h5py.Group) -> h5py.Group:
    """Return the group of a model's layers; Keras 2.12 gave it another name.

    Raises:
        OSError: there is none.
    """
    older = "_layer_checkpoint_dependencies"
    return group_inside(group, older if has(group, older) else "layers")


def _check_unpacked_size(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a zip bomb by the sizes it declares: `zipfile` never unpacks more than these."""
    packed = path.stat().st_size
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(ALWAYS_UNPACKED_BYTES, MAX_UNPACKING * packed):
        raise OSError(f"it would unpack from {packed:,} to {unpacked:,} bytes")


def _walk(
    config: dict[str, Any], group: h5py.Group
) -> Iterator[tuple[str, str, list[h5py.Dataset], bool]]:
    """Yield class, name and arrays of each layer, where Keras 3 put them: class and its number."""
    groups = layer_groups(group)
    counted: Counter[str] = Counter()
    for entry in config["layers"]:
        kind = entry["class_name"]
        key = numbered_key(kind, counted)
        if "layers" in entry["config"]:
            yield from _walk(entry["config"], group_inside(groups, key))
            continue
        arrays = layer_arrays(groups, key)
        holds = bool(arrays) or (has(groups, key) and _holds_weights(groups[key]))
        yield kind, entry["config"]["name"], arrays, holds


def layer_arrays(groups: h5py.Group, key: str) -> list[h5py.Dataset]:
    """Return the arrays of one layer in the order of `layer.weights`, none where it has no weights."""
    return numbered_datasets(group_inside(groups, key)) if has(groups, key) else []


def numbered_key(kind: str, counted: Counter[str]) -> str:
    """Return where Keras keeps the next layer of a class: `conv2d`, then `conv2d_1`; count it."""
    key = snake_case(kind)
    number = counted[key]
    counted[key] += 1
    return f"{key}_{number}" if number else key


def _holds_weights(group: h5py.Group) -> bool:
    """Say whether an array lies anywhere below; the state of a random generator is no weight."""
    import h5py

    names = [name for name in group if not name.startswith(SEED_GENERATOR)]
    return any(
        is_link(group, name) or isinstance(group[name], h5py.Dataset) or _holds_weights(group[name])
        for name in names
    )
