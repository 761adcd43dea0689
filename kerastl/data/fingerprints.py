"""What a set of pictures, and what is made of them, is told from others by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerastl.data.records import Record, contents_of
from kerastl.errors import RequestError


def has_words(augment: Any) -> bool:
    """Tell whether an augmentation says what it does; what `build_policy` returns does."""
    return getattr(augment, "words", None) is not None


def words_of(augment: Any) -> str:
    """Return what an augmentation does, in full.

    Raises:
        RequestError: it does not say; only what `build_policy` returns does.
    """
    if not has_words(augment):
        raise RequestError("Only a policy of `build_policy` can be told from another one.")
    return str(augment.words)


def hash_of(records: Sequence[Record], told: Mapping[str, Any]) -> str:
    """Return the sha256 over the content of pictures in their order, and what else is told of them."""
    whole = {**told, "files": contents_of([record.file for record in records])}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
