"""Blocks and splitting of backbones and of classifiers built on them."""

import keras
import numpy as np
import pytest

from kerastl.errors import RequestError
from kerastl.models import (
    block_names,
    build_backbone,
    get_blocks,
    identify_backbone,
    list_backbones,
    split_at_block,
)
from kerastl.models.flatten import stable_names, without_values


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


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def test_classifier_has_the_blocks_of_its_backbone_without_the_head(backbone, classifier):
    assert get_blocks(classifier) == get_blocks(backbone)
    assert tuple(block.name for block in get_blocks(classifier)) == block_names("mobilenet_v2")
    in_blocks = {layer for block in get_blocks(classifier) for layer in block.layers}
    outside = {layer.name for layer in classifier.layers} - in_blocks
    assert outside == {"pooled", "head_dropout", "head"}


def test_classifier_is_recognized_by_the_layers_of_its_backbone(classifier):
    assert identify_backbone(classifier) == "mobilenet_v2"
    pixels = keras.Input((3,))
    assert identify_backbone(keras.Model(pixels, keras.layers.Dense(2)(pixels))) is None


@pytest.mark.parametrize("name", ["Conv1", "block_6"])
def test_splitting_keeps_the_outputs_of_a_classifier(classifier, name):
    trunk, tail = split_at_block(classifier, name)
    assert np.array_equal(predict(tail, trunk(images())), predict(classifier, images()))


@pytest.mark.slow
def test_splitting_shares_weights_and_keeps_the_model_intact(classifier, tmp_path):
    trunk, tail = split_at_block(classifier, "block_5")
    shared = {id(weight) for part in (trunk, tail) for weight in part.weights}
    assert shared == {id(weight) for weight in classifier.weights}
    split_at_block(classifier, "block_9")
    classifier.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert np.array_equal(predict(loaded, images()), predict(classifier, images()))
    assert classifier.get_layer("head").output is classifier.output


def test_only_the_edges_leave_each_block(backbone):
    """A tail that needs more inputs than the edges cannot be built."""
    operations = {operation.name: operation for operation in backbone.operations}
    for block in get_blocks(backbone)[:-1]:
        edge = [operations[name].output for name in block.edge]
        assert keras.Model(edge, backbone.output).output.shape == backbone.output.shape


def test_unknown_and_last_block_are_refused(backbone):
    with pytest.raises(RequestError, match="Did you mean 'block_5'"):
        split_at_block(backbone, "blok_5")
    with pytest.raises(RequestError, match="Nothing follows"):
        split_at_block(backbone, "Conv_1")


def test_model_without_a_known_backbone_is_refused():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs), name="flat")
    with pytest.raises(RequestError, match="'flat' is not built on a known backbone"):
        get_blocks(model)


@pytest.fixture(scope="module")
def narrow():
    return build_backbone("mobilenet_v3_small", weights="none", alpha=0.5, image_size_px=32)


@pytest.mark.slow
def test_narrow_network_with_residual_sums_has_complete_blocks(narrow):
    """At alpha 0.5 two widths of MobileNetV3 are equal, which adds a residual sum."""
    model = narrow
    edges = {block.name: block.edge for block in get_blocks(model)}
    assert edges["expanded_conv_6"] == ("expanded_conv_6_add",)
    trunk, tail = split_at_block(model, "expanded_conv_6")
    assert np.array_equal(predict(tail, trunk(images())), predict(model, images()))


@pytest.mark.slow
def test_nasnet_large_passes_two_cells_at_a_reduction():
    """The contract computes the output of both parts, those of NASNetMobile."""
    with without_values():
        model = build_backbone("nasnet_large", weights="none", image_size_px=32)
    edges = {block.name: block.edge for block in get_blocks(model)}
    assert edges["reduce_6"] == ("normal_concat_4", "reduction_concat_reduce_6")
    trunk, tail = split_at_block(model, "reduce_6")
    assert [tensor.shape for tensor in tail.inputs] == [tensor.shape for tensor in trunk.outputs]
    assert len(trunk.layers) + len(tail.layers) - len(tail.inputs) == len(model.layers)


@pytest.mark.slow
def test_layer_names_do_not_depend_on_earlier_models(narrow):
    again = build_backbone("mobilenet_v3_small", weights="none", alpha=0.5, image_size_px=32)
    assert [layer.name for layer in again.layers] == [layer.name for layer in narrow.layers]


def test_automatic_names_are_numbered_from_zero():
    layers = [keras.layers.ReLU(name=name) for name in ("re_lu_12", "re_lu_9", "own", "re_lu_100")]
    assert stable_names(layers) == {"re_lu_9": "re_lu", "re_lu_12": "re_lu_1", "re_lu_100": "re_lu_2"}


def test_block_patterns_have_placeholders_only_for_series():
    for name, backbone in list_backbones().items():
        for series in backbone.blocks:
            assert ("{}" in series.name) == bool(series.each), name
            assert ("{}" in series.edge) == bool(series.each), name
