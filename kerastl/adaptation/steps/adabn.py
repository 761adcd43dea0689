"""The step of `adabn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerastl.adaptation.steps.source_only import SourceOnly


class AdaBN(SourceOnly):
    """Classification of the source, evaluated with the statistics of the target.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
    reads: Sequence[str] = ("source", "target")

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"follow_statistics": True}))
