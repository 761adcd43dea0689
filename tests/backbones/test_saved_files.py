"""Files that people hand in: other architectures, whole classifiers, damaged ones and hostile ones."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from kerastl.backbones import build_backbone
from kerastl.errors import RequestError
from kerastl.training import build_model

KINDS = (".weights.h5", ".h5", ".keras")


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)


@pytest.fixture(scope="module")
def classifier(backbone):
    return build_model(backbone, class_names=("a", "b", "c"))


def saved(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def same_weights(first, second):
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return bool(pairs) and all(np.array_equal(one, other) for one, other in pairs)


def small_cnn_from(path):
    return build_backbone("small_cnn", weights=path, image_size_px=32, seed=2)


def rewritten(path, change):
    """Write a `.keras` file anew, each entry after `change(name, bytes)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def change_hdf5(path, change):
    """Let `change(file, folder of the layers)` alter the HDF5 part of a file of any kind."""
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_saved_alone_gives_its_backbone(classifier, backbone, tmp_path, kind):
    path = saved(classifier, tmp_path / f"last_good{kind}")
    assert same_weights(small_cnn_from(path), backbone)


def test_a_published_network_with_its_top_gives_its_body(tmp_path):
    network = keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3))
    network.save(tmp_path / "top.keras")
    body = build_backbone("mobilenet", alpha=0.25, image_size_px=32, weights=tmp_path / "top.keras")
    top = network.get_layer("conv_preds").get_weights()
    assert len(body.get_weights()) == len(network.get_weights()) - len(top)
    assert np.array_equal(body.get_weights()[-1], network.get_weights()[-1 - len(top)])


@pytest.mark.parametrize(
    ("deep", "shallow", "layer"),
    [
        ("vgg19", "vgg16", "block3_conv4"),
        pytest.param("resnet101", "resnet50", "conv4_block7_1_conv", marks=pytest.mark.slow),
    ],
)
def test_a_deeper_network_of_the_same_names_is_refused_by_the_layer_it_has_more(
    tmp_path, deep, shallow, layer
):
    path = saved(build_backbone(deep, weights="none", image_size_px=32), tmp_path / "deep.keras")
    with pytest.raises(RequestError) as error:
        build_backbone(shallow, weights=path, image_size_px=32)
    assert f"layer {layer}: the file has weights for it, {shallow} has no such layer" in str(
        error.value
    )


def test_a_layer_with_more_arrays_than_the_networks_own_is_refused(tmp_path):
    model = build_backbone("small_cnn", weights="none", image_size_px=32)
    convolution = next(one for one in model.layers if isinstance(one, keras.layers.Conv2D))
    assert not convolution.use_bias
    path = saved(model, tmp_path / "more.keras")
    change_hdf5(path, lambda file, _: file.create_dataset("layers/conv2d/vars/1", data=[0.0] * 32))
    with pytest.raises(RequestError, match="expected 1 arrays of weights, found 2"):
        small_cnn_from(path)


def test_code_in_a_model_is_never_run(backbone, tmp_path):
    marker = tmp_path / "marker"

    def leave_a_trace(values):
        marker.touch()
        return values

    model = keras.Model(backbone.input, keras.layers.Lambda(leave_a_trace)(backbone.output))
    path = saved(model, tmp_path / "code.keras")
    marker.unlink()
    assert same_weights(small_cnn_from(path), backbone)
    assert not marker.exists()


def test_a_config_that_asks_for_a_petabyte_costs_nothing(classifier, backbone, tmp_path):
    path = saved(classifier, tmp_path / "lies.keras")

    def lie(name, content):
        return content.replace(b'"units": 3', b'"units": 3' + b"0" * 12)

    rewritten(path, lie)
    with zipfile.ZipFile(path) as archive:
        assert b'"units": 3000000000000' in archive.read("config.json")
    assert same_weights(small_cnn_from(path), backbone)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(classifier, tmp_path):
    path = saved(classifier, tmp_path / "bomb.keras")
    rewritten(path, lambda _, content: content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 * 2**20))
    with pytest.raises(RequestError, match=r"bomb\.keras .* would unpack from .* bytes"):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["layer", "array", "all layers"])
@pytest.mark.parametrize("link", ["external", "soft"])
def test_nothing_behind_a_link_is_read(backbone, tmp_path, kind, where, link):
    path = saved(backbone, tmp_path / f"linked{kind}")
    own = saved(backbone, tmp_path / f"secret{'.h5' if kind == '.h5' else '.weights.h5'}")

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
def test_a_strange_hdf5_file_is_an_error_that_names_it(backbone, tmp_path, kind, change):
    path = saved(backbone, tmp_path / f"strange{kind}")
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
def test_a_strange_config_is_an_error_that_names_the_file(backbone, tmp_path, config):
    path = saved(backbone, tmp_path / "strange.keras")
    rewritten(path, lambda name, content: config if name == "config.json" else content)
    with pytest.raises(RequestError, match=r"strange\.keras cannot be read as a weights file"):
        small_cnn_from(path)


@pytest.mark.parametrize("entry", ["config.json", "model.weights.h5"])
def test_a_keras_file_that_lacks_a_part_is_an_error_that_names_it(backbone, tmp_path, entry):
    path = saved(backbone, tmp_path / "lacking.keras")
    with zipfile.ZipFile(path) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != entry}
    assert len(rest) == 2
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in rest.items():
            archive.writestr(name, content)
    with pytest.raises(RequestError, match=r"lacking\.keras.*" + entry):
        small_cnn_from(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_or_with_one_byte_changed_never_ends_in_a_traceback(
    backbone, tmp_path, kind
):
    whole = saved(backbone, tmp_path / f"whole{kind}").read_bytes()
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


@pytest.mark.slow
def test_efficientnet_in_a_keras_file_is_asked_which_pixels_it_learnt_on(tmp_path):
    network = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    path = tmp_path / "own.keras"
    network.save(path)
    with pytest.raises(RequestError, match="learnt on other pixels"):
        build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    normalization = next(one for one in network.layers if type(one).__name__ == "Normalization")
    normalization.set_weights(
        [np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)]
    )
    network.save(path)
    ours = build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    assert same_weights_but_first(ours, network, 3)


def same_weights_but_first(ours, theirs, left_out):
    pairs = list(zip(ours.get_weights(), theirs.get_weights()[left_out:], strict=True))
    return all(np.array_equal(one, other) for one, other in pairs)


def test_the_config_is_read_as_keras_writes_it(classifier, tmp_path):
    """The names in `config.json` are those that Keras 3.15 also writes beside the arrays."""
    from kerastl.backbones.keras_file import saved_layers

    path = saved(classifier, tmp_path / "model.keras")
    with saved_layers(path) as layers, zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        assert [one.name for one in layers] == [
            one["config"]["name"] for one in config["config"]["layers"]
        ]
        beside = {one.name: one.arrays[0].parent.attrs["name"] for one in layers if one.arrays}
    assert len(beside) == 7
    assert all(name == found for name, found in beside.items())
