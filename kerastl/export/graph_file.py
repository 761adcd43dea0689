"""`saved_model.pb` of an export, read as a message: nothing is loaded, nothing can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

GRAPH = "saved_model.pb"
SERVE = "serve"
"""The tag of the graph that a server takes."""


def read_graph(export: Path) -> Any:
    """Return the graphs of a SavedModel, TensorFlow's message `SavedModel`.

    Args:
        export: the numbered folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((export / GRAPH).read_bytes())
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return saved


def served_signatures(export: Path) -> dict[str, Any] | None:
    """Return the signatures that a server takes, TensorFlow's `SignatureDef` by name; None: no graph is for serving.

    Args:
        export: the numbered folder.

    Raises:
        OSError, ValueError: as `read_graph`.
    """
    for meta in read_graph(export).meta_graphs:
        if SERVE in meta.meta_info_def.tags:
            return dict(meta.signature_def)
    return None
