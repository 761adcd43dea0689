"""Where this user's pictures and knowledge about them are kept between runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import platformdirs

from kerastl.errors import RequestError


def cache_folder() -> Path:
    """Return the user's cache folder: KERASTL_CACHE, or the system's place for caches.

    It is made if need be. Where that cannot be done it is returned all the same: what is known about
    pictures is then not kept, which costs time only; who must keep pictures there raises `no_place_in`.
    """
    folder = Path(os.environ.get("KERASTL_CACHE") or platformdirs.user_cache_dir("kerastl"))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def no_place_in(folder: Path, error: OSError) -> RequestError:
    """Return the error to raise where pictures must be kept in the cache and cannot be."""
    return RequestError(
        f"Pictures cannot be kept in the cache folder {folder}: {error.strerror or error}. "
        "Name a folder with room that can be written to, and start again: export KERASTL_CACHE=DIR"
    )
