"""Real weights on real images: ImageNet weights must help, on photographs and on X-rays."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kerastl
from kerastl import export
from kerastl import recipe as recipes
from kerastl.evaluation import paired_difference, predict, score
from kerastl.training import build_statistics_estimator
from kerastl.workflows import run as runner
from kerastl.workflows.check_recipe import check_recipe

FASHION = Path(os.environ.get("KERASTL_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
BACKBONE = "backbone={name: mobilenet_v2, weights: imagenet, alpha: 0.35}"
PRESET = Path("keras_hub", "efficientnet_lite0")
METRIC = "balanced_accuracy"
SIZE_PX = 64
NAMES = ["shirt-t", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def run(name, out, *sets):
    recipe = check_recipe(recipes.find(name), sets)
    return runner.run(recipe, name=name, out=out)


def overall(folder, split="test"):
    return json.loads((folder.path / "scores.json").read_text())[split]["overall"]


@pytest.fixture(scope="session")
def fashion(tmp_path_factory):
    """600 images of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747), enlarged."""
    if not FASHION.is_dir():
        message = f"no Fashion-MNIST at {FASHION}; Debian has it as dataset-fashion-mnist"
        if os.environ.get("KERASTL_REQUIRE_ASSETS") == "1":
            pytest.fail(message)
        pytest.skip(message)

    def content(name, offset):
        return np.frombuffer(gzip.open(FASHION / name).read(), np.uint8, offset=offset)

    images = content("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = content("t10k-labels-idx1-ubyte.gz", 8)
    folder = tmp_path_factory.mktemp("fashion")
    for label, name in enumerate(NAMES):
        (folder / name).mkdir()
        for index in np.flatnonzero(labels == label)[:60]:
            image = Image.fromarray(images[index]).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{index:05d}.png")
    return folder


def datasets(collection):
    """Return the training, validation and test images."""
    splits = (collection.train, collection.val, collection.test)
    return [
        kerastl.ImageDataset(images, image_size_px=SIZE_PX, seed=1, shuffle=images is splits[0])
        for images in splits
    ]


@pytest.fixture(scope="session")
def clothes(fashion):
    return datasets(kerastl.read_images(fashion).split(val_fraction=0.15, test_fraction=0.6, seed=1))


@pytest.fixture(scope="session")
def x_rays(cxr_folder):
    (table,) = cxr_folder.rglob("labels.csv")
    columns = {"path": "file", "label": "projection", "group": "patient_id"}
    return datasets(
        kerastl.read_images(table, columns=columns).split(val_fraction=0.15, test_fraction=0.5, seed=1)
    )


def settings(fashion):
    """Return the settings of a run on the images of `clothes`."""
    return [
        f"data.reader.path={fashion}",
        f"data.image_size_px={SIZE_PX}",
        "data.split={val_fraction: 0.15, test_fraction: 0.6}",
        "seed=1",
    ]


def value_of(predictions):
    return score(predictions)["test"]["overall"][METRIC]["value"]


@pytest.mark.slow
def test_imagenet_weights_beat_random_ones_by_ten_points(fashion, keras_home, tmp_path):
    """Balanced accuracy on 360 test images. The model from scratch has its own learning rate and number of epochs.

    A single score has a 95% interval of nine points.
    """
    common = [*settings(fashion), "export.formats=[]"]
    pretrained = run("folder-classifier", tmp_path / "pretrained", *common, BACKBONE)
    scratch = run(
        "folder-classifier",
        tmp_path / "scratch",
        *common,
        "backbone={name: mobilenet_v2, weights: none, alpha: 0.35}",
        "phases=[{name: scratch, epochs: 30, learning_rate: 2e-3, trainable: all, schedule: cosine}]",
    )
    first, second = (overall(folder)[METRIC]["value"] for folder in (pretrained, scratch))
    print("balanced accuracy with ImageNet weights and from scratch:", first, second)
    assert first - second >= 0.1


@pytest.mark.slow
def test_the_projection_of_chest_x_rays_is_classified(cxr_folder, keras_home, tmp_path):
    """ap against pa, 243 X-rays of 71 patients, split by patient (doi 10.25835/0090041)."""
    (table,) = cxr_folder.rglob("labels.csv")
    folder = run(
        "feature-extraction",
        tmp_path / "run",
        f"data.reader={{name: table, path: {table}, columns: {{path: file, label: projection, group: patient_id}}}}",
        "data.image_size_px=160",
        "data.split={val_fraction: 0.2, test_fraction: 0.3}",
        "export.formats=[]",
        BACKBONE,
    )
    assert overall(folder)["auc"]["value"] >= 0.97
    rows = (folder.path / "split.csv").read_text().splitlines()[1:]
    splits = {}
    for row in rows:
        _, _, split, group, _ = row.split(",")
        splits.setdefault(group, set()).add(split)
    assert len(splits) == 71
    assert all(len(group_splits) == 1 for group_splits in splits.values())


def predict_with_frozen(name, images, weights="imagenet"):
    """Train a head and return the test predictions. Random weights have BatchNorm statistics of the training images."""
    train, val, test = images
    model = kerastl.build_classifier(
        name, class_names=train.class_names, image_size_px=SIZE_PX, weights=weights, seed=1
    )
    if weights is None:
        build_statistics_estimator(model)(train)
    phase = kerastl.Phase("head", epochs=30, learning_rate=3e-3, schedule="cosine")
    kerastl.fit(model, train, validation_data=val, phases=[phase], verbose=False)
    return predict(model, test)


@pytest.fixture(scope="session")
def random_weights(assets, clothes):
    """The accuracy with the features of random weights."""
    return value_of(predict_with_frozen(f"keras_hub/{assets / PRESET}", clothes, weights=None))


def assert_is_level_with_mobilenet_v2(preset, images):
    difference = paired_difference(predict_with_frozen("mobilenet_v2", images), preset, metric=METRIC)
    print("preset", value_of(preset), "minus mobilenet_v2", difference)
    assert difference["outcome"] != "worse"


@pytest.mark.slow
def test_frozen_preset_is_level_with_mobilenet_v2_and_15_points_above_random_weights(
    assets, clothes, random_weights, keras_home
):
    preset = predict_with_frozen(f"keras_hub/{assets / PRESET}", clothes)
    assert_is_level_with_mobilenet_v2(preset, clothes)
    assert value_of(preset) >= random_weights + 0.15


@pytest.mark.slow
def test_frozen_preset_is_level_and_15_points_above_random_weights_on_x_rays(assets, x_rays, keras_home):
    preset, random = (
        predict_with_frozen(f"keras_hub/{assets / PRESET}", x_rays, weights=weights)
        for weights in ("imagenet", None)
    )
    assert_is_level_with_mobilenet_v2(preset, x_rays)
    assert value_of(preset) >= value_of(random) + 0.15


@pytest.fixture(scope="session")
def fine_tuned(assets, fashion, tmp_path_factory):
    """A run with the weights of the last epoch, so that they are those of fine-tuning."""
    return run(
        "feature-extraction",
        tmp_path_factory.mktemp("fine_tuned") / "run",
        *settings(fashion),
        f"backbone={{name: 'keras_hub/{assets / PRESET}'}}",
        "phases=[{name: head, epochs: 30, learning_rate: 3e-3, schedule: cosine}, "
        "{name: fine_tune, epochs: 5, learning_rate: 1e-4, schedule: cosine, trainable: {top_fraction: 0.3}, keep: last}]",
    )


def predict_in_session(folder, files):
    """Return the probabilities that a SavedModel gives in a TensorFlow 1 session, as on a server."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def
        signature = signatures["serving_default"]
        (images,) = signature.inputs.values()
        content = [file.read_bytes() for file in files]
        return session.run(signature.outputs["probabilities"].name, {images.name: content})


