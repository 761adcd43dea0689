"""Is a file the one that was published? By its hash, or, where none is, by what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl.backbones.backbone import Weights
from kerastl.backbones.loading import fitting_problems
from kerastl.backbones.source import build_source
from kerastl.backbones.weights import Located, fetch_command
from kerastl.errors import RequestError

if TYPE_CHECKING:
    import keras


def weights_problem(
    path: Path, name: str, row: Weights, top: bool = False, source: keras.Model | None = None
) -> str | None:
    """Say what is wrong with a file: its hash, or, where none is published, what does not fit.

    Args:
        path: the file.
        name: the backbone.
        row: the row of its table.
        top: whether it is the file with the 1,000-class top.
        source: the network as its builder makes it; built where it is needed and not given.
    """
    wanted = row.top_hash if top else row.hash
    if wanted:
        return hash_problem(path, wanted)
    options: dict[str, Any] = dict(row.options)
    try:
        problems = fitting_problems(path, source or build_source(name, **options))
    except RequestError as error:
        return str(error)
    return str(problems[0]) if problems else None


def hash_problem(path: Path, wanted: str) -> str | None:
    """Say how a file's hash differs from the published one, None where it does not.

    Args:
        path: the file.
        wanted: md5 (32 hex digits) or sha256 (64); empty where none is published: nothing is wrong.
    """
    if not wanted:
        return None
    algorithm = "md5" if len(wanted) == 32 else "sha256"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if found == wanted else f"its {algorithm} is {found}, published is {wanted}"


def check_published(located: Located, name: str, source: keras.Model) -> None:
    """See that a file that goes by the name of published weights is the published one.

    Args:
        located: the file.
        name: the backbone.
        source: the network as its builder makes it.

    Raises:
        RequestError: it is not; the text says how to fetch it again.
    """
    problem = weights_problem(located.path, name, located.weights, source=source)
    if problem:
        raise RequestError(
            f"{located.path} is not the published weights of {name}: {problem}\n"
            f"  Replace it: {fetch_command(name, located.weights)}\n"
            f"  or, if the weights are your own, name the file: weights: {located.path}"
        )
