"""Labels as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kerastl.data.records import Record

UNLABELLED = -1


def labels_of(records: Sequence[Record], class_names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the place of each record's label among the classes: `[records]` int32, -1 where it has none."""
    places: dict[str | None, int] = {name: place for place, name in enumerate(class_names)}
    return np.array([places.get(record.label, UNLABELLED) for record in records], np.int32)
