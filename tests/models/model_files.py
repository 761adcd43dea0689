"""Save models in all file formats, and alter their content."""

import io
import zipfile

import h5py
import numpy as np

from kerastl.models import build_backbone

KINDS = (".weights.h5", ".h5", ".keras")


def saved(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def same_weights(first, second):
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return bool(pairs) and all(np.array_equal(left, right) for left, right in pairs)


def small_cnn_from(path):
    return build_backbone("small_cnn", weights=path, image_size_px=32, seed=2)


def rewritten(path, change):
    """Rewrite a `.keras` file with each entry replaced by `change(name, content)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def change_hdf5(path, change):
    """Apply `change(file, group of the layers)` to the HDF5 part of a file of any format."""
    if path.suffix == ".keras":

        def inner(name, content):
            if name != "model.weights.h5":
                return content
            buffer = io.BytesIO(content)
            with h5py.File(buffer, "r+") as file:
                change(file, "layers")
            return buffer.getvalue()

        rewritten(path, inner)
        return
    with h5py.File(path, "r+") as file:
        change(file, "layers" if path.name.endswith(".weights.h5") else "model_weights")
