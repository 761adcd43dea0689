"""Ask a running server all that a client would, in a fixed order, and judge each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from kerastl.export.findings import Finding
from kerastl.export.live.answers import CLASSIFY, Answers, LiveFault
from kerastl.export.live.judge import (
    Reference,
    judge_answers,
    judge_refusal,
    judge_status,
    judge_version,
)
from kerastl.export.live.rest import RestClient
from kerastl.export.live.rpc import GrpcClient
from kerastl.export.live.server import Server
from kerastl.export.live.signatures import differences, plain, signatures_of
from kerastl.export.serving.batches import batch_sizes

MOST_PICTURES = 4
"""Pictures in one request, unless a server is told to take fewer."""
FEW = 2
"""Requests that are enough for what repeats, in another form, what was asked already."""
MOST_BYTES = 8 * 2**20
"""Bytes in one request, unless one picture alone has more."""
NO_PICTURE = b"these bytes are no picture"


class Client(Protocol):
    """What both ways of asking have in common; each method raises `LiveFault`."""

    name: str
    refusal_of_no_picture: str

    def status(self) -> Any: ...  # noqa: D102 - told by each client
    def metadata(self) -> tuple[int, Any]: ...  # noqa: D102
    def predict(self, pictures: Sequence[bytes]) -> Answers: ...  # noqa: D102
    def classify(self, pictures: Sequence[bytes]) -> Answers: ...  # noqa: D102
    def refusal(self, picture: bytes) -> tuple[str, str]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def check_live(
    server: Server,
    export: Path,
    *,
    pictures: Sequence[bytes],
    image_size_px: int,
    reference: Reference | None,
) -> list[Finding]:
    """Check that a running TF Serving answers as an export does.

    Args:
        server: where it is.
        export: the numbered folder.
        pictures: whole files that can be decoded, at least one; they are sent to the server.
        image_size_px: side of the square picture that the model sees, in pixels.
        reference: the answers that are due for them; None: answers are not compared.

    Returns:
        One finding for each check and each way of asking; `passed` is None where it was not made.
    """
    findings: list[Finding] = []
    requests = list(_requests(pictures, min(MOST_PICTURES, batch_sizes(image_size_px)[-1])))
    clients: list[Client] = []
    if server.grpc is not None:
        clients.append(GrpcClient(server.grpc, server.model_name, server.time_limit_s))
    if server.rest is not None:
        clients.append(RestClient(server.rest, server.model_name, server.time_limit_s))
    for client in clients:
        try:
            findings += _findings(client, _steps(client, export, requests, reference))
        finally:
            client.close()
    return findings


class NotMade(Exception):
    """A check that there is nothing for. The text says why."""


Step = tuple[str, Callable[[], str]]
"""A check's name, and what makes it and returns the words of its finding."""


def _findings(client: Client, steps: Sequence[Step]) -> Iterator[Finding]:
    gone = False
    for name, step in steps:
        check = f"{client.name}: {name}"
        if gone:
            yield Finding(check, None, "not asked, as the server gave no answer")
            continue
        try:
            detail = step()
        except LiveFault as reason:
            gone = reason.gone
            yield Finding(check, False, str(reason))
        except NotMade as reason:
            yield Finding(check, None, str(reason))
        else:
            yield Finding(check, True, detail)


def _steps(
    client: Client, export: Path, requests: Sequence[list[bytes]], reference: Reference | None
) -> list[Step]:
    number = export.resolve().name
    version = int(number) if number.isdecimal() else None
    own = signatures_of(export)

    def signatures() -> str:
        found = differences(own, plain(client.metadata()[1].signature_def))
        if found:
            raise LiveFault("; ".join(found[:5]))
        return f"{', '.join(sorted(own))} are the export's"

    def classify() -> str:
        if CLASSIFY not in own:
            raise NotMade(f"the export has no endpoint {CLASSIFY}")
        return _compared(client.classify, requests[:FEW], reference)

    steps: list[Step] = [
        ("available", lambda: judge_status(client.status(), version)),
        ("version", lambda: judge_version(client.metadata()[0], version)),
        ("signatures", signatures),
        # Before the answers, which then prove that the server has come to no harm.
        (
            "no picture refused",
            lambda: judge_refusal(*client.refusal(NO_PICTURE), client.refusal_of_no_picture),
        ),
        ("answers", lambda: _compared(client.predict, requests, reference)),
        ("classify", classify),
    ]
    if isinstance(client, RestClient):
        columns = client.predict_columns
        steps.append(("columns", lambda: _compared(columns, requests[:FEW], reference)))
    return steps


def _compared(
    ask: Callable[[Sequence[bytes]], Answers],
    requests: Sequence[list[bytes]],
    reference: Reference | None,
) -> str:
    if reference is None:
        raise NotMade("not compared: the export itself gave no answer to compare with")
    answers = [ask(pictures) for pictures in requests]
    return judge_answers(answers, reference.first(sum(map(len, requests))))


def _requests(pictures: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    """Yield the pictures of each request: the first alone, then as many as fit."""
    request: list[bytes] = []
    for number, picture in enumerate(pictures):
        full = len(request) == most or sum(map(len, request)) + len(picture) > MOST_BYTES
        if request and (full or number == 1):
            yield request
            request = []
        request.append(picture)
    if request:
        yield request
