"""Small classifiers."""

import pytest
from make_domains import small_model

from kerastl.training import unfreeze


@pytest.fixture
def model():
    """A classifier in which every layer is trainable."""
    model = small_model()
    unfreeze(model, "all")
    return model


@pytest.fixture(scope="session")
def unchanged_model():
    """A classifier for tests that only read it."""
    return small_model()
