"""Fetch published weights, on request only: whole and verified, or not at all."""

from __future__ import annotations

import math
import os
import queue
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kerastl.backbones.backbone import Weights
from kerastl.backbones.published import weights_problem
from kerastl.backbones.tables import checked_size
from kerastl.backbones.weights import cached_files, missing_text, models_folder, published_weights
from kerastl.errors import RequestError
from kerastl.progress import say, track

ANSWER_S = 5.0
"""How long a server may take to answer; offline, a person should not wait longer than that."""
STALL_S = 20.0
"""How long a download may stand still."""
CHUNK_BYTES = 1 << 20


def fetch_weights(name: str, *, image_size_px: int | None = None, **options: Any) -> Path:
    """Download the published weights of a backbone, without top, to where Keras looks for them.

    The file is written under a temporary name and renamed when its hash is right; where none is
    published (MobileNet, MobileNetV2), when its arrays fit the network. `KERASTL_WEIGHTS_URL` names
    a mirror: a folder on the web that holds the files under the names Keras uses.

    Args:
        name: the backbone.
        image_size_px: side of the pictures; the nearest published file is taken.
        **options: the family's options.

    Returns:
        The file. One that is there already and whole is not fetched again; a damaged one is replaced.

    Raises:
        RequestError: no network, no such file, or not the right one; nothing is left behind.
    """
    row = published_weights(name, image_size_px=image_size_px, **options)[0]
    path = models_folder() / row.file
    if path.is_file():
        damage = weights_problem(path, name, row)
        if damage is None:
            return path
        say(f"{path} is damaged and is fetched again: {damage}")
    url = _url(row)
    temporary = _temporary_beside(path)
    try:
        _download(url, temporary, row.file)
        problem = weights_problem(temporary, name, row)
        if problem:
            raise RequestError(f"{url} is not {row.file}: {problem}")
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, HTTPException) as error:
        size = checked_size(name, image_size_px)
        raise RequestError(
            f"{url} could not be fetched: {error}\n{missing_text(name, row, size, options)}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _temporary_beside(path: Path) -> Path:
    """Return a new empty file in the folder of `path`, which is made where it is not there.

    Raises:
        RequestError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".h5")
    except OSError as error:
        raise RequestError(
            f"{path.parent} cannot be written: {error.strerror}. Set KERAS_HOME to another folder."
        ) from error
    os.close(descriptor)
    return Path(name)


def verify_weights(name: str) -> list[tuple[Path, str | None]]:
    """Check each cached file of a backbone.

    Returns:
        The files, each with what is wrong, None where nothing is.
    """
    return [(path, weights_problem(path, name, row, top)) for path, row, top in cached_files(name)]


def _url(row: Weights) -> str:
    """Return where a file is fetched from, on the mirror where one is named."""
    mirror = os.environ.get("KERASTL_WEIGHTS_URL")
    if not mirror:
        return row.url
    if not mirror.startswith(("https://", "http://")):
        raise RequestError(f"KERASTL_WEIGHTS_URL must begin with https:// or http://, got {mirror}")
    return f"{mirror.rstrip('/')}/{row.file}"


def _download(url: str, path: Path, title: str) -> None:
    """Write the body of an answer to a file.

    Raises:
        OSError: no answer in time, an error from the server, or fewer bytes than it promised.
    """
    response = _answer(url)
    promised = int(response.headers.get("Content-Length") or 0)
    with response, path.open("wb") as file:
        total = math.ceil(promised / CHUNK_BYTES) or None
        for chunk in track(_chunks(response), f"fetching {title}", total):
            file.write(chunk)
    if promised and path.stat().st_size != promised:
        raise OSError(f"it broke off after {path.stat().st_size} of {promised} bytes")


def _chunks(response: Any) -> Iterator[bytes]:
    while chunk := response.read(CHUNK_BYTES):
        yield chunk


def _answer(url: str) -> Any:
    """Open a URL within `ANSWER_S`, looking up its name included, which no timeout of a socket covers."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL_S))
        except (OSError, HTTPException) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_S)
    except queue.Empty:
        raise OSError(f"no answer within {ANSWER_S:g} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
    if isinstance(answer, Exception):
        raise answer
    return answer
