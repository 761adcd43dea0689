"""Write what stands beside the numbered versions: the server's settings, a client, how to start. No TensorFlow.

A file that a person changed is theirs and stays; one that lies as it was written is renewed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from kerastl.export.serving.batches import batch_sizes
from kerastl.export.serving.fill import environment
from kerastl.export.serving.names import MODEL_NAME, SERVER_IMAGE
from kerastl.runs import write_atomic, write_json

RECORD = ".written.json"
"""sha256 of each file as it was written last; hidden, and no number, so that a server passes it over."""
NUM_CPUS = 2
"""Processor cores that a server is given unless told otherwise."""


def write_beside(out: Path, *, class_names: Sequence[str], image_size_px: int) -> None:
    """Write every file of `templates/` into the folder of all versions, but those that a person changed.

    Args:
        out: the folder that a server is pointed at.
        class_names, image_size_px: of the version that was written last.

    Raises:
        OSError: the disk is full or the folder cannot be written; a file is written whole or not at all.
    """
    written = _read_record(out)
    told = dict(written)
    for name, content in _rendered(class_names, image_size_px).items():
        wanted = _sha256(content)
        if not _is_free(out / name, written.get(name), wanted):
            continue
        if not _lies_as(out / name, wanted):
            write_atomic(out / name, content)
        told[name] = wanted
    if told != written or not (out / RECORD).is_file():
        write_json(out / RECORD, told)


def changed_beside(out: Path) -> list[str]:
    """Return the names of the files beside the versions that a person changed: they are no longer renewed.

    Where nothing was ever written beside the versions, there are none.
    """
    if not (out / RECORD).is_file():
        return []
    written = _read_record(out)
    return [
        name
        for name in _names()
        if _stands(out / name) and not _lies_as(out / name, written.get(name))
    ]


def _is_free(file: Path, written: str | None, wanted: str) -> bool:
    """Tell whether a file may be written: it is not there, or lies as it was written."""
    return not _stands(file) or _lies_as(file, written, wanted)


def _stands(file: Path) -> bool:
    """Tell whether there is anything of that name, also a link that leads nowhere."""
    return file.exists() or file.is_symlink()


def _lies_as(file: Path, *digests: str | None) -> bool:
    """Tell whether a plain file has one of these sha256; a link or a folder has none, as it is no work of ours."""
    if file.is_symlink() or not file.is_file():
        return False
    return _sha256(file.read_bytes()) in digests


def _names() -> list[str]:
    found = environment().list_templates(filter_func=_is_beside)
    return sorted(name.removesuffix(".jinja") for name in found)


def _is_beside(template: str) -> bool:
    return template.endswith(".jinja") and "/" not in template


def _rendered(class_names: Sequence[str], image_size_px: int) -> dict[str, bytes]:
    loaded = environment()
    told = {
        "model_name": MODEL_NAME,
        "server_image": SERVER_IMAGE,
        "image_size_px": image_size_px,
        "class_names": list(class_names),
        "num_classes": len(class_names),
        "batch_sizes": batch_sizes(image_size_px),
        "num_cpus": NUM_CPUS,
    }
    return {
        name: loaded.get_template(f"{name}.jinja").render(told).encode("utf-8", "replace")
        for name in _names()
    }


def _read_record(out: Path) -> dict[str, str]:
    """Return what was written; nothing where the record is missing or damaged: then all that differs stays."""
    try:
        content = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = content if isinstance(content, dict) else {}
    return {str(name): str(digest) for name, digest in known.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
