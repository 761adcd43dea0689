"""Damaged and malicious files are reported as errors that name the file."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from model_files import KINDS, change_hdf5, rewritten, same_weights, saved, small_cnn_from

from kerastl.errors import RequestError


def test_code_in_a_model_is_not_executed(small_cnn, tmp_path):
    marker = tmp_path / "marker"

    def create_marker(values):
        marker.touch()
        return values

    model = keras.Model(small_cnn.input, keras.layers.Lambda(create_marker)(small_cnn.output))
    path = saved(model, tmp_path / "code.keras")
    marker.unlink()
    assert same_weights(small_cnn_from(path), small_cnn)
    assert not marker.exists()


def test_config_with_a_petabyte_layer_allocates_nothing(small_classifier, small_cnn, tmp_path):
    path = saved(small_classifier, tmp_path / "huge.keras")

    def enlarge(name, content):
        return content.replace(b'"units": 3', b'"units": 3' + b"0" * 12)

    rewritten(path, enlarge)
    with zipfile.ZipFile(path) as archive:
        assert b'"units": 3000000000000' in archive.read("config.json")
    assert same_weights(small_cnn_from(path), small_cnn)


def test_zip_bomb_is_refused_before_unpacking(small_classifier, tmp_path):
    path = saved(small_classifier, tmp_path / "bomb.keras")
    rewritten(path, lambda _, content: content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 * 2**20))
    with pytest.raises(RequestError, match=r"bomb\.keras .* would unpack from .* bytes"):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["layer", "array", "all layers"])
@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_not_followed(small_cnn, tmp_path, kind, where, link):
    path = saved(small_cnn, tmp_path / f"linked{kind}")
    own = saved(small_cnn, tmp_path / f"secret{'.h5' if kind == '.h5' else '.weights.h5'}")

    def insert_link(file, layers):
        layer = f"{layers}/block_1_conv" if kind == ".h5" else f"{layers}/conv2d"
        arrays = []
        file[layer].visititems(
            lambda name, entry: arrays.append(name) if isinstance(entry, h5py.Dataset) else None
        )
        target = {"layer": layer, "array": f"{layer}/{arrays[0]}", "all layers": layers}[where]
        if link == "external":
            del file[target]
            file[target] = h5py.ExternalLink(own, target)
        else:
            file.move(target, "elsewhere")
            file[target] = h5py.SoftLink("/elsewhere")

    change_hdf5(path, insert_link)
    with pytest.raises(RequestError, match=r"linked.* is a link, not an array of this file"):
        small_cnn_from(path)


def put(path, value):
    def change(file, layers):
        where = path.format(layers)
        if where in file:
            del file[where]
        file[where] = value

    return change


def name_layers(value):
    def change(file, layers):
        file[layers].attrs["layer_names"] = value

    return change


MALFORMED = [
    *((kind, put("{}", np.arange(3))) for kind in KINDS),
    *((kind, put("{}", np.array([b"text"]))) for kind in KINDS),
    (".weights.h5", put("{}/conv2d", np.arange(3))),
    (".weights.h5", put("{}/conv2d/vars", np.arange(3))),
    (".weights.h5", put("{}/conv2d/vars/0", np.full((3, 3, 3, 32), b"x"))),
    (".weights.h5", put("{}/conv2d/vars/first", np.arange(3))),
    (".h5", put("{}/block_1_conv", np.arange(3))),
    (".h5", name_layers(5)),
    (".h5", name_layers([b"\xff"])),
    (".h5", name_layers(["nowhere"])),
    (".h5", name_layers([1.5])),
]


@pytest.mark.parametrize(("kind", "change"), MALFORMED)
def test_malformed_hdf5_file_is_reported(small_cnn, tmp_path, kind, change):
    path = saved(small_cnn, tmp_path / f"malformed{kind}")
    change_hdf5(path, change)
    with pytest.raises(RequestError, match=r"malformed.*cannot be read as a weights file"):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_hdf5_file_without_a_model_is_reported(tmp_path, kind):
    path = tmp_path / f"other{kind}"
    with h5py.File(path, "w") as file:
        file["table"] = np.arange(3)
    with pytest.raises(RequestError, match="other"):
        small_cnn_from(path)


def nested(depth):
    return b'{"a":' * depth + b"0" + b"}" * depth


@pytest.mark.parametrize(
    "config",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"config": 3}', b'{"config": {"layers": 3}}',
        b'{"config": {"layers": [{"class_name": 3}]}}', nested(100_000),
        b'{"config": {"layers": [{"class_name": "Conv2D", "config": {"name": []}}]}}',
        b'{"config": {"layers": [{"class_name": "Conv2D", "config": null}]}}', b"\xff\xfe",
    ],
    ids=range(12),
)  # fmt: skip
def test_malformed_config_is_reported(small_cnn, tmp_path, config):
    path = saved(small_cnn, tmp_path / "malformed.keras")
    rewritten(path, lambda name, content: config if name == "config.json" else content)
    with pytest.raises(RequestError, match=r"malformed\.keras cannot be read as a weights file"):
        small_cnn_from(path)


@pytest.mark.parametrize("entry", ["config.json", "model.weights.h5"])
def test_incomplete_keras_file_is_reported(small_cnn, tmp_path, entry):
    path = saved(small_cnn, tmp_path / "incomplete.keras")
    with zipfile.ZipFile(path) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != entry}
    assert len(rest) == 2
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in rest.items():
            archive.writestr(name, content)
    with pytest.raises(RequestError, match=r"incomplete\.keras.*" + entry):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_or_modified_file_never_raises_another_error(small_cnn, tmp_path, kind):
    whole = saved(small_cnn, tmp_path / f"whole{kind}").read_bytes()
    random = np.random.default_rng(7)
    for number, offset in enumerate(random.integers(0, 4096, 12)):
        damaged = bytearray(whole[: len(whole) // 2] if number % 3 == 0 else whole)
        damaged[offset] ^= 0xFF
        path = Path(tmp_path / f"damaged_{number}{kind}")
        path.write_bytes(damaged)
        message = ""
        try:
            small_cnn_from(path)
        except RequestError as error:
            message = str(error)
        assert not message or path.name in message
