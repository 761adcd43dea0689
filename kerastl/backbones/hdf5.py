"""Read the arrays of an HDF5 file that may be damaged or hostile: only what lies in the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl.errors import RequestError

if TYPE_CHECKING:
    import h5py


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises while it is read into one error that names it.

    Raises:
        RequestError: instead of anything that is raised inside.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # a hostile or damaged file may raise anything
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise RequestError(
            f"{path} cannot be read as a weights file: {reason}. "
            "Save the model again with model.save(FILE), or name another file."
        ) from error


def h5_datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Return the arrays of a `.h5` in order, each with its layer's name; nothing is read yet.

    Raises:
        OSError: it has no list of layers, or an array that lies in another file.
    """
    group = group_inside(file, "model_weights") if has(file, "model_weights") else file
    if not {"layer_names", "layer_names0"} & set(group.attrs):
        raise OSError("it has no list of layers")
    found = []
    for layer in _names(group, "layer_names"):
        inside = group_inside(group, layer)
        found += [(layer, dataset_inside(inside, one)) for one in _names(inside, "weight_names")]
    return found


def numbered_datasets(group: h5py.Group) -> list[h5py.Dataset]:
    """Return the arrays that Keras 3 keeps for one layer, `vars/0` on, in order; none is read yet.

    Raises:
        OSError: one of them lies in another file, or is no array.
        ValueError: one is not named by a number.
    """
    if not has(group, "vars"):
        return []
    values = group_inside(group, "vars")
    return [dataset_inside(values, number) for number in sorted(values, key=int)]


def has(group: h5py.Group, name: str) -> bool:
    """Say whether a group has an entry; `in` would open the file that a link names."""
    return bool(group.id.links.exists(name.encode()))


def is_link(group: h5py.Group, name: str) -> bool:
    """Say whether an entry of a group leads elsewhere: to another path, or to another file."""
    import h5py

    return bool(group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD)


def group_inside(group: h5py.Group, path: str) -> h5py.Group:
    """Return a group that lies in this very file.

    Raises:
        OSError: a link stands on the way, or it is no group.
    """
    import h5py

    found = _inside(group, path)
    if not isinstance(found, h5py.Group):
        raise OSError(f"{found.name} is not a group of this file")
    return found


def dataset_inside(group: h5py.Group, path: str) -> h5py.Dataset:
    """Return an array of numbers that lies in this very file.

    Raises:
        OSError: a link stands on the way, its bytes lie in another file, or it holds no numbers.
    """
    import h5py

    found = _inside(group, path)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise OSError(f"{found.name} is not an array of this file")
    if found.dtype.kind not in "fiu":
        raise OSError(f"{found.name} holds {found.dtype}, not numbers of float16 to float64")
    return found


def _inside(group: h5py.Group, path: str) -> Any:
    """Follow a path, but no link: one could name any other file of the machine.

    Each step is looked at before it is taken: behind a link, `.file` is the other file.
    """
    import h5py

    for part in path.strip("/").split("/"):
        if not isinstance(group, h5py.Group):
            raise OSError(f"{group.name} is not a group of this file")
        where = f"{group.name.rstrip('/')}/{part}"
        if not has(group, part):
            raise OSError(f"it has no {where}")
        if is_link(group, part):
            raise OSError(f"{where} is a link, not an array of this file")
        group = group[part]
    return group


def _names(group: Any, attribute: str) -> list[str]:
    """Read a list of names that may have been cut in pieces: `layer_names0`, `layer_names1`."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    pieces: list[str] = []
    number = 0
    while f"{attribute}{number}" in group.attrs:
        pieces += [_text(name) for name in group.attrs[f"{attribute}{number}"]]
        number += 1
    return pieces


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
