"""Check that a running TensorFlow Serving serves an export: send requests by gRPC and REST, and compare the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.export.findings import MAX_DIFFERENCE, ExpectedPredictions, Finding, find_cause
from kerastl.export.graph_check import CLASSIFY, served_signatures, without_internal
from kerastl.export.live_clients import (
    Floats,
    GrpcClient,
    Predictions,
    RestClient,
    Server,
    ServerFault,
    clean,
)
from kerastl.export.serving_files import batch_sizes
from kerastl.image_size import Size

MAX_IMAGES = 4
"""Images in one request, unless the batch sizes of the server are smaller."""
FEW = 2
"""Number of requests in another form, for predictions that were compared already."""
MAX_BYTES = 8 * 2**20
"""Bytes in one request, unless a single image has more."""
NOT_AN_IMAGE = b"these bytes are not an image"
AVAILABLE = "AVAILABLE"
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: AVAILABLE, 40: "UNLOADING", 50: "END"}

Client = GrpcClient | RestClient
Signatures = dict[str, str]
"""From `classify` to its method, and from `classify: output scores` to its type and shape."""


class NotChecked(Exception):
    """A check that cannot be performed. The message states why."""


def reference_predictions(
    outputs: dict[str, Any] | None, expected: ExpectedPredictions | None
) -> ExpectedPredictions | None:
    """Return the predictions that a server must reproduce: those of the export, or else those of the run."""
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
    image_size_px: Size,
    reference: ExpectedPredictions | None,
) -> list[Finding]:
    """Check that a running TensorFlow Serving predicts as an export does.

    Args:
        server: The addresses of the server.
        export: The version folder.
        images: Whole files that can be decoded, at least one; they are sent to the server.
        image_size_px: (height, width) of the input image in pixels.
        reference: The expected predictions; None to compare none.

    Returns:
        One finding for each check and each API; `passed` is None if the check was not made.
    """
    requests = list(_requests(images, min(MAX_IMAGES, batch_sizes(image_size_px)[-1])))
    clients: list[Client] = [] if server.grpc is None else [GrpcClient(server.grpc, server)]
    clients += [] if server.rest is None else [RestClient(server.rest, server)]
    findings: list[Finding] = []
    for client in clients:
        with closing(client):
            findings += _findings(client, _checks(client, export, requests, reference))
    return findings


def _findings(client: Client, checks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    is_unreachable = False
    for name, check in checks.items():
        passed: bool | None = None
        try:
            if is_unreachable:
                raise NotChecked("not checked, because the server did not respond")
            detail, passed = check(), True
        except ServerFault as fault:
            is_unreachable = fault.is_unreachable
            detail, passed = str(fault), False
        except NotChecked as reason:
            detail = str(reason)
        yield Finding(f"{client.name}: {name}", passed, detail)


def _checks(
    client: Client, export: Path, requests: Sequence[list[bytes]], reference: ExpectedPredictions | None
) -> dict[str, Callable[[], str]]:
    """Return the checks of one API, by name. Each check returns its detail or raises an exception."""
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
        "invalid image rejected": lambda: check_refusal(client),
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
        status: A `GetModelStatusResponse`.
        version: Number of the export's folder; None for any.

    Raises:
        ServerFault: That version is not available.
    """
    entries = status.model_version_status
    states = {entry.version: STATES.get(entry.state, str(entry.state)) for entry in entries}
    listed = ", ".join(f"version {number} {state}" for number, state in sorted(states.items())[:9])
    if version is None:
        if AVAILABLE not in states.values():
            raise ServerFault(f"no version is available ({listed or 'the model has no versions'})")
        return listed
    if version not in states:
        raise ServerFault(
            f"version {version} is not available ({listed or 'the model has no versions'}). Put the export's folder, "
            f"named {version}, where the server looks for versions"
        )
    if states[version] != AVAILABLE:
        errors = [entry.status.error_message for entry in entries if entry.version == version]
        raise ServerFault(f"{listed}. {clean(errors[0]) or 'Check again when it is loaded'}")
    return listed


def check_version(served: int, version: int | None) -> str:
    """Check the version that is served to clients that do not request one.

    Raises:
        ServerFault: It is not the export's version.
    """
    if version is None:
        return f"version {served} is served by default; the export's folder has no number to compare"
    if served != version:
        raise ServerFault(
            f"version {served} is served by default, but this is version {version}. Verify that version "
            "instead, or serve this one: the highest number, or model_version_policy in models.config"
        )
    return f"version {served} is served by default"


