"""Verification of cached files against their published hashes."""

import hashlib
import shutil

import numpy as np
import pytest
from model_files import save_without_config

from kerastl.errors import RequestError
from kerastl.models import PublishedWeights, build_backbone, build_source, read_imagenet_head, weights


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def publish(monkeypatch, row):
    monkeypatch.setattr(weights, "published_weights", lambda *_, **__: [row])


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_file_with_one_changed_byte_is_refused(models, monkeypatch, algorithm):
    source = build_source("small_cnn", image_size_px=32, seed=1)
    path = models / "small.h5"
    save_without_config(source, path)
    content = path.read_bytes()
    digest = hashlib.new(algorithm, content).hexdigest()
    publish(monkeypatch, PublishedWeights(path.name, "u", digest, "t.h5", "u", ""))
    model = build_backbone("small_cnn", image_size_px=32)
    kernel = source.get_layer("block_1_conv").get_weights()[0]
    assert np.array_equal(model.get_layer("block_1_conv").get_weights()[0], kernel)
    offset = content.index(kernel.tobytes())
    path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
    with pytest.raises(RequestError) as error:
        build_backbone("small_cnn", image_size_px=32)
    assert f"{path} is not the published weights" in str(error.value)
    assert "kerastl weights fetch small_cnn" in str(error.value)
    assert build_backbone("small_cnn", image_size_px=32, weights=path)


def test_other_file_with_a_published_name_is_refused(models):
    (models / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"other")
    with pytest.raises(RequestError) as error:
        build_backbone("vgg16", image_size_px=32)
    assert hashlib.md5(b"other").hexdigest() in str(error.value)
    assert "kerastl weights fetch vgg16" in str(error.value)


def test_damaged_file_without_a_hash_is_reported_with_the_fetch_command(assets, models):
    file = assets / "keras" / "models" / "mobilenet_2_5_128_tf_no_top.h5"
    (models / file.name).write_bytes(file.read_bytes()[:5000])
    with pytest.raises(RequestError) as error:
        build_backbone("mobilenet", alpha=0.25, image_size_px=96)
    assert str(models / file.name) in str(error.value)
    command = "kerastl weights fetch mobilenet --image-size-px 128 --option alpha=0.25"
    assert command in str(error.value)


def test_modified_head_is_refused(assets, models, monkeypatch):
    files = assets / "keras" / "models"
    body, top = "mobilenet_2_5_128_tf_no_top.h5", "mobilenet_2_5_128_tf.h5"
    for file in (body, top, "imagenet_class_index.json"):
        shutil.copyfile(files / file, models / file)
    published = hashlib.md5((files / top).read_bytes()).hexdigest()
    publish(monkeypatch, PublishedWeights(body, "u", "", top, "https://example.invalid/top", published))
    assert read_imagenet_head("mobilenet").path == models / top
    with (models / top).open("ab") as file:
        file.write(b"x")
    with pytest.raises(RequestError, match=f"{top} is not the published head") as error:
        read_imagenet_head("mobilenet")
    assert "https://example.invalid/top" in str(error.value)


@pytest.mark.parametrize("index", ["[]", "{}", "null", "{", '{"0": 3}'])
def test_invalid_class_index_is_reported(assets, models, index):
    files = assets / "keras" / "models"
    for file in ("mobilenet_2_5_128_tf_no_top.h5", "mobilenet_2_5_128_tf.h5"):
        shutil.copyfile(files / file, models / file)
    (models / "imagenet_class_index.json").write_text(index)
    with pytest.raises(RequestError, match="imagenet_class_index"):
        read_imagenet_head("mobilenet", alpha=0.25, image_size_px=128)
