"""Real weights on real images: ImageNet weights must help, on photographs and on X-rays."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl import recipe as recipes
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
