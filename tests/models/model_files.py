"""Save models in all file formats, and alter their content."""

import io
import zipfile
from functools import cache

import h5py
import numpy as np

from kerastl.models import build_source, get_backbone
from kerastl.models.flatten import flatten
from kerastl.models.weight_files import load_weights_file

KINDS = (".weights.h5", ".h5", ".keras")


def saved(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def save_without_config(model, path):
    """Save a model like the published files, which hold weights only."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]


def same_weights(first, second):
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return bool(pairs) and all(np.array_equal(left, right) for left, right in pairs)


@cache
def small_cnn_parts():
    """Build the network into which every test loads its file, because building takes longer than loading."""
    source = build_source("small_cnn", image_size_px=32, seed=2)
    return source, *flatten(source, pixels=get_backbone("small_cnn").pixels, name="small_cnn")


def small_cnn_from(path):
    """Return a small CNN with the weights of a file; its earlier weights are erased first."""
    source, model, copies = small_cnn_parts()
    model.set_weights([np.zeros_like(values) for values in model.get_weights()])
    load_weights_file(path, source, model, copies)
    return model


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
