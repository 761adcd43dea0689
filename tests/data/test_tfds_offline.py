"""The reader `tfds`: ready-made splits, a reading cut short, and never the network unasked."""

import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pictures_drawn import by_pillow

from kerastl import data
from kerastl.data.readers.tfds import Options, read
from kerastl.errors import RequestError

SIZES = {"train": 6, "validation": 4, "test": 3, "spare": 2}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory) -> Path:
    import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["class10", "class2"]),
                "where": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(size) for name, size in SIZES.items()}

        def _generate_examples(self, size):
            for index in range(size):
                picture = np.full((5, 7, 3), 10 * index, np.uint8)
                label = -1 if size == 2 else index % 2
                yield index, {"image": picture, "label": label, "where": f"place {index % 3}"}

    place = tmp_path_factory.mktemp(request.param)
    TinyPictures(data_dir=place, file_format=request.param).download_and_prepare()
    return place


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_every_example_becomes_a_file_with_its_class_and_ready_made_split(
    prepared, tmp_path, no_network
):
    found = read(Options("tiny_pictures", data_dir=prepared), cache_dir=tmp_path)
    assert found.class_names == ("class2", "class10")
    assert [record.split for record in found.records] == ["train"] * 6 + ["val"] * 4 + ["test"] * 3
    assert found.records[6].path == "tfds:tiny_pictures/validation/0"
    for record in found.records:
        level = by_pillow(record.file.read_bytes())
        assert level.shape == (5, 7, 3)
        assert record.label == ("class10" if level[0, 0, 0] // 10 % 2 == 0 else "class2")
        assert record.file.is_absolute()
    levels = {by_pillow(record.file.read_bytes())[0, 0, 0] for record in found.records[:6]}
    assert levels == {0, 10, 20, 30, 40, 50}
    assert len(found.notes) == 1


def test_an_interrupted_reading_leaves_nothing_that_counts(prepared, tmp_path, monkeypatch):
    from kerastl.data.readers import tfds as reader

    options = Options("tiny_pictures", data_dir=prepared)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "write_csv", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            read(options, cache_dir=tmp_path)
    assert [path for path in tmp_path.rglob("*.*") if path.suffix != ".lock"] == []
    assert len(read(options, cache_dir=tmp_path).records) == 13


def test_the_door_reads_what_training_decodes(prepared, tmp_path):
    found = data.read_tfds(
        "tiny_pictures", data_dir=prepared, cache_dir=tmp_path, splits=("spare",)
    )
    assert [(record.label, record.split) for record in found.records] == [(None, None)] * 2
    image = data.decode_image(tf.constant(found.records[0].file.read_bytes()))
    assert image.shape == (5, 7, 3)


@pytest.mark.parametrize("name", ["mnist", "mnst", "tiny_pictures:3.0.0"])
def test_what_is_not_prepared_is_told_at_once_without_the_network(name, tmp_path, no_network):
    with pytest.raises(RequestError) as caught:
        read(Options(name, data_dir=tmp_path), cache_dir=tmp_path)
    text = str(caught.value)
    assert name in text
    assert str(tmp_path) in text
    assert "--set data.reader.download=true" in text
    assert ("Did you mean 'mnist'?" in text) == (name == "mnst")


def test_a_download_that_fails_is_an_error_of_one_line(tmp_path):
    with pytest.raises(RequestError, match="cannot be fetched"):
        read(Options("no_such_data_set", data_dir=tmp_path, download=True), cache_dir=tmp_path)
