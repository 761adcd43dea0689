"""Where this user's pictures and knowledge about them are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the user's cache folder, made if need be: KERASTL_CACHE, or the system's place for caches."""
    folder = Path(os.environ.get("KERASTL_CACHE") or platformdirs.user_cache_dir("kerastl"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
