"""Real weights on real images: ImageNet weights must help, on photographs and on X-rays."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerastl
from kerastl import recipe as recipes
from kerastl.evaluation import paired_difference, predict, score
from kerastl.training import build_statistics_estimator
from kerastl.workflows import run as runner
from kerastl.workflows.check_recipe import check_recipe

FASHION = Path(os.environ.get("KERASTL_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
BACKBONE = "backbone={name: mobilenet_v2, weights: imagenet, alpha: 0.35}"
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
            image = Image.fromarray(images[index]).resize((96, 96), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{index:05d}.png")
    return folder


@pytest.mark.slow
def test_imagenet_weights_beat_random_ones_by_ten_points(fashion, keras_home, tmp_path):
    """Balanced accuracy on 360 test images. The model from scratch has its own learning rate and number of epochs.

    A single score has a 95% interval of nine points.
    """
    common = [
        f"data.reader.path={fashion}",
        "data.image_size_px=96",
        "data.split={val_fraction: 0.15, test_fraction: 0.6}",
        "export.formats=[]",
        "seed=1",
    ]
    pretrained = run("folder-classifier", tmp_path / "pretrained", *common, BACKBONE)
    scratch = run(
        "folder-classifier",
        tmp_path / "scratch",
        *common,
        "backbone={name: mobilenet_v2, weights: none, alpha: 0.35}",
        "phases=[{name: scratch, epochs: 30, learning_rate: 2e-3, trainable: all, schedule: cosine}]",
    )
    first, second = (overall(folder)["balanced_accuracy"]["value"] for folder in (pretrained, scratch))
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


PRESET = Path("keras_hub", "efficientnet_lite0")
METRIC = "balanced_accuracy"


@pytest.fixture(scope="session")
def clothes(fashion):
    """Training, validation and test images of 96 px, split as in the runs."""
    collection = kerastl.read_images(fashion).split(val_fraction=0.15, test_fraction=0.6, seed=1)
    splits = (collection.train, collection.val, collection.test)
    return [
        kerastl.ImageDataset(images, image_size_px=96, seed=1, shuffle=images is splits[0])
        for images in splits
    ]


def predict_with_frozen(name, clothes, weights="imagenet"):
    """Train a head and return the test predictions. Random weights have BatchNorm statistics of the training images."""
    train, val, test = clothes
    model = kerastl.build_classifier(
        name, class_names=train.class_names, image_size_px=96, weights=weights, seed=1
    )
    if weights is None:
        build_statistics_estimator(model)(train)
    phase = kerastl.Phase("head", epochs=30, learning_rate=3e-3, schedule="cosine")
    kerastl.fit(model, train, validation_data=val, phases=[phase], verbose=False)
    return predict(model, test)


@pytest.fixture(scope="session")
def accuracy_with_random_weights(assets, clothes):
    predictions = predict_with_frozen(f"keras_hub/{assets / PRESET}", clothes, weights=None)
    return score(predictions)["test"]["overall"][METRIC]["value"]


@pytest.mark.slow
def test_frozen_preset_is_level_with_mobilenet_v2_and_15_points_above_random_weights(
    assets, clothes, accuracy_with_random_weights, keras_home
):
    preset = predict_with_frozen(f"keras_hub/{assets / PRESET}", clothes)
    difference = paired_difference(predict_with_frozen("mobilenet_v2", clothes), preset, metric=METRIC)
    value = score(preset)["test"]["overall"][METRIC]["value"]
    print("preset", value, "minus mobilenet_v2", difference, "random", accuracy_with_random_weights)
    assert difference["outcome"] != "worse"
    assert value >= accuracy_with_random_weights + 0.15
