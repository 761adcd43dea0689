"""Check that a running server serves an export: send requests over gRPC or HTTP, and compare the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.export.findings import MAX_DIFFERENCE, ExpectedPredictions, Finding, find_cause
from kerastl.export.graph_check import CLASSIFY, DEFAULT_SIGNATURE, served_signatures, without_internal
from kerastl.export.kserve_clients import DATATYPES, KServeClient, find_kserve
from kerastl.export.live_clients import (
    Floats,
    GrpcClient,
    NotChecked,
    Predictions,
    RestClient,
    Server,
    ServerFault,
    clean,
)
from kerastl.export.manifest import Manifest
from kerastl.export.serving_files import batch_sizes

MAX_IMAGES = 4
"""Images in one request, unless the batch sizes of the server are smaller."""
FEW = 2
"""Number of requests in another form, for predictions that were compared already."""
MAX_BYTES = 8 * 2**20
"""Bytes in one request, unless a single image has more."""
FLOAT_BYTES = 20
"""Bytes of a pixel value as JSON."""
NOT_AN_IMAGE = b"these bytes are not an image"
AVAILABLE = "AVAILABLE"
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: AVAILABLE, 40: "UNLOADING", 50: "END"}

Client = GrpcClient | RestClient
Signatures = dict[str, str]
"""From `classify` to its method, and from `classify: output scores` to its type and shape."""


def reference_predictions(
    outputs: dict[str, Any] | None, expected: ExpectedPredictions | None
) -> ExpectedPredictions | None:
    """Return the predictions that a server must reproduce: those of the export, or else those of the run."""
    if outputs is None:
        return expected
    first = outputs["batch"][0]
    rows = np.asarray(first["probabilities"], np.float32)
    return ExpectedPredictions(tuple(first["class_names"][0]), rows, tuple(first.get("predicted", ())))


def check_live(
    server: Server,
    export: Path,
    manifest: Manifest,
    *,
    images: Sequence[Any],
    reference: ExpectedPredictions | None,
) -> list[Finding]:
    """Check that a running server predicts as an export does.

    Args:
        server: The addresses of the server.
        export: The version folder.
        manifest: Its manifest.
        images: At least one, which are sent to the server: whole files that can be decoded, or for a converted model
            decoded images, `[height, width, 3]` float32 in [0, 255].
        reference: The expected predictions; None to compare none.

    Returns:
        One finding for each check and each API; `passed` is None if the check does not apply or was not made.
    """
    requests = list(_requests(images, min(MAX_IMAGES, batch_sizes(manifest.image_size_px)[-1])))
    kserve = find_kserve(server, manifest if manifest.conversion else None)
    if kserve is not None:
        return list(_findings(kserve.name, _kserve_checks(kserve, export, requests, reference)))
    clients: list[Client] = [] if server.grpc is None else [GrpcClient(server.grpc, server)]
    clients += [] if server.rest is None else [RestClient(server.rest, server)]
    findings: list[Finding] = []
    for client in clients:
        with closing(client):
            findings += _findings(client.name, _checks(client, export, requests, reference))
    return findings


def _findings(client_name: str, checks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
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
        yield Finding(f"{client_name}: {name}", passed, detail)


def _checks(
    client: Client, export: Path, requests: Sequence[list[bytes]], reference: ExpectedPredictions | None
) -> dict[str, Callable[[], str]]:
    """Return the checks of one API of TensorFlow Serving. Each check returns its detail or raises an exception."""
    version, own = _version_of(export), _signatures_of(export)

    def classify() -> str:
        if CLASSIFY not in own:
            raise NotChecked(f"the export has no endpoint {CLASSIFY}")
        return _compared(client.classify, requests[:FEW], reference)

    checks = {
        "available": lambda: check_status(client.status(), version),
        "version": lambda: check_version(client.metadata()[0], version),
        "signatures": lambda: check_signatures(own, _plain(client.metadata()[1].signature_def)),
        # Before the predictions, which then show that the server still works.
        "invalid image rejected": lambda: check_refusal(client),
        "predictions": lambda: _compared(client.predict, requests, reference),
        "classify": classify,
    }
    if isinstance(client, RestClient):
        columns = client.predict_columns
        checks["columns"] = lambda: _compared(columns, requests[:FEW], reference)
    return checks


def _kserve_checks(
    client: KServeClient, export: Path, requests: Sequence[Any], reference: ExpectedPredictions | None
) -> dict[str, Callable[[], str]]:
    """Return the checks of a KServe server."""

    def refusal() -> str:
        if client.converted is None:
            return check_refusal(client)
        if client.converted.with_resize:
            raise NotChecked("the model resizes images of any size")
        return check_refusal(client, np.zeros([2, 3, 3], np.float32))

    def other_apis() -> str:
        raise NotChecked(f"{client.name} has only one request format, and is checked over HTTP only")

    return {
        "available": client.ready,
        "version": lambda: check_version(client.latest_version(), _version_of(export)),
        "signatures": lambda: check_signatures(interface_of(export, client.converted), client.interface()),
        "invalid image rejected": refusal,
        "predictions": lambda: _compared(client.predict, requests, reference),
        "classify": lambda: _compared(client.classify, requests[:FEW], reference),
        "columns and gRPC": other_apis,
    }


def _version_of(export: Path) -> int | None:
    number = export.resolve().name
    return int(number) if number.isdecimal() else None


def interface_of(export: Path, converted: Manifest | None) -> Signatures:
    """Return data type and shape of each input and output of an export that a KServe server describes."""
    if converted is not None and converted.conversion is not None:
        tensors = {kind: converted.conversion[kind] for kind in ("input", "output")}
        own = {f"{kind} {tensor['name']}": f"DT_FLOAT {tensor['shape']}" for kind, tensor in tensors.items()}
        return {name: text.replace("None", "n") for name, text in own.items()}
    signatures = _signatures_of(export)
    names = ["input image_bytes", *(f"output {name}" for name in DATATYPES)]
    return {name: signatures.get(f"{DEFAULT_SIGNATURE}: {name}", "") for name in names}


def _requests(images: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """Yield the images of each request: the first alone, then as many as fit."""
    request: list[Any] = []
    for number, image in enumerate(images):
        is_full = len(request) == most or sum(map(_num_bytes, (*request, image))) > MAX_BYTES
        if request and (is_full or number == 1):
            yield request
            request = []
        request.append(image)
    if request:
        yield request


def _num_bytes(image: Any) -> int:
    return len(image) if isinstance(image, bytes) else FLOAT_BYTES * image.size


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
            f"version {served} is served by default, but this is version {version}. Verify that version instead, or serve "
            "this one: give it the highest number, or set model_version_policy in models.config (Triton: version_policy "
            "in config.pbtxt)"
        )
    return f"version {served} is served by default"


def check_signatures(own: Signatures, remote: Signatures) -> str:
    """Compare the signatures of a server with the export's.

    Raises:
        ServerFault: They differ.
    """
    faults = []
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


def check_refusal(client: Client | KServeClient, invalid: Any = NOT_AN_IMAGE) -> str:
    """Return how the server rejected an invalid image.

    Raises:
        ServerFault: It was accepted, or rejected with a server error.
    """
    try:
        client.predict([invalid])
    except ServerFault as fault:
        if fault.code in client.refusal_codes and fault.reason:
            return f"{fault.code}: {fault.reason}"
        if fault.is_unreachable or not fault.code:
            raise
        reason, codes = fault.reason or "without a reason", " or ".join(client.refusal_codes)
        raise ServerFault(f"{fault.code} instead of {codes} and a reason: {reason}") from fault
    raise ServerFault("an invalid image received a prediction")


def _compared(
    ask: Callable[[Any], Predictions], requests: Sequence[Any], reference: ExpectedPredictions | None
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
