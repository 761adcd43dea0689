from importlib import import_module

import keras
import numpy as np
import pytest
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation import predict
from kerastl.models import build_backbone, build_model, fold_for_inference

predicting = import_module("kerastl.evaluation.inference")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Eleven flat images, each darker than the next; the last one is unlabeled."""
    folder = tmp_path_factory.mktemp("flat")
    records = []
    for row in range(11):
        file = folder / f"{row}.png"
        Image.new("RGB", (8, 8), (20 * row, 0, 0)).save(file)
        label = None if row == 10 else ("dark" if row < 5 else "light")
        records.append(Record(file.name, file, label, split="test", group=f"g{row // 2}"))
    return records


def make_dataset(records, batch_size=4, *, shuffle=False, class_names=("dark", "light"), size=8):
    return MemoryDataset(
        records, class_names=class_names, image_size_px=size, batch_size=batch_size, shuffle=shuffle
    )


def redness(weight=1.0):
    """Return a model with the logits 0 and the mean of the red channel."""
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(pooled)))
    kernel = np.zeros((3, 2), np.float32)
    kernel[0, 1] = weight
    model.layers[-1].set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_each_row_is_the_prediction_of_its_image(records, batch_size, shuffle):
    """In training mode, dropout would double the logits or set them to 0."""
    predictions = predict(redness(), make_dataset(records, batch_size, shuffle=shuffle))
    np.testing.assert_allclose(predictions.logits[:, 1], [20.0 * row for row in range(11)], rtol=1e-5)
    assert predictions.paths == tuple(record.path for record in records)
    assert predictions.labels.tolist() == [0] * 5 + [1] * 5 + [-1]
    assert predictions.groups[2:4] == ("g1", "g1")
    assert predictions.domains == ("",) * 11


def test_copies_of_an_image_share_a_name_regardless_of_their_files(records, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(records[2].file.read_bytes())
    both = [*records, Record("copy.png", copy, "dark", split="test"), Record("again.png", copy, "dark")]
    copies = predict(redness(), make_dataset(both)).copies
    assert copies[2] == copies[3] == copies[11] == copies[12] != "", "g1 has the images 2 and 3"
    assert not any(copies[:2] + copies[4:11])
    assert not any(predict(redness(), make_dataset(records)).copies)


def test_model_with_another_number_of_classes_is_rejected(records):
    with pytest.raises(RequestError, match="has 2 outputs, but there are 3 classes"):
        predict(redness(), make_dataset(records, class_names=("dark", "light", "red")))


def test_nan_predictions_are_rejected_with_the_image(records):
    with pytest.raises(RunFailed, match=r"11 of 11 images are not finite; the first is 0\.png"):
        predict(redness(float("nan")), make_dataset(records))


def test_images_missing_from_the_batches_are_reported(records):
    short = MemoryDataset(
        records,
        class_names=("dark", "light"),
        image_size_px=8,
        batch_size=4,
        shuffle=False,
        drop_remainder=True,
    )
    with pytest.raises(RunFailed, match=r"3 of 11 images are not finite; the first is 8\.png"):
        predict(redness(), short)


def test_unreadable_file_is_named(records, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    dataset = ImageDataset(
        [*records, Record("broken.png", broken, "dark")],
        class_names=("dark", "light"),
        image_size_px=8,
        batch_size=4,
    )
    with pytest.raises(RunFailed, match=r"broken\.png"):
        predict(redness(), dataset)


@pytest.mark.slow
def test_predict_uses_a_folded_model_with_equal_predictions(records, monkeypatch):
    built = []

    def folding(model):
        built.append(fold_for_inference(model))
        return built[-1]

    monkeypatch.setattr(predicting, "fold_for_inference", folding)
    keras.utils.set_random_seed(1)
    backbone = build_backbone("mobilenet_v2", weights="none", image_size_px=32, alpha=0.35)
    model = build_model(backbone, class_names=("dark", "light"))
    dataset = make_dataset(records, size=32)
    images = np.concatenate([np.asarray(images) for images, _ in dataset.batches(0)])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    weights = model.get_weights()
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    predictions = predict(model, dataset)
    assert len(built[0].layers) < len(model.layers)
    # Rounding errors grow through normalized noise. The folding test compares layer by layer.
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-3 * np.abs(expected).max())
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
