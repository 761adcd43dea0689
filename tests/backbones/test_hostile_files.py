"""Files that are damaged, or made to do harm: an error that names the file, and nothing else."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from handed_in import KINDS, change_hdf5, rewritten, same_weights, saved, small_cnn_from

from kerastl.errors import RequestError


def test_code_in_a_model_is_never_run(small_cnn, tmp_path):
    marker = tmp_path / "marker"

    def leave_a_trace(values):
        marker.touch()
        return values

    model = keras.Model(small_cnn.input, keras.layers.Lambda(leave_a_trace)(small_cnn.output))
    path = saved(model, tmp_path / "code.keras")
    marker.unlink()
    assert same_weights(small_cnn_from(path), small_cnn)
    assert not marker.exists()


def test_a_config_that_asks_for_a_petabyte_costs_nothing(small_classifier, small_cnn, tmp_path):
    path = saved(small_classifier, tmp_path / "lies.keras")

    def lie(name, content):
        return content.replace(b'"units": 3', b'"units": 3' + b"0" * 12)

    rewritten(path, lie)
    with zipfile.ZipFile(path) as archive:
        assert b'"units": 3000000000000' in archive.read("config.json")
    assert same_weights(small_cnn_from(path), small_cnn)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(small_classifier, tmp_path):
    path = saved(small_classifier, tmp_path / "bomb.keras")
    rewritten(path, lambda _, content: content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 * 2**20))
    with pytest.raises(RequestError, match=r"bomb\.keras .* would unpack from .* bytes"):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["layer", "array", "all layers"])
@pytest.mark.parametrize("link", ["external", "soft"])
def test_nothing_behind_a_link_is_read(small_cnn, tmp_path, kind, where, link):
    path = saved(small_cnn, tmp_path / f"linked{kind}")
    own = saved(small_cnn, tmp_path / f"secret{'.h5' if kind == '.h5' else '.weights.h5'}")

    def lead_out(file, layers):
        layer = f"{layers}/block_1_conv" if kind == ".h5" else f"{layers}/conv2d"
        arrays = []
        file[layer].visititems(
            lambda name, found: arrays.append(name) if isinstance(found, h5py.Dataset) else None
        )
        target = {"layer": layer, "array": f"{layer}/{arrays[0]}", "all layers": layers}[where]
        if link == "external":
            del file[target]
            file[target] = h5py.ExternalLink(own, target)
        else:
            file.move(target, "elsewhere")
            file[target] = h5py.SoftLink("/elsewhere")

    change_hdf5(path, lead_out)
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


STRANGE = [
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


@pytest.mark.parametrize(("kind", "change"), STRANGE)
def test_a_strange_hdf5_file_is_an_error_that_names_it(small_cnn, tmp_path, kind, change):
    path = saved(small_cnn, tmp_path / f"strange{kind}")
    change_hdf5(path, change)
    with pytest.raises(RequestError, match=r"strange.*cannot be read as a weights file"):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_an_hdf5_file_of_something_else_is_an_error(tmp_path, kind):
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
def test_a_strange_config_is_an_error_that_names_the_file(small_cnn, tmp_path, config):
    path = saved(small_cnn, tmp_path / "strange.keras")
    rewritten(path, lambda name, content: config if name == "config.json" else content)
    with pytest.raises(RequestError, match=r"strange\.keras cannot be read as a weights file"):
        small_cnn_from(path)


@pytest.mark.parametrize("entry", ["config.json", "model.weights.h5"])
def test_a_keras_file_that_lacks_a_part_is_an_error_that_names_it(small_cnn, tmp_path, entry):
    path = saved(small_cnn, tmp_path / "lacking.keras")
    with zipfile.ZipFile(path) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != entry}
    assert len(rest) == 2
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in rest.items():
            archive.writestr(name, content)
    with pytest.raises(RequestError, match=r"lacking\.keras.*" + entry):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_or_with_one_byte_changed_never_ends_in_a_traceback(small_cnn, tmp_path, kind):
    whole = saved(small_cnn, tmp_path / f"whole{kind}").read_bytes()
    random = np.random.default_rng(7)
    for number, place in enumerate(random.integers(0, 4096, 12)):
        spoilt = bytearray(whole[: len(whole) // 2] if number % 3 == 0 else whole)
        spoilt[place] ^= 0xFF
        path = Path(tmp_path / f"spoilt_{number}{kind}")
        path.write_bytes(spoilt)
        said = ""
        try:
            small_cnn_from(path)
        except RequestError as error:
            said = str(error)
        assert not said or path.name in said
