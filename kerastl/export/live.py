"""Check that a running TensorFlow Serving serves an export: send requests by gRPC and REST, and compare the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.export.findings import MAX_DIFFERENCE, ExpectedPredictions, Finding
from kerastl.export.graph_check import served_signatures
from kerastl.export.live_clients import (
    CLASSIFY,
    Client,
    Floats,
    GrpcClient,
    Predictions,
    RestClient,
    Server,
    ServerFault,
    clean,
)
from kerastl.export.serving_files import batch_sizes

MAX_IMAGES = 4
"""Images in one request, unless the batch sizes of the server are smaller."""
FEW = 2
"""Number of requests in another form, for predictions that were compared already."""
MAX_BYTES = 8 * 2**20
"""Bytes in one request, unless a single image has more."""
NOT_AN_IMAGE = b"these bytes are not an image"
AVAILABLE = "AVAILABLE"
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: AVAILABLE, 40: "UNLOADING", 50: "END"}
SAME_TEMPERATURE = 0.02
"""Largest relative deviation from one common factor between log odds that differ by a temperature."""

Signature = dict[str, str]
"""From `input image_bytes` or `output probabilities` to its type and shape, and `method` to its name."""


class NotChecked(Exception):
    """A check that cannot be made. The text says why."""


def reference_predictions(
    outputs: dict[str, Any] | None, expected: ExpectedPredictions | None
) -> ExpectedPredictions | None:
    """Return the predictions that a server must reproduce: those of the export in the fresh process, or else of the run."""
    if outputs is None:
        return expected
    first = outputs["batch"][0]
    rows = np.asarray(first["probabilities"], np.float32)
    return ExpectedPredictions(tuple(first["class_names"][0]), rows, tuple(first["predicted"]))


def check_live(
    server: Server,
    export: Path,
    *,
    images: Sequence[bytes],
    image_size_px: int,
    reference: ExpectedPredictions | None,
) -> list[Finding]:
    """Check that a running TensorFlow Serving predicts as an export does.

    Args:
        server: its addresses.
        export: the version folder.
        images: whole files that can be decoded, at least one; they are sent to the server.
        image_size_px: side of the square image that the model takes, in pixels.
        reference: the expected predictions; None to compare none.

    Returns:
        One finding for each check and each API; `passed` is None if the check was not made.
    """
    requests = list(_requests(images, min(MAX_IMAGES, batch_sizes(image_size_px)[-1])))
    clients: list[Client] = []
    if server.grpc is not None:
        clients.append(GrpcClient(server.grpc, server))
    if server.rest is not None:
        clients.append(RestClient(server.rest, server))
    findings: list[Finding] = []
    for client in clients:
        try:
            findings += _findings(client, _checks(client, export, requests, reference))
        finally:
            client.close()
    return findings


def _findings(client: Client, checks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    is_unreachable = False
    for name, check in checks.items():
        title = f"{client.name}: {name}"
        if is_unreachable:
            yield Finding(title, None, "not checked, because the server did not respond")
            continue
        try:
            detail = check()
        except ServerFault as fault:
            is_unreachable = fault.is_unreachable
            yield Finding(title, False, str(fault))
        except NotChecked as reason:
            yield Finding(title, None, str(reason))
        else:
            yield Finding(title, True, detail)


def _checks(
    client: Client, export: Path, requests: Sequence[list[bytes]], reference: ExpectedPredictions | None
) -> dict[str, Callable[[], str]]:
    """Return the checks of one API by name; each returns its detail or raises."""
    number = export.resolve().name
    version = int(number) if number.isdecimal() else None
    own = _signatures_of(export)

    def classify() -> str:
        if CLASSIFY not in own:
            raise NotChecked(f"the export has no endpoint {CLASSIFY}")
        return _compared(client.classify, requests[:FEW], reference)

    checks = {
        "available": lambda: check_status(client.status(), version),
        "version": lambda: check_version(client.metadata()[0], version),
        "signatures": lambda: check_signatures(own, client.metadata()[1].signature_def),
        # Before the predictions, which then show that the server still works.
        "invalid image refused": lambda: check_refusal(*client.refusal(NOT_AN_IMAGE), client.refusal_code),
        "predictions": lambda: _compared(client.predict, requests, reference),
        "classify": classify,
    }
    if isinstance(client, RestClient):
        columns = client.predict_columns
        checks["columns"] = lambda: _compared(columns, requests[:FEW], reference)
    return checks


def _requests(images: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    """Yield the images of each request: the first alone, then as many as fit."""
    request: list[bytes] = []
    for number, image in enumerate(images):
        is_full = len(request) == most or sum(map(len, request)) + len(image) > MAX_BYTES
        if request and (is_full or number == 1):
            yield request
            request = []
        request.append(image)
    if request:
        yield request


def check_status(status: Any, version: int | None) -> str:
    """Return the state of each version.

    Args:
        status: a `GetModelStatusResponse`.
        version: number of the export's folder; None for any.

    Raises:
        ServerFault: that version is not available.
    """
    entries = status.model_version_status
    states = {entry.version: STATES.get(entry.state, str(entry.state)) for entry in entries}
    listed = ", ".join(f"version {number} {state}" for number, state in sorted(states.items())[:9])
    if version is None:
        if AVAILABLE not in states.values():
            raise ServerFault(f"no version is available: {listed or 'there is none'}")
        return listed
    if version not in states:
        raise ServerFault(
            f"version {version} is not there ({listed or 'there is none'}). Put the export's folder, "
            f"named {version}, where the server looks for versions"
        )
    if states[version] != AVAILABLE:
        errors = [entry.status.error_message for entry in entries if entry.version == version]
        raise ServerFault(f"{listed}. {clean(errors[0]) or 'Check again when it is loaded'}")
    return listed


def check_version(served: int, version: int | None) -> str:
    """Check the version that is served to clients that request none.

    Raises:
        ServerFault: it is not the export's.
    """
    if version is None:
        return f"version {served} is served by default; the export's folder has no number to compare"
    if served != version:
        raise ServerFault(
            f"version {served} is served by default, but this is version {version}. Verify that version "
            "instead, or serve this one: the highest number, or model_version_policy in models.config"
        )
    return f"version {served} is served by default"


def check_signatures(own: Mapping[str, Signature], served: Mapping[str, Any]) -> str:
    """Compare the signatures of a server with the export's.

    Raises:
        ServerFault: they differ.
    """
    remote = _plain(served)
    faults = [f"{name} is missing on the server" for name in sorted(own.keys() - remote.keys())]
    faults += [f"{name} is not in the export" for name in sorted(remote.keys() - own.keys())]
    faults += [
        f"{name}: {part} is {remote[name].get(part, 'missing')} on the server, "
        f"{own[name].get(part, 'missing')} in the export"
        for name in sorted(own.keys() & remote.keys())
        for part in sorted(own[name].keys() | remote[name].keys())
        if own[name].get(part) != remote[name].get(part)
    ]
    if faults:
        raise ServerFault("; ".join(faults[:5]))
    return f"{', '.join(sorted(own))} are the export's"


def _signatures_of(export: Path) -> dict[str, Signature]:
    """Return the signatures of an export by name; empty if its graph cannot be read."""
    try:
        return _plain(served_signatures(export) or {})
    except (OSError, ValueError):
        return {}


def _plain(signatures: Mapping[str, Any]) -> dict[str, Signature]:
    """Return signatures as text, without TensorFlow's internal ones and without the names of nodes."""
    plain: dict[str, Signature] = {}
    for name, signature in signatures.items():
        if name.startswith("__"):
            continue
        plain[name] = {"method": signature.method_name}
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                plain[name][f"{kind} {key}"] = f"{_type(info.dtype)} {_shape(info.tensor_shape)}"
    return plain


