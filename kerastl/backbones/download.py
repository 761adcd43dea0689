"""Download published weights with pooch: complete and verified, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kerastl.backbones.backbone import Weights
from kerastl.backbones.published import weights_problem
from kerastl.backbones.tables import checked_size
from kerastl.backbones.weights import cached_files, missing_text, models_folder, published_weights
from kerastl.console import say, speed_bar
from kerastl.errors import RequestError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
CHUNK_BYTES = 1 << 20


def fetch_weights(name: str, *, image_size_px: int | None = None, **options: Any) -> Path:
    """Download the published weights of a backbone, without the top, to the folder where Keras looks for them.

    The file gets its name after its hash is verified. If no hash is published (MobileNet, MobileNetV2), its arrays must
    fit the network. `KERASTL_WEIGHTS_URL` selects a mirror: the URL of a folder that holds the files under their Keras names.

    Args:
        name: Name of the backbone.
        image_size_px: Side length of the images. The weights of the nearest published size are downloaded.
        **options: Options of the family.

    Returns:
        The path of the file. A valid file is not downloaded again; a damaged one is replaced.

    Raises:
        RequestError: If there is no connection, no such file, or the file is not the published one. Nothing is kept.
    """
    row = published_weights(name, image_size_px=image_size_px, **options)[0]
    path = models_folder() / row.file
    if path.is_file():
        damage = weights_problem(path, name, row)
        if damage is None:
            return path
        say(f"{path} is damaged and is downloaded again: {damage}")
    url = _url(row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename is atomic.
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise RequestError(
            f"{path.parent} cannot be written: {error.strerror}. Set KERAS_HOME to another folder."
        ) from error
    with folder:
        try:
            downloaded = _download(url, Path(folder.name), row)
        except ValueError as error:  # pooch's error for a wrong hash
            raise RequestError(f"{url} is not {row.file}: {error}") from error
        except OSError as error:
            size = checked_size(name, image_size_px)
            raise RequestError(
                f"{url} could not be downloaded: {_reason(error)}\n"
                f"{missing_text(name, row, size, options)}"
            ) from error
        problem = None if row.hash else weights_problem(downloaded, name, row)
        if problem:
            raise RequestError(f"{url} is not {row.file}: {problem}")
        downloaded.chmod(0o644)
        downloaded.replace(path)
    return path


def verify_weights(name: str) -> list[tuple[Path, str | None]]:
    """Check each cached file of a backbone.

    Returns:
        The files, each with its problem or None.
    """
    return [(path, weights_problem(path, name, row, top)) for path, row, top in cached_files(name)]


def _url(row: Weights) -> str:
    """Return the URL of a file, on the mirror if one is set."""
    mirror = os.environ.get("KERASTL_WEIGHTS_URL")
    if not mirror:
        return row.url
    if not mirror.startswith(("https://", "http://")):
        raise RequestError(f"KERASTL_WEIGHTS_URL must begin with https:// or http://, got {mirror}")
    return f"{mirror.rstrip('/')}/{row.file}"


def _download(url: str, folder: Path, row: Weights) -> Path:
    """Download a file and verify its hash.

    Raises:
        ValueError: If the hash is wrong.
        OSError: If the download fails; the errors of requests are OSErrors, too.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    algorithm = "md5" if len(row.hash) == 32 else "sha256"
    with ExitStack() as stack:
        downloader = pooch.HTTPDownloader(
            progressbar=_ProgressBar(f"downloading {row.file}", stack),
            chunk_size=CHUNK_BYTES,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        )
        known_hash = f"{algorithm}:{row.hash}" if row.hash else None
        return Path(
            pooch.retrieve(url, known_hash, fname=row.file, path=folder, downloader=downloader)
        )


class _ProgressBar:
    """The interface that pooch expects of a progress bar; `total` is set before the first update."""

    total = 0

    def __init__(self, title: str, stack: ExitStack) -> None:
        self._title, self._stack = title, stack
        self._advance: Callable[[int], object] | None = None

    def update(self, num_bytes: int) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(speed_bar(self._title, "bytes", self.total))
        self._advance(num_bytes)

    def reset(self) -> None:
        self._advance = lambda _: None  # pooch counts everything once more at the end

    def close(self) -> None:
        """Do nothing: the stack closes the bar."""


def _reason(error: OSError) -> str:
    from requests import exceptions

    # The text of these two is a nested repr of urllib3 objects.
    if isinstance(error, exceptions.Timeout):
        return "the server does not respond"
    if isinstance(error, exceptions.ConnectionError):
        return "the connection failed"
    return str(error)
