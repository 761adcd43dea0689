"""Write an export whole, under the next free number of its folder, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastl import __version__
from kerastl.errors import RequestError
from kerastl.export.manifest import write_manifest


def write_numbered(out: Path, fill: Callable[[Path], None], **told: Any) -> Path:
    """Write an export and its manifest; nothing is ever overwritten.

    Args:
        out: the folder of all numbers; it is made where it is not there.
        fill: writes everything but the manifest into a folder.
        told: by the manifest, as in `write_manifest`, but for versions.

    Returns:
        The folder written, e.g. `out/1`.

    Raises:
        RequestError: `out` is not a folder.
        OSError: the disk is full; no half export is left.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, but an export is a folder. Name another: --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    # Hidden and without a number as its name: a server that watches `out` does not see it.
    staged = Path(tempfile.mkdtemp(dir=out, prefix=".kerastl."))
    try:
        staged.chmod(0o755)
        fill(staged)
        versions = {
            "kerastl": __version__,
            "keras": keras.version(),
            "tensorflow": tf.version.VERSION,
        }
        write_manifest(staged, versions=versions, **told)
        return _rename_to_next_number(staged, out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _rename_to_next_number(staged: Path, out: Path) -> Path:
    """Give a finished folder the next free number of `out`; return it."""
    taken = [int(path.name) for path in out.iterdir() if path.name.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        target = out / str(number)
        try:
            # Renaming onto a folder that holds files fails: another export that took the number stays.
            return staged.rename(target)
        except OSError:
            if not target.exists():
                raise
            number += 1
