"""A portable model is used only as it was exported: its files have the hashes of its manifest. No TensorFlow."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from kerastl.errors import RequestError, naming_damage
from kerastl.evaluation.trained import DESCRIPTION, MODEL, remedy_for
from kerastl.runs import ANEW, MANIFEST, differences

READ = (MODEL, DESCRIPTION)


def check_as_exported(folder: Path) -> None:
    """Refuse an export that is not what was written. A run folder has no manifest and is left alone.

    Files that were added are no fault, unless they are read: those in `READ`.

    Args:
        folder: of a run, or the numbered one of an export.

    Raises:
        RequestError: a file was changed, removed or added, or the manifest is missing or damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if _is_portable(folder):
            raise RequestError(
                f"{folder} is an export without {MANIFEST}: nothing tells whether its files are what was exported. {ANEW}"
            )
        return
    with naming_damage(file, ANEW):
        told = _told_hashes(json.loads(file.read_text(encoding="utf-8")))
        found = differences(folder, told)
    found = replace(found, added=tuple(name for name in found.added if name in READ))
    if str(found):
        raise RequestError(
            f"{folder} is not what was exported: {found}. {ANEW} Compare each file: kerastl verify {shlex.quote(str(folder))}"
        )


def _is_portable(folder: Path) -> bool:
    """Tell whether a folder without manifest was an export: its description tells of the backbone, that of a run does not."""
    file = folder / DESCRIPTION
    if not file.is_file():
        return False
    with naming_damage(file, remedy_for(folder)):
        return "backbone" in json.loads(file.read_text(encoding="utf-8"))


def _told_hashes(content: object) -> dict[str, str]:
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError("it must be an object with files, the sha256 of each file")
    return {str(name): str(digest) for name, digest in content["files"].items()}
