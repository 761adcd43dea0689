"""Weights from whole classifiers, published networks with top, and other architectures."""

import json
import zipfile

import keras
import numpy as np
import pytest
from model_files import KINDS, change_hdf5, same_weights, saved, small_cnn_from

from kerastl.errors import RequestError
from kerastl.models import build_backbone


@pytest.mark.parametrize("kind", KINDS)
def test_backbone_loads_from_a_saved_classifier(small_classifier, small_cnn, tmp_path, kind):
    path = saved(small_classifier, tmp_path / f"last_good{kind}")
    assert same_weights(small_cnn_from(path), small_cnn)


def test_backbone_loads_from_a_network_with_top(tmp_path):
    network = keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3))
    pixels = keras.layers.Rescaling(1 / 127.5, offset=-1)
    keras.Sequential([keras.Input((32, 32, 3)), pixels, network]).save(tmp_path / "top.keras")
    body = build_backbone("mobilenet", alpha=0.25, image_size_px=32, weights=tmp_path / "top.keras")
    top = network.get_layer("conv_preds").get_weights()
    assert len(body.get_weights()) == len(network.get_weights()) - len(top)
    assert np.array_equal(body.get_weights()[-1], network.get_weights()[-1 - len(top)])


@pytest.mark.parametrize(
    ("deep", "shallow", "layer"),
    [("vgg19", "vgg16", "block3_conv4"), ("resnet101", "resnet50", "conv4_block7_1_conv")],
)
@pytest.mark.slow
def test_deeper_network_is_refused_with_its_additional_layer(tmp_path, deep, shallow, layer):
    path = saved(build_backbone(deep, weights="none", image_size_px=32), tmp_path / "deep.keras")
    with pytest.raises(RequestError) as error:
        build_backbone(shallow, weights=path, image_size_px=32)
    assert f"layer {layer}: the file has weights for it, but {shallow} has no such layer" in str(error.value)


def test_additional_layer_in_the_middle_is_refused(small_cnn, tmp_path):
    convolution = keras.layers.Conv2D(32, 1, name="block_1_more")

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        return convolution(outputs) if layer.name == "block_1_relu" else outputs

    deeper = keras.models.clone_model(small_cnn, clone_function=same_layer, call_function=call)
    path = saved(deeper, tmp_path / "deep.keras")
    with pytest.raises(RequestError) as error:
        small_cnn_from(path)
    assert "layer block_1_more: the file has weights for it, but small_cnn has no such layer" in str(
        error.value
    )


def same_layer(layer):
    return type(layer).from_config(layer.get_config())


def test_layer_with_too_many_arrays_is_refused(small_cnn, tmp_path):
    convolution = next(layer for layer in small_cnn.layers if isinstance(layer, keras.layers.Conv2D))
    assert not convolution.use_bias
    path = saved(small_cnn, tmp_path / "more.keras")
    change_hdf5(path, lambda file, _: file.create_dataset("layers/conv2d/vars/1", data=[0.0] * 32))
    with pytest.raises(RequestError, match="expected 1 arrays of weights, found 2"):
        small_cnn_from(path)


@pytest.mark.slow
def test_efficientnet_with_other_preprocessing_is_refused(tmp_path):
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "own.keras"
    network.save(path)
    with pytest.raises(RequestError, match="trained with different preprocessing"):
        build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    normalization = next(layer for layer in network.layers if type(layer).__name__ == "Normalization")
    variance = np.array([0.229, 0.224, 0.225]) ** 2
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), variance, np.array(0)])
    network.save(path)
    ours = build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    assert same_weights_but_first(ours, network, 3)


def same_weights_but_first(ours, theirs, num_skipped):
    pairs = list(zip(ours.get_weights(), theirs.get_weights()[num_skipped:], strict=True))
    return all(np.array_equal(left, right) for left, right in pairs)


def test_config_names_match_the_stored_names(small_classifier, tmp_path):
    """Keras 3.15 also writes the names in `config.json` next to the arrays."""
    from kerastl.models.weight_files import saved_layers

    path = saved(small_classifier, tmp_path / "model.keras")
    with saved_layers(path) as layers, zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        assert [layer.name for layer in layers] == [
            layer["config"]["name"] for layer in config["config"]["layers"]
        ]
        stored = {layer.name: layer.arrays[0].parent.attrs["name"] for layer in layers if layer.arrays}
    assert len(stored) == 7
    assert all(name == stored_name for name, stored_name in stored.items())