def _type(number: int) -> str:
    from tensorflow.core.framework import types_pb2

    try:
        return str(types_pb2.DataType.Name(number))
    except ValueError:
        return f"type {number}"


def _shape(shape: Any) -> str:
    if shape.unknown_rank:
        return "of unknown rank"
    return str([dim.size for dim in shape.dim]).replace("-1", "n")


def check_refusal(code: str, message: str, wanted: str) -> str:
    """Return how an image that cannot be decoded was refused.

    Raises:
        ServerFault: it was accepted, or refused as if the server had failed.
    """
    if code == wanted and message:
        return f"{code}: {message}"
    if code in ("OK", "200"):
        raise ServerFault("bytes that are not an image got a prediction")
    reason = message or "without a reason"
    raise ServerFault(f"{code} instead of {wanted} and a reason: {reason}")


def _compared(
    ask: Callable[[Sequence[bytes]], Predictions],
    requests: Sequence[list[bytes]],
    reference: ExpectedPredictions | None,
) -> str:
    if reference is None:
        raise NotChecked("not compared, because the export itself gave no predictions")
    return check_predictions([ask(images) for images in requests], reference)


def check_predictions(predictions: Sequence[Predictions], reference: ExpectedPredictions) -> str:
    """Return how well predictions agree with the expected ones.

    Args:
        predictions: for consecutive images, starting with the first.
        reference: for these images, and perhaps more.

    Raises:
        ServerFault: they differ.
    """
    own = reference.class_names
    names = [row for batch in predictions for row in batch.class_names]
    for row in names:
        if sorted(row) != sorted(own):
            raise ServerFault(f"other classes: {_listed(row)}, in the export {_listed(own)}")
    rows = np.concatenate([_ordered(batch, own) for batch in predictions])
    predicted = [name for batch in predictions for name in batch.predicted or ()]
    # Classify names each score, so that its order is free.
    if predicted and any(row != own for row in names):
        raise ServerFault(f"classes in another order: {_listed(names[0])}, in the export {_listed(own)}")
    wanted = reference.probabilities[: len(rows)]
    labels = reference.predicted or tuple(own[index] for index in wanted.argmax(axis=1))
    gap = float(np.abs(rows - wanted).max())
    others = sum(name != label for name, label in zip(predicted, labels, strict=False))
    # Not `gap > MAX_DIFFERENCE`: NaN never agrees.
    if gap <= MAX_DIFFERENCE and not others:
        return f"{len(rows)} images, largest difference {gap:.1e}"
    detail = f"probabilities differ by up to {gap:.2g}"
    if predicted:
        detail += f", {others} of {len(rows)} labels differ"
    raise ServerFault(f"{detail}: {_cause(rows, wanted)}")


