"""What TF Serving asks of a SavedModel before it answers at all, read from the file: nothing is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.export.findings import Finding
from kerastl.export.graph_file import served_signatures
from kerastl.export.method_names import CLASSIFY

ENDPOINTS = "endpoints"
REQUIRED_INPUTS = {"serving_default": "image_bytes", "pixels": "images"}
"""Signatures that every export has, with the name of their one input."""
WANTED = ("probabilities", "predicted", "class_names")
CARRIED = frozenset({
    "DT_FLOAT", "DT_DOUBLE", "DT_INT8", "DT_UINT8", "DT_INT16", "DT_UINT16", "DT_INT32", "DT_UINT32", "DT_INT64",
    "DT_UINT64", "DT_STRING", "DT_BOOL",
})  # fmt: skip
"""Types that TF Serving's REST interface can send: half floats and bfloat16 are none of them."""
CLASSIFY_OUTPUTS = ({"classes", "scores"}, {"classes"}, {"scores"})


def check_contract(export: Path) -> list[Finding]:
    """Check the version folder, the endpoints and their names, and that their types travel by REST.

    Args:
        export: the numbered folder that holds `saved_model.pb`.
    """
    folder = _check_number(export)
    signatures = _signatures(export)
    if signatures is None:
        unread = "saved_model.pb is damaged: it cannot be read"
        return [folder, Finding(ENDPOINTS, False, unread), Finding("types for REST", None, unread)]
    return [folder, _check_names(signatures), _check_types(signatures)]


def _signatures(export: Path) -> dict[str, Any] | None:
    try:
        return served_signatures(export) or {}
    except (OSError, ValueError):
        return None


def _check_number(export: Path) -> Finding:
    name = export.resolve().name
    if name.isdecimal() and int(name) > 0:
        return Finding("version folder", True, f"version {name}")
    told = f"{name!r} is no number: TF Serving takes only folders that are named by one, as 1"
    return Finding("version folder", False, told)


def _check_names(signatures: dict[str, Any]) -> Finding:
    faults = []
    for name, takes in REQUIRED_INPUTS.items():
        if name not in signatures:
            faults.append(f"no endpoint {name}")
            continue
        faults += _faults_of_plain(name, takes, signatures[name])
    if "classify" in signatures:
        faults += _faults_of_classify(signatures["classify"])
    faults += [
        f"output {output} of {name}: TF Serving would send a name that ends in _bytes as base64"
        for name, one in sorted(signatures.items()) for output in one.outputs if output.endswith("_bytes")
    ]  # fmt: skip
    others = sorted(name for name in signatures if not name.startswith("__"))
    return Finding(ENDPOINTS, not faults, "; ".join(faults) or ", ".join(others))


def _faults_of_plain(name: str, takes: str, signature: Any) -> list[str]:
    faults = []
    if set(signature.inputs) != {takes}:
        faults.append(f"{name} takes {sorted(signature.inputs)}, not {takes}")
    lacking = [output for output in WANTED if output not in signature.outputs]
    if lacking:
        faults.append(f"{name} does not answer {', '.join(lacking)}")
    return faults


def _faults_of_classify(signature: Any) -> list[str]:
    faults = []
    if signature.method_name != CLASSIFY:
        faults.append(f"classify is of the kind {signature.method_name}, not {CLASSIFY}")
    if set(signature.inputs) != {"inputs"}:
        faults.append(f"classify takes {sorted(signature.inputs)}, not inputs")
    if set(signature.outputs) not in CLASSIFY_OUTPUTS:
        faults.append(f"classify answers {sorted(signature.outputs)}, not classes and scores")
    return faults


def _check_types(signatures: dict[str, Any]) -> Finding:
    from tensorflow.core.framework import types_pb2

    faults = [
        f"{which} {key} of {name} is {kind.removeprefix('DT_').lower()}"
        for name, one in sorted(signatures.items()) if not name.startswith("__")
        for which, tensors in (("input", one.inputs), ("output", one.outputs))
        for key, info in sorted(tensors.items())
        if (kind := types_pb2.DataType.Name(info.dtype)) not in CARRIED
    ]  # fmt: skip
    told = "; ".join(faults) + ": REST cannot send it, cast it to float32"
    return Finding("types for REST", not faults, told if faults else "all can be sent")
