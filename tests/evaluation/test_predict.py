from importlib import import_module

import keras
import numpy as np
import pytest
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation import predict
from kerastl.models import build_backbone, build_model, for_inference

predicting = import_module("kerastl.evaluation.inference")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Eleven flat images, each darker than the next; the last one is unlabelled."""
    folder = tmp_path_factory.mktemp("flat")
    found = []
    for row in range(11):
        file = folder / f"{row}.png"
        Image.new("RGB", (8, 8), (20 * row, 0, 0)).save(file)
        label = None if row == 10 else ("dark" if row < 5 else "light")
        found.append(Record(file.name, file, label, split="test", group=f"g{row // 2}"))
    return found


def dataset(records, batch_size=4, *, shuffle=False, class_names=("dark", "light"), size=8):
    return MemoryDataset(
        records, class_names=class_names, image_size_px=size, batch_size=batch_size, shuffle=shuffle
    )


def redness(weight=1.0):
    """Its logits are 0 and the mean of red: right answers are known beforehand."""
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(pooled)))
    kernel = np.zeros((3, 2), np.float32)
    kernel[0, 1] = weight
    model.layers[-1].set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_each_row_holds_the_answer_for_its_own_image(records, batch_size, shuffle):
    """Dropout of one half would double or drop the answers if the model were in training mode."""
    answers = predict(redness(), dataset(records, batch_size, shuffle=shuffle))
    np.testing.assert_allclose(answers.logits[:, 1], [20.0 * row for row in range(11)], rtol=1e-5)
    assert answers.paths == tuple(record.path for record in records)
    assert answers.labels.tolist() == [0] * 5 + [1] * 5 + [-1]
    assert answers.groups[2:4] == ("g1", "g1")
    assert answers.domains == ("",) * 11


def test_a_model_of_other_classes_is_refused(records):
    with pytest.raises(RequestError, match="tells 2 classes apart, the data has 3"):
        predict(redness(), dataset(records, class_names=("dark", "light", "red")))


def test_a_model_that_says_nan_is_refused_with_the_image(records):
    with pytest.raises(RunFailed, match=r"11 of 11 images, the first is 0\.png"):
        predict(redness(float("nan")), dataset(records))


def test_images_that_were_never_handed_over_are_noticed(records):
    short = MemoryDataset(
        records,
        class_names=("dark", "light"),
        image_size_px=8,
        batch_size=4,
        shuffle=False,
        drop_remainder=True,
    )
    with pytest.raises(RunFailed, match=r"3 of 11 images, the first is 8\.png"):
        predict(redness(), short)


def test_a_file_that_broke_is_named(records, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    source = ImageDataset(
        [*records, Record("broken.png", broken, "dark")],
        class_names=("dark", "light"),
        image_size_px=8,
        batch_size=4,
    )
    with pytest.raises(RunFailed, match=r"broken\.png"):
        predict(redness(), source)


def test_a_folded_network_is_what_answers_and_its_answers_are_the_plain_ones(records, monkeypatch):
    built = []

    def folding(model):
        built.append(for_inference(model))
        return built[-1]

    monkeypatch.setattr(predicting, "for_inference", folding)
    keras.utils.set_random_seed(1)
    model = build_model(
        build_backbone("mobilenet_v2", weights="none", image_size_px=32, alpha=0.35),
        class_names=("dark", "light"),
    )
    source = dataset(records, size=32)
    images = np.concatenate([np.asarray(images) for images, _ in source.batches(0)])
    for norm in (one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)):
        norm.momentum = 0.0
    model(images, training=True)
    weights = model.get_weights()
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    answers = predict(model, source)
    assert len(built[0].layers) < len(model.layers)
    # Rounding grows through normalized noise; what is folded is compared layer by layer elsewhere.
    np.testing.assert_allclose(answers.logits, expected, atol=1e-3 * np.abs(expected).max())
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
