"""Which pictures are judged where there are more than time allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def sample(
    labels: Sequence[str], groups: Sequence[str], *, most_per_class: int, seed: int
) -> list[int]:
    """Return the places of at most so many pictures a class, as many groups as possible.

    Every group gives its first picture before any gives its second; which come first is drawn.

    Args:
        labels, groups: of each picture.
        most_per_class: pictures.
        seed: another seed, other pictures.
    """
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in sorted(set(labels)):
        rows = [int(row) for row in np.flatnonzero(np.asarray(labels, object) == label)]
        order = [rows[place] for place in generator.permutation(len(rows))]
        turn: dict[str, int] = {}
        rounds = []
        for row in order:
            turn[groups[row]] = turn.get(groups[row], -1) + 1
            rounds.append(turn[groups[row]])
        ranked = sorted(range(len(order)), key=lambda place: (rounds[place], place))
        chosen += [order[place] for place in ranked[:most_per_class]]
    return sorted(chosen)
