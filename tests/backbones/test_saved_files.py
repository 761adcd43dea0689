"""Files that people hand in: whole classifiers, published tops, and other architectures."""

import json
import zipfile

import keras
import numpy as np
import pytest
from handed_in import KINDS, change_hdf5, same_weights, saved, small_cnn_from

from kerastl.errors import RequestError
from kerastl.models import build_backbone


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_saved_alone_gives_its_backbone(small_classifier, small_cnn, tmp_path, kind):
    path = saved(small_classifier, tmp_path / f"last_good{kind}")
    assert same_weights(small_cnn_from(path), small_cnn)


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
    assert f"layer {layer}: the file has weights for it, but {shallow} has no such layer" in str(error.value)


def test_a_layer_with_more_arrays_than_the_networks_own_is_refused(tmp_path):
    model = build_backbone("small_cnn", weights="none", image_size_px=32)
    convolution = next(one for one in model.layers if isinstance(one, keras.layers.Conv2D))
    assert not convolution.use_bias
    path = saved(model, tmp_path / "more.keras")
    change_hdf5(path, lambda file, _: file.create_dataset("layers/conv2d/vars/1", data=[0.0] * 32))
    with pytest.raises(RequestError, match="expected 1 arrays of weights, found 2"):
        small_cnn_from(path)


@pytest.mark.slow
def test_efficientnet_in_a_keras_file_is_asked_which_pixels_it_learnt_on(tmp_path):
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "own.keras"
    network.save(path)
    with pytest.raises(RequestError, match="trained with another preprocessing"):
        build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    normalization = next(one for one in network.layers if type(one).__name__ == "Normalization")
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
    network.save(path)
    ours = build_backbone("efficientnet_b0", image_size_px=32, weights=path)
    assert same_weights_but_first(ours, network, 3)


def same_weights_but_first(ours, theirs, left_out):
    pairs = list(zip(ours.get_weights(), theirs.get_weights()[left_out:], strict=True))
    return all(np.array_equal(one, other) for one, other in pairs)


def test_the_config_is_read_as_keras_writes_it(small_classifier, tmp_path):
    """The names in `config.json` are those that Keras 3.15 also writes beside the arrays."""
    from kerastl.models.weight_files import saved_layers

    path = saved(small_classifier, tmp_path / "model.keras")
    with saved_layers(path) as layers, zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        assert [one.name for one in layers] == [one["config"]["name"] for one in config["config"]["layers"]]
        beside = {one.name: one.arrays[0].parent.attrs["name"] for one in layers if one.arrays}
    assert len(beside) == 7
    assert all(name == found for name, found in beside.items())
