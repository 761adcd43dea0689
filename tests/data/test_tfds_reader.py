"""The reader of TensorFlow Datasets, with a tiny dataset and without network access."""

import builtins
import socket

import numpy as np
import pytest
import tensorflow as tf
from make_images import decode_with_pillow, noise

from kerastl.data import decode_image, read_tfds
from kerastl.data.readers import tfds as reader
from kerastl.errors import Problems, RequestError

tfds = pytest.importorskip("tensorflow_datasets")

COUNTS = {"train": 9, "validation": 4, "test": 3, "unsupervised": 2}
NAMES = ["10", "2", "<b>"]


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Noise images with an index, and a split without labels."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=NAMES),
            "text": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._examples(name, count) for name, count in COUNTS.items()}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, name, count):
        for number in range(count):
            label = -1 if name == "unsupervised" else number % 3
            yield number, {"image": noise(8, 9, seed=number), "label": label, "text": name}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    builder = TinyShapes(data_dir=folder, file_format=request.param)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_both_storage_formats_give_unchanged_images_and_classes(prepared, tmp_path, no_network):
    collection = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    assert collection.class_names == ("2", "10", "<b>")
    assert len(collection.notes) == 1
    drawn = {noise(8, 9, seed=number).tobytes(): number for number in range(9)}
    numbers: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for record in collection.records:
        assert record.file.is_absolute()
        content = record.file.read_bytes()
        number = drawn[decode_with_pillow(content).astype(np.uint8).tobytes()]
        np.testing.assert_array_equal(decode_image(tf.constant(content)), decode_with_pillow(content))
        assert record.label == NAMES[number % 3]
        numbers[record.split].append(number)
    expected = {"train": range(9), "val": range(4), "test": range(3)}
    assert {split: sorted(of) for split, of in numbers.items()} == {
        split: list(of) for split, of in expected.items()
    }


def test_paths_contain_dataset_split_and_number(prepared, tmp_path):
    collection = read_tfds("tiny_shapes:1.2.0", data_dir=prepared, cache_dir=tmp_path, splits=("test",))
    assert [record.path for record in collection.records] == [
        f"tfds:tiny_shapes:1.2.0/test/{number}" for number in range(3)
    ]
    assert {record.split for record in collection.records} == {None}


def test_second_read_uses_the_cached_files(prepared, tmp_path, monkeypatch):
    first = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert len(before) > 16

    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("kerastl.data.cache.entry_lock", refuse)
    second = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    assert first.records == second.records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_interrupted_reading_leaves_no_partial_files(prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(reader, "write_csv", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    assert [path for path in tmp_path.rglob("*.*") if path.suffix != ".lock"] == []
    assert len(read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path).records) == 16


def test_unwritable_cache_is_reported(prepared, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RequestError) as error:
        read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path / "file")
    assert f"cache folder {tmp_path / 'file'}:" in str(error.value)
    assert "KERASTL_CACHE=DIR" in str(error.value)


def test_split_without_labels_is_unlabeled(prepared, tmp_path):
    collection = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path, splits=("unsupervised",))
    assert [(record.label, record.split) for record in collection.records] == [(None, None)] * 2


def test_unknown_split_suggests_the_nearest_name(prepared, tmp_path):
    with pytest.raises(RequestError, match=r"'tets'\. Did you mean 'test'"):
        read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path, splits=("tets",))


def test_feature_of_wrong_type_is_rejected_with_suitable_ones(prepared, tmp_path):
    with pytest.raises(RequestError, match=r"'text'.*Suitable for label_key: label"):
        read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path, label_key="text")


@pytest.mark.parametrize("name", ["mnist", "mnst", "tiny_shapes:3.0.0"])
def test_unprepared_dataset_is_rejected_without_network_access(name, tmp_path, no_network):
    with pytest.raises(RequestError) as error:
        read_tfds(name, data_dir=tmp_path / "empty", cache_dir=tmp_path)
    text = str(error.value)
    assert name in text
    assert str(tmp_path / "empty") in text
    assert "--set data.reader.download=true" in text
    assert ("Did you mean 'mnist'?" in text) == (name == "mnst")


def test_failed_download_is_a_one_line_error(tmp_path):
    with pytest.raises(RequestError, match="Cannot download") as error:
        read_tfds("no_such_data_set", data_dir=tmp_path, cache_dir=tmp_path, download=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../x", "/etc", "huggingface:cifar10", "Mnist", "a b", "x:1"])
def test_invalid_dataset_name_is_rejected(name, tmp_path):
    with pytest.raises(Problems, match="must be name, name/config"):
        read_tfds(name, cache_dir=tmp_path)


def test_missing_dependency_of_the_library_is_reported(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError("No module named 'importlib_resources'")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match="pip install tensorflow-datasets importlib_resources"):
        read_tfds("mnist", data_dir=tmp_path, cache_dir=tmp_path)
