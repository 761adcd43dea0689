"""Whether changed pictures lie where untouched pictures of another class lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastl.audit.judges import Jury, scaling

Array = np.ndarray[Any, Any]

NEIGHBOURS = 5
USUAL = 0.9
"""Share of a class's own untouched pictures that count as lying where the class lies."""


class Neighbourhood:
    """Distances to the untouched pictures of other groups.

    A picture lies among class y when most of its 5 nearest untouched pictures are of y, and the fifth
    nearest of y is no farther than it is for 90 of 100 untouched pictures of y. The second half matters:
    a picture unlike anything in the data set has nearest neighbours, too.

    Args:
        jury: the untouched pictures.
    """

    def __init__(self, jury: Jury) -> None:
        self._labels, self._groups = jury.labels, jury.groups
        self._classes = np.unique(jury.labels)
        self._mean, self._scale = scaling(jury.features, jury.widths)
        self._untouched = (jury.features - self._mean) * self._scale
        self._lengths = (self._untouched**2).sum(axis=1)
        _, far = self._votes_and_distances(jury.features)
        reach = [
            np.quantile(far[self._labels == one, one], USUAL, method="lower")
            for one in self._classes
        ]
        # A class with too few pictures in other groups has no place of its own.
        self._reach = np.where(np.isfinite(reach), reach, -1.0)

    def among(self, features: Array) -> Array:
        """Tell for each picture among which class it lies.

        Args:
            features: `[n, width]`, versions of the jury's pictures in its order: those of a picture's own
                group do not count as neighbours.

        Returns:
            `[n]` int64: the class, -1 for none.
        """
        votes, far = self._votes_and_distances(features)
        nearest = votes.argmax(axis=1)
        rows = np.arange(len(features))
        return np.where(far[rows, nearest] <= self._reach[nearest], nearest, -1)

    def _votes_and_distances(self, features: Array) -> tuple[Array, Array]:
        """Return votes `[n, classes]` of the nearest, squared distances `[n, classes]` to the fifth of each."""
        moved = (features - self._mean) * self._scale
        squared = (moved**2).sum(axis=1)[:, None] + self._lengths - 2 * moved @ self._untouched.T
        squared[self._groups[:, None] == self._groups] = np.inf
        nearest = np.argpartition(squared, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        votes = np.stack(
            [(self._labels[nearest] == one).sum(axis=1) for one in self._classes], axis=1
        )
        far = np.full(votes.shape, np.inf)
        for place, one in enumerate(self._classes):
            distances = squared[:, self._labels == one]
            if distances.shape[1] >= NEIGHBOURS:
                far[:, place] = np.partition(distances, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        return votes, far