def _ordered(batch: Predictions, class_names: tuple[str, ...]) -> Floats:
    """Return the probabilities with their columns in the order of `class_names`."""
    orders = [[names.index(name) for name in class_names] for names in batch.class_names]
    return np.take_along_axis(batch.probabilities, np.array(orders), axis=1)


def _cause(rows: Floats, wanted: Floats) -> str:
    """Return the probable cause of a difference: a temperature, or another model or prevalence."""
    factor = _common_factor(_log_odds(rows), _log_odds(wanted))
    if factor is not None:
        return f"all log odds are {factor:.3g} times the export's, as with another temperature"
    return "probably another model, window, size or prevalence"


def _common_factor(there: Floats, own: Floats) -> float | None:
    """Return the one factor between two sets of log odds; None if there is none."""
    if not (np.isfinite(there).all() and np.isfinite(own).all() and np.abs(own).max() > 0):
        return None
    factor = float((there * own).sum() / (own * own).sum())
    rest = np.abs(there - factor * own).max() / np.abs(own).max()
    return factor if factor > 0 and rest <= SAME_TEMPERATURE * factor else None


def _log_odds(rows: Floats) -> Floats:
    """Return log probabilities minus their mean in each row; not finite if a probability is 0 or less."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(rows.astype(np.float64))
        centered: Floats = logs - logs.mean(axis=1, keepdims=True)
    return centered


def _listed(names: Sequence[str]) -> str:
    return clean(str(list(names[:9])))
