"""Blocks and cuts, on backbones and on classifiers built upon them."""

import keras
import numpy as np
import pytest

from kerastl.errors import RequestError
from kerastl.models import block_names, blocks_of, build_backbone, cut, network_name, table
from kerastl.models.flatten import stable_names


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("mobilenet_v2", weights="none", alpha=0.35, image_size_px=32, seed=1)


@pytest.fixture(scope="module")
def classifier(backbone):
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    dropped = keras.layers.Dropout(0.2, name="head_dropout")(pooled)
    return keras.Model(backbone.input, keras.layers.Dense(3, name="head")(dropped), name="own")


def images():
    return np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def answer(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def test_a_classifier_has_the_blocks_of_its_backbone_and_a_head_in_none(backbone, classifier):
    assert blocks_of(classifier) == blocks_of(backbone)
    assert tuple(block.name for block in blocks_of(classifier)) == block_names("mobilenet_v2")
    held = {layer for block in blocks_of(classifier) for layer in block.layers}
    left = {layer.name for layer in classifier.layers} - held
    assert left == {"pooled", "head_dropout", "head"}


def test_a_classifier_is_recognized_by_the_layers_of_its_backbone(classifier):
    assert network_name(classifier) == "mobilenet_v2"
    pixels = keras.Input((3,))
    assert network_name(keras.Model(pixels, keras.layers.Dense(2)(pixels))) is None


@pytest.mark.parametrize("name", ["Conv1", "block_5", "block_6", "Conv_1"])
def test_a_classifier_is_cut_without_changing_its_answer(classifier, name):
    trunk, tail = cut(classifier, name)
    assert np.array_equal(answer(tail, trunk(images())), answer(classifier, images()))


def test_a_cut_shares_its_weights_and_spoils_neither_saving_nor_reading_the_model(classifier, tmp_path):
    trunk, tail = cut(classifier, "block_5")
    held = {id(weight) for part in (trunk, tail) for weight in part.weights}
    assert held == {id(weight) for weight in classifier.weights}
    cut(classifier, "block_9")
    classifier.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert np.array_equal(answer(again, images()), answer(classifier, images()))
    assert classifier.get_layer("head").output is classifier.output


def test_nothing_but_the_edge_crosses_at_any_block(backbone):
    """Take the edges for inputs: a tail that needed more could not be built."""
    operations = {operation.name: operation for operation in backbone.operations}
    for block in blocks_of(backbone)[:-1]:
        edge = [operations[name].output for name in block.edge]
        assert keras.Model(edge, backbone.output).output.shape == backbone.output.shape


def test_an_unknown_block_and_the_last_one_are_refused(backbone):
    with pytest.raises(RequestError, match="Did you mean 'block_5'"):
        cut(backbone, "blok_5")
    with pytest.raises(RequestError, match="Nothing follows"):
        cut(backbone, "Conv_1")


def test_a_model_of_another_kind_is_told_so():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs), name="flat")
    with pytest.raises(RequestError, match="'flat' is not built on a known backbone"):
        blocks_of(model)


def test_a_narrow_network_whose_widths_coincide_still_has_whole_blocks():
    """At alpha 0.5 two widths of MobileNetV3 become one, and a residual sum appears."""
    model = build_backbone("mobilenet_v3_small", weights="none", alpha=0.5, image_size_px=32)
    edges = {block.name: block.edge for block in blocks_of(model)}
    assert edges["expanded_conv_6"] == ("expanded_conv_6_add",)
    trunk, tail = cut(model, "expanded_conv_6")
    assert np.array_equal(answer(tail, trunk(images())), answer(model, images()))


@pytest.mark.slow
def test_the_large_nasnet_hands_on_the_cell_before_last_at_a_reduction():
    model = build_backbone("nasnet_large", weights="none", image_size_px=32)
    edges = {block.name: block.edge for block in blocks_of(model)}
    assert edges["reduce_6"] == ("normal_concat_4", "reduction_concat_reduce_6")
    trunk, tail = cut(model, "reduce_6")
    assert np.array_equal(answer(tail, trunk(images())), answer(model, images()))


def test_names_do_not_depend_on_what_was_built_before():
    first, second = (
        [layer.name for layer in build_backbone("mobilenet_v3_small", weights="none", image_size_px=32).layers]
        for _ in range(2)
    )  # fmt: skip
    assert first == second


def test_automatic_names_are_counted_from_the_beginning_in_order_of_creation():
    layers = [keras.layers.ReLU(name=name) for name in ("re_lu_12", "re_lu_9", "own", "re_lu_100")]
    assert stable_names(layers) == {"re_lu_9": "re_lu", "re_lu_12": "re_lu_1", "re_lu_100": "re_lu_2"}


def test_every_edge_of_every_table_is_written_with_its_pattern_filled():
    for name, backbone in table().items():
        for series in backbone.blocks:
            assert ("{}" in series.name) == bool(series.each), name
            assert ("{}" in series.edge) == bool(series.each), name
