"""The weights at the end of the last epoch that went well."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from kerastl.training.checkpoint import assign


class GoodWeights:
    """Copies of a model's weights.

    Args:
        model: whose weights they are.

    Attributes:
        values: one array a weight, in order; never written to.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._moving: Collection[str] = ()
        self.take_all()

    def take_all(self) -> None:
        """Copy every weight, wherever it came from."""
        self.values = [_copy(weight) for weight in self._model.weights]

    def expect(self, moving: Collection[str]) -> None:
        """Say which weights may move from here on, by path; the others are not copied again."""
        self._moving = moving

    def now(self) -> list[Any]:
        """Return the weights as they are now, as copies that stay as they are."""
        return [
            _copy(weight) if weight.path in self._moving else value
            for weight, value in zip(self._model.weights, self.values, strict=True)
        ]

    def put_back(self) -> None:
        """Give the model these weights."""
        assign(self._model.weights, self.values)


def _copy(weight: keras.Variable) -> Any:
    return np.array(keras.ops.convert_to_numpy(weight))
