"""Every backbone against keras.applications: networks, pixels, blocks, files."""

import importlib
import inspect
import sys

import pytest
from backbone_families import QUICK, SMALLEST

from kerastl import registry
from kerastl.models import block_names, table
from kerastl.testing import check_backbone

BORROWED = [name for name, backbone in table().items() if backbone.weights]


def builder_of(name: str):
    path, _, function = table()[name].builder.rpartition(".")
    return getattr(importlib.import_module(path), function)


def test_every_family_is_checked_by_its_smallest_member():
    families = {registry.module("backbone", name).__name__.split(".")[-1] for name in table()}
    assert families == set(SMALLEST)
    for family, member in SMALLEST.items():
        members = registry.module("backbone", member.name).BACKBONES
        smallest = min(one.parameters for one in members.values())
        assert table()[member.name].parameters == smallest, family


def test_all_of_keras_applications_is_there():
    import keras

    published = {
        one for one in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, one))
    }
    assert {table()[name].builder.split(".")[-1] for name in BORROWED} == published


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(member, id=family, marks=() if family in QUICK else pytest.mark.slow)
        for family, member in SMALLEST.items()
    ],
)
def test_a_family_fulfills_the_backbone_contract(member):
    check_backbone(member.name, image_size_px=member.image_size_px)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("efficientnet_v2_s", 32), ("mobilenet_v3_large", 32)])
def test_a_member_that_differs_from_its_family_fulfills_the_contract(name, size):
    check_backbone(name, image_size_px=size)


@pytest.mark.parametrize("name", BORROWED)
def test_a_table_agrees_with_its_builders_signature(name):
    backbone, builder = table()[name], builder_of(name)
    parameters = inspect.signature(builder).parameters
    assert {"include_top", "weights", "input_shape"} <= set(parameters)
    assert {key for key, _ in backbone.arguments} <= set(parameters)
    options = registry.options_of("backbone", name)
    for option, field in options.model_fields.items() if options else ():
        assert parameters[option].default == field.default
    assert 0.5 < backbone.top1 < 1
    assert backbone.min_size_px <= backbone.image_size_px


@pytest.mark.parametrize("name", BORROWED)
def test_published_hashes_are_those_that_keras_checks(name):
    source = inspect.getsource(sys.modules[builder_of(name).__module__])
    source += inspect.getsource(importlib.import_module("keras.src.applications.resnet"))
    hashes = [text for row in table()[name].weights for text in (row.hash, row.top_hash) if text]
    assert bool(hashes) == (name not in ("mobilenet", "mobilenet_v2"))
    assert all(text in source for text in hashes)


@pytest.mark.parametrize("name", sorted(table()))
def test_block_names_are_unique_and_several(name):
    names = block_names(name)
    assert len(names) == len(set(names)) >= 3


def asked_of_keras(monkeypatch, name, *, top, size, options):
    """Return file, URL and hash that Keras asks for, without giving it anything."""
    from keras.src.utils import file_utils

    class AskedError(Exception):
        pass

    def ask(fname, origin, file_hash=None, **_):
        raise AskedError(fname, origin, file_hash or "")

    monkeypatch.setattr(file_utils, "get_file", ask)
    shape = {} if top else {"input_shape": (size, size, 3)}
    with pytest.raises(AskedError) as asked:
        builder_of(name)(include_top=top, **shape, **options)
    return asked.value.args


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [member[:2] for member in SMALLEST.values() if member.name != "small_cnn"]
)
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_keras_asks_for_the_files_of_the_table(monkeypatch, name, size, top):
    rows = [row for row in table()[name].weights if row.size_px in (None, 224)]
    row = next(row for row in rows if dict(row.options).get("alpha", 1.0) == 1.0)
    wanted = (row.top_file, row.top_url, row.top_hash) if top else (row.file, row.url, row.hash)
    assert asked_of_keras(monkeypatch, name, top=top, size=size, options={}) == wanted


@pytest.mark.parametrize(
    ("name", "size", "alpha"),
    [("mobilenet_v2", 96, 0.35), ("mobilenet_v2", 224, 1.4), ("mobilenet", 128, 0.25)],
)
def test_keras_asks_for_the_file_of_a_size_and_an_alpha(monkeypatch, name, size, alpha):
    from kerastl.models import published_weights

    row = published_weights(name, image_size_px=size, alpha=alpha)[0]
    asked = asked_of_keras(monkeypatch, name, top=False, size=size, options={"alpha": alpha})
    assert asked == (row.file, row.url, "")
