"""All backbones against keras.applications: networks, preprocessing, blocks, files."""

import importlib
import inspect
import re
import sys
from collections import defaultdict

import pytest
from backbone_families import SMALLEST, by_family

from kerastl import registry
from kerastl.models import block_names, build_backbone, build_source, get_backbone, list_backbones
from kerastl.models.flatten import flatten, without_values
from kerastl.testing import check_backbone

PUBLISHED = [name for name, backbone in list_backbones().items() if backbone.weights]


def get_builder(name: str):
    path, _, function = list_backbones()[name].builder.rpartition(".")
    return getattr(importlib.import_module(path), function)


def test_each_architecture_is_represented_by_its_smallest_member():
    members = defaultdict(set)
    for name in list_backbones():
        architecture = re.sub(r"\d\d$", "", get_builder(name).__module__)  # vgg16 and vgg19 are one
        members[architecture].add(name)
    smallest = {min(names, key=lambda name: list_backbones()[name].parameters) for names in members.values()}
    assert smallest == {member.name for member in SMALLEST.values()}


def test_all_networks_of_keras_applications_are_available():
    import keras

    published = {
        name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))
    }
    assert {list_backbones()[name].builder.split(".")[-1] for name in PUBLISHED} == published


@pytest.mark.parametrize("member", by_family("small_cnn"))
def test_family_fulfills_the_backbone_contract(member):
    check_backbone(member.name, image_size_px=member.image_size_px)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("efficientnet_v2_s", 32), ("mobilenet_v3_large", 32)])
def test_members_that_differ_from_their_family_fulfill_the_contract(name, size):
    check_backbone(name, image_size_px=size)


def test_initial_values_do_not_depend_on_those_of_the_network_that_is_copied():
    """`build_backbone` builds that network without values; the layers that are built afterwards have values."""
    source = build_source("small_cnn", image_size_px=32, seed=3)
    expected, _ = flatten(source, pixels=get_backbone("small_cnn").pixels, name="small_cnn")
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
    for weight, value in zip(backbone.weights, expected.weights, strict=True):
        assert weight.numpy().tobytes() == value.numpy().tobytes()


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_agrees_with_the_signature_of_its_builder(name):
    backbone, builder = list_backbones()[name], get_builder(name)
    parameters = inspect.signature(builder).parameters
    assert {"include_top", "weights", "input_shape"} <= set(parameters)
    assert {key for key, _ in backbone.arguments} <= set(parameters)
    options = registry.options_of("backbone", name)
    for option, field in options.model_fields.items() if options else ():
        assert parameters[option].default == field.default
    assert 0.5 < backbone.top1 < 1
    assert backbone.min_size_px <= backbone.image_size_px


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_hashes_equal_those_of_keras(name):
    source = inspect.getsource(sys.modules[get_builder(name).__module__])
    source += inspect.getsource(importlib.import_module("keras.src.applications.resnet"))
    hashes = [text for row in list_backbones()[name].weights for text in (row.hash, row.top_hash) if text]
    assert bool(hashes) == (name not in ("mobilenet", "mobilenet_v2"))
    assert all(text in source for text in hashes)


@pytest.mark.parametrize("name", sorted(list_backbones()))
def test_block_names_are_unique(name):
    names = block_names(name)
    assert len(names) == len(set(names)) >= 3


def requested_file(monkeypatch, name, *, top, size, options):
    """Return the file name, URL and hash that Keras requests for its weights."""
    from keras.src.utils import file_utils

    class RequestedFile(Exception):
        pass

    def get_file(fname, origin, file_hash=None, **_):
        raise RequestedFile(fname, origin, file_hash or "")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    shape = {} if top else {"input_shape": (size, size, 3)}
    with without_values(), pytest.raises(RequestedFile) as request:
        get_builder(name)(include_top=top, **shape, **options)
    return request.value.args


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [member[:2] for member in SMALLEST.values() if member.name != "small_cnn"]
)
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_keras_requests_the_files_of_the_table(monkeypatch, name, size, top):
    rows = [row for row in list_backbones()[name].weights if row.size_px in (None, 224)]
    row = next(row for row in rows if dict(row.options).get("alpha", 1.0) == 1.0)
    expected = (row.top_file, row.top_url, row.top_hash) if top else (row.file, row.url, row.hash)
    assert requested_file(monkeypatch, name, top=top, size=size, options={}) == expected


@pytest.mark.parametrize(
    ("name", "size", "alpha"),
    [
        ("mobilenet", 128, 0.25),
        pytest.param("mobilenet_v2", 96, 0.35, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 224, 1.4, marks=pytest.mark.slow),
    ],
)
def test_keras_requests_the_file_of_a_size_and_alpha(monkeypatch, name, size, alpha):
    from kerastl.models import published_weights

    row = published_weights(name, image_size_px=size, alpha=alpha)[0]
    requested = requested_file(monkeypatch, name, top=False, size=size, options={"alpha": alpha})
    assert requested == (row.file, row.url, "")
