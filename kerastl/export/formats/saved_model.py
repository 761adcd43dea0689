"""TensorFlow SavedModel, for TensorFlow Serving and TensorFlow's C, Java and Go interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.postprocess import Postprocessing


FILES = ("saved_model.pb",)


def write(
    trained: Trained,
    out: Path,
    *,
    postprocessing: Postprocessing,
    model_name: str,
    version: int | None = None,
) -> Path:
    """Export a trained model under `out` as `version`, or the next one, and return its folder."""
    from kerastl.export.model_card import read_model_facts
    from kerastl.export.saved_model import write_saved_model

    facts = read_model_facts(trained.folder)
    return write_saved_model(trained, out, postprocessing, version, facts, model_name)


def write_server_files(out: Path, trained: Trained, *, model_name: str) -> None:
    """Write files for TensorFlow Serving, Docker Compose and Kubernetes next to the versions, except modified ones."""
    from kerastl.export.serving_files import write_serving_files

    write_serving_files(
        out, class_names=trained.class_names, image_size_px=trained.image_size_px, model_name=model_name
    )
