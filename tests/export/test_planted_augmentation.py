"""Keras's augmentation layers augment unless they are told not to: an export of such a model is found out."""

from pathlib import Path
from typing import Any

import keras
import pytest

from kerastl.evaluation import load_trained
from kerastl.export import expected_from, verify
from kerastl.export.endpoints import Served, bytes_endpoint
from tests.export.test_verify import SETTINGS, faults, planted


@pytest.mark.slow
def test_augmentation_that_was_left_in_is_named(
    model: Any, run_folder: Path, encoded: list[bytes], tmp_path: Path
) -> None:
    augmented = keras.Sequential(
        [keras.Input(model.input_shape[1:]), keras.layers.RandomBrightness(0.5, seed=3), model]
    )

    class AsTrained:
        """A model that is called without a word about training, as `model.export()` calls it."""

        inputs, layers, variables = augmented.inputs, [], augmented.variables

        def __call__(self, images: Any, training: bool) -> Any:
            del training
            return augmented(images)

    served: Any = Served(AsTrained(), **SETTINGS)  # type: ignore[arg-type]
    export = planted(augmented, tmp_path / "served", bytes_endpoint(served))
    expected = expected_from(load_trained(run_folder), encoded)
    found = faults(verify(export, pictures=encoded, expected=expected))
    assert "StatelessRandom" in found["no random op in the graph"]
    assert "Assign" in found["no variable is written"]
    assert "change from call to call" in found["asked 3 times"]
    assert "equal to kerastl predict" in found
