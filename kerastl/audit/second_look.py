"""Where pictures lie that are taken for another class: asked on fresh draws, of what is suspected."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kerastl.audit.measure import FINER_MARGIN, TAKEN_MARGIN, Court, Pair

Array = np.ndarray[Any, Any]


@dataclass
class SecondLook:
    """Where pictures lie that are taken for another class.

    Args:
        court: the judges.
        draws: fresh ones, as in `Court.measure`.
    """

    court: Court
    draws: Sequence[Array]
    _others: dict[int, Array] = field(default_factory=dict)

    @cached_property
    def _taught(self) -> Array:
        return self._answers(range(self.court.classes))

    @cached_property
    def _among(self) -> tuple[Array, Array]:
        """Among which class pictures lie: untouched `[n]`, changed `[draws, n]`."""
        where = self.court.neighbourhood
        before = where.among(self.court.jury.features)
        return before, np.stack([where.among(one) for one in self.draws])

    def _taught_but_on(self, target: int) -> Array:
        if target not in self._others:
            others = [one for one in range(self.court.classes) if one != target]
            self._others[target] = self._answers(others)
        return self._others[target]

    def _answers(self, changed_classes: Sequence[int]) -> Array:
        jury = self.court.jury
        judges = jury.train(self.draws, changed_classes)
        found: Array = np.stack([jury.ask(judges, one) for one in self.draws]).argmax(axis=-1)
        return found

    def at(self, pair: Pair) -> Pair:
        """Ask of pictures that are taken for another class whether they lie where its untouched pictures lie.

        Judges that learnt the operation on every class tell whether it can be learnt. Judges that learnt it on every
        class but the target, each picture under its own label, call a changed picture the target only where untouched
        pictures of the target are denser. And the share that lies among the target's untouched pictures is counted.

        Returns:
            The pair with everything that was not asked before.
        """
        source, target, court = pair.source, pair.target, self.court
        untouched = court.untouched
        before, among = self._among
        apart = self._taught_but_on(target)
        return dataclasses.replace(
            pair,
            taught_again=court.rise(self._taught, untouched, source, target, TAKEN_MARGIN),
            taught_some=court.rise_either_way(self._taught, source, target),
            other_taught=court.rise(apart, untouched, source, target, FINER_MARGIN),
            among=court.rise(among, before, source, target, FINER_MARGIN),
            among_many=court.rise(among, before, source, target, TAKEN_MARGIN),
        )