def check_signatures(own: Signatures, served: Mapping[str, Any]) -> str:
    """Compare the signatures of a server with the export's.

    Raises:
        ServerFault: They differ.
    """
    remote, faults = _plain(served), []
    for key in sorted(own.keys() | remote.keys()):
        name = key.partition(": ")[0]
        here, there = own.get(key), remote.get(key)
        if name in own and name in remote:
            if here != there:
                faults.append(
                    f"{key} is {there or 'missing'} on the server, {here or 'missing'} in the export"
                )
        elif key == name:
            faults.append(f"{key} is missing on the server" if here else f"{key} is not in the export")
    if faults:
        raise ServerFault("; ".join(faults[:5]))
    return f"{', '.join(sorted(key for key in own if ': ' not in key))} match the export"


def _signatures_of(export: Path) -> Signatures:
    """Return the signatures of an export; empty if its graph cannot be read."""
    try:
        return _plain(served_signatures(export))
    except (OSError, RequestError):
        return {}


def _plain(signatures: Mapping[str, Any]) -> Signatures:
    """Return signatures as text, without TensorFlow's internal ones and without the names of nodes."""
    from tensorflow.core.framework import types_pb2

    types = {number: name for name, number in types_pb2.DataType.items()}
    plain: Signatures = {}
    for name, signature in without_internal(signatures).items():
        plain[name] = f"method {signature.method_name}"
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                shape = str([dim.size for dim in info.tensor_shape.dim]).replace("-1", "n")
                shape = "of unknown rank" if info.tensor_shape.unknown_rank else shape
                plain[f"{name}: {kind} {key}"] = f"{types.get(info.dtype, info.dtype)} {shape}"
    return plain


def check_refusal(client: Client) -> str:
    """Return how the server rejected bytes that are not an image.

    Raises:
        ServerFault: They were accepted, or rejected with a server error.
    """
    try:
        client.predict([NOT_AN_IMAGE])
    except ServerFault as fault:
        if fault.code == client.refusal_code and fault.reason:
            return f"{fault.code}: {fault.reason}"
        if fault.is_unreachable or not fault.code:
            raise
        reason = fault.reason or "without a reason"
        raise ServerFault(f"{fault.code} instead of {client.refusal_code} and a reason: {reason}") from fault
    raise ServerFault("bytes that are not an image got a prediction")


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
        predictions: Predictions for consecutive images, starting with the first.
        reference: Expected predictions for these images, and possibly more.

    Raises:
        ServerFault: They differ.
    """
    own = reference.class_names
    names = [row for batch in predictions for row in batch.class_names]
    for row in names:
        if sorted(row) != sorted(own):
            raise ServerFault(f"different classes: {_listed(row)}, in the export {_listed(own)}")
    rows = np.concatenate([_ordered(batch, own) for batch in predictions])
    predicted = [name for batch in predictions for name in batch.predicted or ()]
    # Classify returns a name with each score, so any order is allowed.
    if predicted and any(row != own for row in names):
        raise ServerFault(f"classes in a different order: {_listed(names[0])}, in the export {_listed(own)}")
    wanted = reference.probabilities[: len(rows)]
    gap = float(np.abs(rows - wanted).max())
    others = sum(name != label for name, label in zip(predicted, reference.predicted, strict=False))
    # Not `gap > MAX_DIFFERENCE`: NaN never agrees.
    if gap <= MAX_DIFFERENCE and not others:
        return f"{len(rows)} images, largest difference {gap:.1e}"
    detail = f"probabilities differ by up to {gap:.2g}"
    if predicted:
        detail += f", {others} of {len(rows)} labels differ"
    cause = find_cause(rows, wanted, own) or "probably a different model, window or size"
    raise ServerFault(f"{detail}: {cause}")


def _ordered(batch: Predictions, class_names: tuple[str, ...]) -> Floats:
    """Return the probabilities with their columns in the order of `class_names`."""
    orders = [[names.index(name) for name in class_names] for names in batch.class_names]
    return np.take_along_axis(batch.probabilities, np.array(orders), axis=1)


def _listed(names: Sequence[str]) -> str:
    return clean(str(list(names[:9])))
