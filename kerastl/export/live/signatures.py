"""Compare the signatures that a server tells of with those in the export's own file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerastl.export.graph_file import served_signatures

Signature = dict[str, str]
"""From `input image_bytes` or `output probabilities` to its type and shape, and `method` to its name."""


def signatures_of(export: Path) -> dict[str, Signature]:
    """Return the signatures in the graph of an export, by name; empty: it cannot be read.

    Args:
        export: the numbered folder.
    """
    try:
        return plain(served_signatures(export) or {})
    except (OSError, ValueError):
        return {}


def plain(signatures: Mapping[str, Any]) -> dict[str, Signature]:
    """Return signatures as text, without those that TensorFlow keeps for itself."""
    return {
        name: dict(_lines(signature))
        for name, signature in signatures.items()
        if not name.startswith("__")
    }


def differences(own: Mapping[str, Signature], told: Mapping[str, Signature]) -> list[str]:
    """Return what a server tells otherwise than the export, a line each."""
    found = [f"{name} is missing on the server" for name in sorted(own.keys() - told.keys())]
    found += [f"{name} is not in the export" for name in sorted(told.keys() - own.keys())]
    for name in sorted(own.keys() & told.keys()):
        mine, there = own[name], told[name]
        found += [
            f"{name}: {part} is {there.get(part, 'missing')} on the server, {mine.get(part, 'missing')} in the export"
            for part in sorted(mine.keys() | there.keys())
            if mine.get(part) != there.get(part)
        ]
    return found


def _lines(signature: Any) -> Iterator[tuple[str, str]]:
    yield "method", signature.method_name
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for name, info in tensors.items():
            # The tensor's name in the graph is left out: no client ever says it.
            yield f"{kind} {name}", f"{_type_name(info.dtype)} {_shape(info.tensor_shape)}"


def _type_name(number: int) -> str:
    from tensorflow.core.framework import types_pb2

    try:
        return str(types_pb2.DataType.Name(number))
    except ValueError:
        return f"type {number}"


def _shape(shape: Any) -> str:
    if shape.unknown_rank:
        return "of unknown rank"
    return str([dim.size for dim in shape.dim]).replace("-1", "n")
