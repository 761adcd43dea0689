"""The images on which an export is verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl.export import load_probe_set


@pytest.mark.parametrize(
    "layout",
    [
        ["cat/{}"] * 20 + ["dog/{}"] * 20,
        ["cat/{}"] * 20 + ["zebra/{}"],
        ["train/cat/{}"] * 9 + ["train/dog/{}"] * 9 + ["val/cat/{}"] * 9 + ["val/dog/{}"] * 9,
        [f"cat/patient{number}/{{}}" for number in range(20)] + ["dog/patient20/{}"],
        ["cat_{}"] * 20 + ["dog_{}"] * 20,
        ["{}_cat", "{}_dog"] * 10,
        [name for number in range(12) for name in ("{}_cat", "{}_dog", "{}_owl", "{}_pig")],
    ],
    ids=["classes", "rare class", "splits", "patients", "sorted names", "alternating names", "four names"],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_a_few_images_of_a_folder_or_a_list_are_of_all_classes(
    export: Path, tmp_path: Path, layout: list[str], as_list: bool
) -> None:
    values = {"cat": 40, "dog": 120, "zebra": 200, "owl": 160, "pig": 220}
    for number, name in enumerate(layout):
        file = tmp_path / f"{name.format(f'{number:03d}')}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = next(kind for kind in values if kind in name)
        Image.fromarray(np.full((4, 4, 3), values[kind] + number % 32, np.uint8)).save(file)
    images = sorted(tmp_path.rglob("*.bmp")) if as_list else [tmp_path]
    contents = load_probe_set(export, images=images, run=None, limit=8).encoded
    assert len(contents) == len(set(contents)) == 8
    used = {values[kind] for kind in values if any(kind in name for name in layout)}
    found = {max(value for value in used if value <= content[-12]) for content in contents}
    assert found == used
    again = load_probe_set(export, images=images, run=None, limit=8).encoded
    assert again == contents


def test_images_that_are_fewer_than_the_limit_or_repeated_are_all_used(export: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)
    assert len(load_probe_set(export, images=[file, file, tmp_path], run=None).encoded) == 3
