"""A small classifier, all of which learns."""

import pytest
from domains_drawn import small_model

from kerastl.training import unfreeze


@pytest.fixture
def model():
    model = small_model()
    unfreeze(model, "all")
    return model
