"""What a run will train, as known before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerastl.data import ImageDataset
from kerastl.recipe import Phase, read_plain
from kerastl.runs import RESOLVED_RECIPE, Run
from kerastl.workflows.model import InitialModel


@dataclass(frozen=True)
class Plan:
    """What will be run.

    Args:
        phases: as training knows them, checked, their caches decided.
        start: the model.
        trains, vals: images by domain.
        beside: the target's images that each phase reads beside its own; None: it reads none.
        began: the recipe that a run that goes on began with: what was decided then holds; None: it begins now.
    """

    phases: Sequence[Phase]
    start: InitialModel
    trains: Mapping[str, ImageDataset]
    vals: Mapping[str, ImageDataset]
    beside: Sequence[ImageDataset | None]
    began: Mapping[str, Any] | None = None

    @property
    def reads(self) -> list[list[ImageDataset]]:
        """Training images that each phase learns from; none where there are none of its domain."""
        return [
            [one for one in (self.trains.get(phase.domain), beside) if one is not None]
            for phase, beside in zip(self.phases, self.beside, strict=True)
        ]


def began_with(run: Run, *, resume: bool) -> dict[str, Any] | None:
    """Return the recipe that a run that goes on began with, as plain values; None: it begins now."""
    if not resume or not run.file(RESOLVED_RECIPE).is_file():
        return None
    told: dict[str, Any] = read_plain(run.file(RESOLVED_RECIPE).read_text(encoding="utf-8"))
    return told
