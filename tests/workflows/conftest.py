"""Runs that several tests share, each created once per session, and a small recipe on synthetic images.

Tests that use one of these runs are in the xdist group of its name, so that only one worker creates it.
"""

import csv
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from make_runs import RECIPE, Answer, Finished, call, draw, run

from kerastl import adaptation


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    draw(folder / "dark", 20, 1, light=False)
    draw(folder / "light", 20, 2, light=True)
    return folder


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE.format(path=images))
    return file


@pytest.fixture
def kerastl() -> Callable[..., Answer]:
    """Call the command line in this process."""
    return call


HOSTILE_CLASSES = ("<script>alert(1)<", "=1+1 ..")


def oversized_png() -> bytes:
    """Return a PNG whose header declares 30,000 x 30,000 pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    length, checksum = struct.pack(">I", 13), struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + length + chunk + checksum + b"\0" * 100


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A classifier on images of two classes with hostile names; one file is truncated, one declares too many pixels."""
    folder = tmp_path_factory.mktemp("plain")
    images = folder / "images"
    for seed, name in enumerate(HOSTILE_CLASSES, 1):
        draw(images / name, 20, seed, light=seed == 2)
    truncated = images / HOSTILE_CLASSES[0] / "0.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    (images / HOSTILE_CLASSES[0] / "bomb.png").write_bytes(oversized_png())
    recipe = folder / "plain.yaml"
    recipe.write_text(RECIPE.format(path=images))
    return run(recipe, folder / "run")


HOSPITALS = """
format: 1
seed: 5
data:
  reader: {{name: table, path: {folder}/a.csv}}
  split: {{val_fraction: 0.3, test_fraction: 0.15}}
  image_size_px: 32
  batch_size: 16
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: 1, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: 3, learning_rate: 1e-4, trainable: all, batch_norm: statistics, keep: last}}
target:
  reader: {{name: table, path: {folder}/{target}.csv}}
  labels: {labels}
  split: {{val_fraction: 0.0, test_fraction: 0.5}}
{adaptation}
export: {{formats: []}}
evaluation: {{resamples: 100, subgroups: [sex, age]}}
"""
NO_LABELS = "when: no_labels, select_by: [information_maximization, mixval]"


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write recipes for two hospitals in tables, one patient per image.

    At the source the site predicts the label in five of six cases. At the target one image in four is light.
    `b.csv` leaves the split to the recipe, `b_divided.csv` has a column of it, and `b_swapped.csv` has the
    same split with the two labels exchanged.
    """
    folder = tmp_path_factory.mktemp("hospitals")
    for name, dark, light, seed in (("a", 36, 36, 1), ("b", 36, 12, 7)):
        draw(folder / name / "dark", dark, seed, light=False)
        draw(folder / name / "light", light, seed + 1, light=True)
        rows = []
        for label, count in (("dark", dark), ("light", light)):
            for number in range(count):
                is_typical = (number % 6 > 0) == (label == "light")
                row = {
                    "path": f"{name}/{label}/{number}.png", "label": label,
                    "patient_id": f"{name}{label}{number}",
                    "site": "b" if name == "b" else "north" if is_typical else "south",
                    "sex": "f" if number % 2 else "m", "age": 20 + number,
                }  # fmt: skip
                rows.append(row)
        write_table(folder / f"{name}.csv", rows)
    divided = [row | {"split": ("test", "train")[at % 2]} for at, row in enumerate(rows)]
    write_table(folder / "b_divided.csv", divided)
    other = {"dark": "light", "light": "dark"}
    write_table(folder / "b_swapped.csv", [row | {"label": other[row["label"]]} for row in divided])

    def write(name: str, target: str, labels: str, adaptation: str = "") -> Path:
        file = folder / f"{name}.yaml"
        file.write_text(HOSPITALS.format(folder=folder, target=target, labels=labels, adaptation=adaptation))
        return file

    return write


def write_table(file: Path, rows: list[dict[str, object]]) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def few(hospitals: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Fine-tuned at the target on a few labeled patients per class."""
    return run(hospitals("few", "b", "few"), tmp_path_factory.mktemp("few") / "run")


@pytest.fixture(scope="session")
def unlabelled(hospitals: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Adapted without target labels, every candidate evaluated; the loss of `mcc` is NaN."""
    methods = f"adaptation: {{methods: [adabn, coral, mcc, fine_tune], {NO_LABELS}}}"
    recipe = hospitals("unlabelled", "b_divided", "none", methods)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            adaptation, "class_confusion_loss", lambda logits, **_: tf.reduce_sum(logits) * math.nan
        )
        return run(recipe, tmp_path_factory.mktemp("unlabelled") / "run", "--oracle")


@pytest.fixture(scope="session")
def drawing(hospitals: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Like `unlabelled`, with the target's labels exchanged and with methods that draw random images."""
    methods = "{name: fda, beta: 0.1, share: 0.5}, {name: fixmatch, policy: light, threshold: 0.5}"
    recipe = hospitals("drawing", "b_swapped", "none", f"adaptation: {{methods: [{methods}]}}")
    return run(recipe, tmp_path_factory.mktemp("drawing") / "run")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The recipe of `recipe` with three export formats."""
    folder = tmp_path_factory.mktemp("exported")
    draw(folder / "images" / "dark", 20, 1, light=False)
    draw(folder / "images" / "light", 20, 2, light=True)
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE.format(path=folder / "images"))
    formats = "export={formats: [saved_model, onnx, litert], quantize: int8}"
    return run(recipe, folder / "run", "--set", formats)
