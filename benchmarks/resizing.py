"""Compare the rules for images with a different aspect ratio: stretch, pad and crop, with frozen ImageNet features.

    KERASTL_TEST_ASSETS=FOLDER python benchmarks/resizing.py [--quick] [--seeds 40] [--size 96]

- Chest X-rays (Hannover, doi 10.25835/0090041; CC BY 3.0): AP or PA projection, split by patient. Logistic regression on
  features of MobileNetV2, alpha 0.35, is trained on 24 patients and evaluated on the others; each seed is a new split.
- Photographs (google-coral/test_data, CC BY 2.0): probability that MobileNetV2, alpha 1.0, assigns to the true object
  at 224 px. Each resample is a bootstrap sample of the photographs.

All rules use the same splits and samples. The table lists the score and, compared with `stretch`, the difference with
its 95% interval. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tensorflow as tf
from PIL import Image

from kerastl.data import load_image
from kerastl.image_size import Resize
from kerastl.models import build_backbone

Array = np.ndarray[Any, Any]
RULES: tuple[Resize, ...] = get_args(Resize)
FEATURES = "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
CLASSIFIER = "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
TRAIN_PATIENTS = 24
RESAMPLES = 10_000
OBJECTS: dict[str, tuple[range, ...]] = {
    "cat": (range(281, 286),),
    "dog": (range(151, 269),),
    "pets": (range(151, 269), range(281, 286)),
    "hot": (range(934, 935),),
    "parrot": (range(87, 91),),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "dragonfly": (range(319, 320),),
    "grace": (range(652, 653),),
}
"""ImageNet classes of the object, by the beginning of the photograph's name. Photographs with other names are left out."""


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the files of an archive by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def decode(files: list[bytes], size_px: int, rule: Resize) -> Array:
    """Return the images `[n, size, size, 3]` float32 in [0, 255]."""
    return np.stack([load_image(tf.constant(file), image_size_px=size_px, resize=rule) for file in files])


def aspect_ratios(files: list[bytes]) -> list[float]:
    """Return the smallest, median and largest width over height of the stored images."""
    sizes = [Image.open(io.BytesIO(file)).size for file in files]
    return [
        round(float(value), 2)
        for value in np.quantile([width / height for width, height in sizes], (0, 0.5, 1))
    ]


def x_ray_scores(
    features: dict[Resize, Array], labels: Array, patients: Array, seeds: int
) -> dict[Resize, Array]:
    """Return the AUC of each split by rule: `[seeds]`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores: dict[Resize, list[float]] = {rule: [] for rule in features}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(np.unique(patients))
        train = np.isin(patients, order[:TRAIN_PATIENTS])
        if len(set(labels[train])) < 2 or len(set(labels[~train])) < 2:
            continue
        for rule, rows in features.items():
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
            )
            model.fit(rows[train], labels[train])
            scores[rule].append(roc_auc_score(labels[~train], model.decision_function(rows[~train])))
    return {rule: np.array(values) for rule, values in scores.items()}


def measure_x_rays(assets: Path, size_px: int, seeds: int) -> tuple[dict[Resize, Array], list[float]]:
    """Return the AUC of each split by rule, and the aspect ratios."""
    archive = read_archive(assets / "data/hannover_cxr.zip")
    rows = list(csv.DictReader(io.StringIO(archive["labels.csv"].decode())))
    files = [archive[row["file"]] for row in rows]
    backbone = build_backbone("mobilenet_v2", weights=assets / FEATURES, image_size_px=size_px, alpha=0.35)
    features = {
        rule: backbone.predict(decode(files, size_px, rule), batch_size=32, verbose=0).mean(axis=(1, 2))
        for rule in RULES
    }
    labels = np.array([row["projection"] == "pa" for row in rows])
    patients = np.array([row["patient_id"] for row in rows])
    return x_ray_scores(features, labels, patients, seeds), aspect_ratios(files)


def measure_photographs(assets: Path) -> tuple[dict[Resize, Array], list[float]]:
    """Return the probability of the true object in each photograph by rule, and the aspect ratios."""
    import keras

    archive = read_archive(assets / "data/coral_photos.zip")
    names = [
        name
        for name in sorted(archive)
        if name.endswith(".jpg") and any(Path(name).name.startswith(key) for key in OBJECTS)
    ]
    model = keras.applications.MobileNetV2(weights=str(assets / CLASSIFIER))
    scores: dict[Resize, Array] = {}
    for rule in RULES:
        rows = model.predict(decode([archive[name] for name in names], 224, rule) / 127.5 - 1, verbose=0)
        classes = [next(OBJECTS[key] for key in OBJECTS if Path(name).name.startswith(key)) for name in names]
        scores[rule] = np.array(
            [sum(row[list(part)].sum() for part in parts) for row, parts in zip(rows, classes, strict=True)]
        )
    return scores, aspect_ratios([archive[name] for name in names])


def summarize(scores: dict[Resize, Array], *, is_bootstrapped: bool) -> dict[Resize, dict[str, float]]:
    """Return the mean score of each rule and its difference from `stretch`, with a 95% interval.

    Args:
        scores: `[n]` by rule; row i of all rules is the same split or photograph.
        is_bootstrapped: Whether the interval is that of the mean over bootstrap samples of the rows. Otherwise it
            contains 95% of the rows, because splits of the same patients are not independent.
    """
    random = np.random.default_rng(0)
    summary: dict[Resize, dict[str, float]] = {}
    for rule, values in scores.items():
        change = values - scores["stretch"]
        draws = (
            change[random.integers(0, len(change), (RESAMPLES, len(change)))].mean(axis=1)
            if is_bootstrapped
            else change
        )
        low, high = np.quantile(draws, (0.025, 0.975))
        summary[rule] = {
            "score": float(values.mean()), "difference": float(change.mean()), "low": float(low), "high": float(high),
        }  # fmt: skip
    return summary


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 splits")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--size", type=int, default=96, help="side length of the X-rays, in pixels")
    arguments = parser.parse_args()
    assets = Path(os.environ["KERASTL_TEST_ASSETS"])
    seeds = 5 if arguments.quick else arguments.seeds
    x_rays, x_ray_ratios = measure_x_rays(assets, arguments.size, seeds)
    photographs, photo_ratios = measure_photographs(assets)
    results = {
        "chest X-rays, AUC": (summarize(x_rays, is_bootstrapped=False), x_ray_ratios),
        "photographs, probability": (summarize(photographs, is_bootstrapped=True), photo_ratios),
    }
    print(f"{'images':<26}{'rule':<9}{'score':>7}{'difference':>12}  95% interval")
    for name, (summary, ratios) in results.items():
        for rule, row in summary.items():
            print(
                f"{name:<26}{rule:<9}{row['score']:>7.3f}{row['difference']:>+12.3f}  {row['low']:+.3f} to {row['high']:+.3f}"
            )
        print(f"{'':<26}width / height: {ratios[0]} to {ratios[2]}, median {ratios[1]}")
    print(json.dumps({name: summary for name, (summary, _) in results.items()}))


if __name__ == "__main__":
    main()
