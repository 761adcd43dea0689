"""TensorFlow Datasets, with a tiny data set that is prepared on the spot, offline."""

import builtins
import time

import numpy as np
import pytest
import tensorflow as tf
from pictures_drawn import noise

from kerastl.data import decode_image, read_tfds
from kerastl.errors import Problems, RequestError

tfds = pytest.importorskip("tensorflow_datasets")

COUNTS = {"train": 9, "test": 4, "unsupervised": 2}


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Noise with a number; a split without labels, as some data sets have."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 9, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["10", "2", "<b>"]),
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
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder


def test_both_storage_formats_give_every_picture_unchanged(prepared, tmp_path):
    found = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    assert found.class_names == ("2", "10", "<b>")
    assert len(found.records) == COUNTS["train"] + COUNTS["test"]
    wanted = sorted(noise(8, 9, seed=number).tobytes() for number in range(COUNTS["train"]))
    train = [record for record in found.records if record.split == "train"]
    read = [decode_image(tf.constant(record.file.read_bytes())).numpy() for record in train]
    assert sorted(image.astype(np.uint8).tobytes() for image in read) == wanted
    labels = {
        noise(8, 9, seed=number).tobytes(): ["10", "2", "<b>"][number % 3] for number in range(9)
    }
    for record, image in zip(train, read, strict=True):
        assert record.label == labels[image.astype(np.uint8).tobytes()]


def test_paths_name_data_set_split_and_number(prepared, tmp_path):
    found = read_tfds("tiny_shapes:1.2.0", data_dir=prepared, cache_dir=tmp_path, splits=("test",))
    assert [record.path for record in found.records] == [
        f"tfds:tiny_shapes:1.2.0/test/{number}" for number in range(4)
    ]
    assert {record.split for record in found.records} == {None}


def test_a_second_read_finds_the_files_and_repeats(prepared, tmp_path):
    first = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    written = {record.file: record.file.stat().st_mtime_ns for record in first.records}
    second = read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path)
    assert first.records == second.records
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in written.items())


def test_a_split_without_labels_is_unlabelled_when_asked_for(prepared, tmp_path):
    found = read_tfds(
        "tiny_shapes", data_dir=prepared, cache_dir=tmp_path, splits=("unsupervised",)
    )
    assert [record.label for record in found.records] == [None, None]


def test_an_unknown_split_gets_the_nearest_name(prepared, tmp_path):
    with pytest.raises(RequestError, match=r"'tets'\. Did you mean 'test'"):
        read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path, splits=("tets",))


def test_a_feature_that_is_no_class_is_refused_with_those_that_are(prepared, tmp_path):
    with pytest.raises(RequestError, match=r"'text'.*Fitting for label_key: label"):
        read_tfds("tiny_shapes", data_dir=prepared, cache_dir=tmp_path, label_key="text")


def test_what_is_not_prepared_is_refused_at_once_with_the_next_command(tmp_path):
    read = time.monotonic()
    with pytest.raises(RequestError) as error:
        read_tfds("mnist", data_dir=tmp_path / "empty", cache_dir=tmp_path)
    assert time.monotonic() - read < 60
    assert "mnist" in str(error.value)
    assert str(tmp_path / "empty") in str(error.value)
    assert "--set data.reader.download=true" in str(error.value)


def test_an_unknown_name_gets_the_nearest_one(tmp_path):
    with pytest.raises(RequestError, match="Did you mean 'mnist'"):
        read_tfds("mnits", data_dir=tmp_path, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc", "huggingface:cifar10", "Mnist", "a b", "x:1"])
def test_a_text_that_is_no_name_is_refused_before_anything_is_looked_up(name, tmp_path):
    with pytest.raises(Problems, match="is no name"):
        read_tfds(name, cache_dir=tmp_path)


def test_a_missing_requirement_of_the_library_is_said(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError("No module named 'importlib_resources'")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match="pip install tensorflow-datasets importlib_resources"):
        read_tfds("mnist", data_dir=tmp_path, cache_dir=tmp_path)