@pytest.mark.slow
def test_fine_tuned_preset_is_15_points_above_random_weights(fine_tuned, random_weights):
    value = overall(fine_tuned)[METRIC]["value"]
    print("fine-tuned preset", value, "random", random_weights)
    assert value >= random_weights + 0.15


@pytest.mark.slow
def test_fine_tuned_preset_gives_the_same_probabilities_in_a_session(fashion, fine_tuned):
    folder = fine_tuned.path / "export" / "saved_model" / "1"
    verified = export.check_export(folder, run=fine_tuned.path, quick=True)
    assert all(finding.ok for finding in verified.findings)
    assert "equal to kerastl predict" in {finding.check for finding in verified.findings if finding.passed}
    with (fine_tuned.path / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][:32]
    expected = [[float(row[f"prob_{name}"]) for name in sorted(NAMES)] for row in rows]
    probabilities = predict_in_session(folder, [fashion / row["path"] for row in rows])
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_loss_of_accuracy_of_the_fine_tuned_preset_by_int8_is_reported(fine_tuned):
    before = overall(fine_tuned)[METRIC]["value"]
    folder = export.export_run(fine_tuned.path, "litert", quantize="int8")
    effect = json.loads((folder / "manifest.json").read_text())["conversion"]["effect"]["test"]
    print("int8", effect)
    assert effect["images"] == 360
    assert effect[METRIC]["before"] == pytest.approx(before)
    assert effect[METRIC]["after"] > before - 0.1
