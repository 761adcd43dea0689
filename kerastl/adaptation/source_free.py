"""What a recipe without pictures of the source asks: what a trained model says of itself, and who can do without. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerastl import registry
from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.adaptation.named import KIND, method_named


def works_without_source(kind: str, name: str) -> bool:
    """Tell whether a method or a validator can do without pictures of the source.

    Args:
        kind: `adaptation` or `validator`.
        name: of one that there is.
    """
    if kind == KIND:
        # Not to adapt is a candidate always: the model as it came.
        return name == SOURCE_ONLY or method_named(name).works_without_source
    found: Any = registry.module(kind, name)
    return found.VALIDATOR.needs is None


def plain_of(path: Path) -> Mapping[str, Any]:
    """Return what a trained model says of itself, as a recipe would.

    Args:
        path: a run folder, or a portable folder of a run.

    Returns:
        `{"source": {"model"}, "backbone": {...}, "head": {...}, "data": {"image_size_px", "window"}}`; the folder of the model
        is the one with the highest number, where `path` holds several.

    Raises:
        RequestError: there is no such model, or it is damaged.
    """
    from kerastl.evaluation.trained_model import read_source_model

    found = read_source_model(path)
    window: Any = "full"
    if found.description.window is not None:
        low, high = found.description.window
        window = {"center": (low + high) / 2, "width": high - low}
    return {
        "source": {"model": str(found.folder)},
        "backbone": {**found.backbone, "weights": str(found.folder)},
        "head": {"dropout": found.dropout},
        "data": {"image_size_px": found.description.image_size_px, "window": window},
    }
