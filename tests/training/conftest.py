"""Random images and a small model."""

import pytest
from array_dataset import ArrayDataset, make_images


@pytest.fixture
def train() -> ArrayDataset:
    return ArrayDataset(*make_images(40))


@pytest.fixture
def val() -> ArrayDataset:
    return ArrayDataset(*make_images(20, seed=1), shuffle=False)


@pytest.fixture
def model():
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
    return build_model(backbone, class_names=("dark", "light"), dropout=0.2, seed=3)
