"""Write what belongs to one version of a SavedModel, before its manifest is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.export.serving.card import write_card
from kerastl.export.serving.facts import Facts
from kerastl.export.serving.warm_up import write_warm_up


def write_inside(folder: Path, facts: Facts, **told: Any) -> None:
    """Write warm-up requests and the model card into the folder of a SavedModel.

    Args:
        folder: that holds `saved_model.pb`, not yet its manifest.
        facts: what may be told of the run.
        told: as in `write_card`.

    Raises:
        OSError: the disk is full.
    """
    write_warm_up(folder, image_size_px=told["image_size_px"], max_pixels=told["max_pixels"])
    write_card(folder, facts, **told)
