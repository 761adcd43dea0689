"""Small recipes that together use every kind of state that a resumed run must restore."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

import numpy as np

SMALL = [
    "data.reader={name: phantom, patients: 24, slices_per_patient: 2, image_size_px: 32}",
    "data.image_size_px=32",
    "data.batch_size=8",
    "export.formats=[]",
]
ONE_DOMAIN = [*SMALL, "target=null"]
BRIGHTNESS = "{name: random_brightness, max_fraction: 0.2}, {name: random_contrast, max_fraction: 0.2}"

RECIPES = {
    # The shortest run: most of its time is before its first epoch.
    "short": [*ONE_DOMAIN, "phases=[{name: whole, epochs: 2, learning_rate: 1e-3, trainable: all}]"],
    # Moving average and early stopping without a cache; a boundary cache of two augmented views; cached features.
    "caches": [
        *ONE_DOMAIN,
        f"augment={{operations: [{BRIGHTNESS}], views: 2}}",
        "phases=["
        "{name: whole, epochs: 4, learning_rate: 1e-3, trainable: all, ema: 0.95, early_stopping: 3, cache: none},"
        "{name: last, epochs: 5, learning_rate: 1e-3, trainable: {from_block: block_3}, batch_norm: frozen, cache: boundary},"
        "{name: head, epochs: 6, learning_rate: 3e-3, trainable: none, batch_norm: frozen, cache: features, schedule: cosine}]",
    ],
    # Optimizer state kept between phases, gradual unfreezing, layer-wise learning rates, accumulated and clipped gradients.
    "momenta": [
        *ONE_DOMAIN,
        "phases=["
        "{name: whole, epochs: 3, learning_rate: 1e-3, trainable: all, optimizer: adamw, weight_decay: 0.01, accumulate: 2},"
        "{name: top, epochs: 4, learning_rate: 1e-3, trainable: {unfreeze: one_block_per_epoch}, batch_norm: frozen,"
        " optimizer_state: keep, layer_decay: 0.7, clip_norm: 1.0, l2_sp: 0.01},"
        "{name: head, epochs: 4, learning_rate: 1e-3, trainable: none, batch_norm: frozen, cache: features,"
        " cache_precision: bfloat16, accumulate: 3, early_stopping: 2, keep: last}]",
    ],
    # New augmentation in each epoch, mixing, average of the last epochs.
    "averages": [
        *ONE_DOMAIN,
        f"augment={{operations: [{BRIGHTNESS}], mixing: [{{name: mix_up}}]}}",
        "phases=["
        "{name: whole, epochs: 4, learning_rate: 1e-3, trainable: all, average_last: 2, focal_gamma: 1.0},"
        "{name: last, epochs: 4, learning_rate: 1e-3, trainable: {from_block: block_3}, batch_norm: trainable, ema: 0.9,"
        " optimizer: sgd, warmup_epochs: 1, optimizer_state: reset},"
        "{name: head, epochs: 3, learning_rate: 3e-3, trainable: none, batch_norm: statistics, early_stopping: 2}]",
    ],
    # Two hospitals: phases of both domains, with caches.
    "target": [
        *SMALL,
        "target.reader={name: phantom, hospital: b, patients: 24, slices_per_patient: 2, image_size_px: 32}",
        "phases=["
        "{name: source, epochs: 3, learning_rate: 1e-3, trainable: all, monitor: val_auc},"
        "{name: polish, epochs: 3, learning_rate: 1e-3, trainable: {from_block: block_3}, batch_norm: frozen, cache: boundary,"
        " cache_precision: uint8},"
        "{name: adapt, domain: target, epochs: 5, learning_rate: 1e-3, trainable: none, batch_norm: frozen, cache: features,"
        " keep: last, average_last: 2}]",
    ],
    # A deeper network with skip connections.
    "mobilenet": [
        *ONE_DOMAIN,
        "backbone={name: mobilenet_v2, weights: none, alpha: 0.35}",
        "phases=["
        "{name: whole, epochs: 2, learning_rate: 1e-3, trainable: all},"
        "{name: last, epochs: 4, learning_rate: 1e-3, trainable: {from_block: block_13}, batch_norm: frozen, cache: boundary},"
        "{name: head, epochs: 4, learning_rate: 3e-3, trainable: none, batch_norm: frozen, cache: features, ema: 0.9}]",
    ],
}  # fmt: skip
COMPARED = ("history.jsonl", "predictions.csv", "scores.json", "freeze.json")


def command(recipe: str, out: Path) -> list[str]:
    """Return the arguments of `kerastl` that start or resume a run of a recipe."""
    sets = [word for setting in RECIPES[recipe] for word in ("--set", setting)]
    return ["run", "quickstart", "--out", str(out), *sets, "--resume"]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every compared file. Models are compared by their arrays, because the archive contains a date."""
    digest_by_file = {}
    for name in sorted({"model.keras", *COMPARED}):
        for file in sorted(folder.rglob(name)):
            digest_by_file[str(file.relative_to(folder))] = (
                _of_arrays(file) if file.suffix == ".keras" else hashlib.sha256(file.read_bytes()).hexdigest()
            )
    return digest_by_file


def _of_arrays(file: Path) -> str:
    import h5py

    digest = hashlib.sha256()

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode() + np.ascontiguousarray(item[()]).tobytes())

    with zipfile.ZipFile(file) as archive, tempfile.TemporaryDirectory() as scratch:
        archive.extract("model.weights.h5", scratch)
        with h5py.File(Path(scratch) / "model.weights.h5") as weights:
            weights.visititems(take)
    return digest.hexdigest()
