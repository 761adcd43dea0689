"""Networks for tests of weights files."""

import pytest

from kerastl.models import build_backbone, build_model


@pytest.fixture(scope="module")
def small_cnn():
    return build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)


@pytest.fixture(scope="module")
def small_classifier(small_cnn):
    return build_model(small_cnn, class_names=("a", "b", "c"))
