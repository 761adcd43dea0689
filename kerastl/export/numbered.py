"""Write an export whole, under a free number of its folder, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastl import __version__
from kerastl.errors import RequestError, RunFailed
from kerastl.export.manifest import write_manifest
from kerastl.export.version_numbers import check_free, next_number, refusal


def write_numbered(
    out: Path, fill: Callable[[Path], None], *, version: int | None = None, **told: Any
) -> Path:
    """Write an export and its manifest; nothing is ever overwritten.

    Args:
        out: the folder of all numbers; it is made where it is not there.
        fill: writes everything but the manifest into a folder.
        version: the number to write; None: the one after the highest there.
        told: by the manifest, as in `write_manifest`, but for versions.

    Returns:
        The folder written, e.g. `out/1`.

    Raises:
        RequestError: `out` is not a folder, or holds that number already.
        OSError, RunFailed: the disk is full; no half export is left.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, but an export is a folder. Name another: --out DIR")
    check_free(out, next_number(out) if version is None else version)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(
            f"{out} cannot be made a folder: a file or a link that leads nowhere is in its way. Name another: --out DIR"
        ) from error
    # Hidden and without a number as its name: a server that watches `out` does not see it.
    staged = Path(tempfile.mkdtemp(dir=out, prefix=".kerastl."))
    try:
        staged.chmod(0o755)
        fill(staged)
        write_manifest(staged, versions=made_with(), **told)
        return _rename(staged, out, version)
    except tf.errors.ResourceExhaustedError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise RunFailed(f"{out} cannot be written: the disk is full, or memory.") from error
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def made_with() -> dict[str, str]:
    """Return the versions of what makes an export."""
    return {"kerastl": __version__, "keras": keras.version(), "tensorflow": tf.version.VERSION}


def _rename(staged: Path, out: Path, version: int | None) -> Path:
    """Give a finished folder its number; return it."""
    number = version if version is not None else next_number(out)
    while True:
        target = out / str(number)
        try:
            # Renaming onto a folder that holds files fails: another export that took the number stays.
            return staged.rename(target)
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise refusal(out, version) from error
            number += 1
