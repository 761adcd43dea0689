"""The versions of an export: list them, find the next number, remove old ones. TensorFlow is not imported."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kerastl import recipe
from kerastl.errors import RequestError, out_option, quote, report_damage, shell_command
from kerastl.export.formats import find_export
from kerastl.export.manifest import read_manifest, read_model_name
from kerastl.options import allowed, describe_value
from kerastl.runs import RESOLVED_RECIPE
from kerastl.runs.schemas import RUN_AGAIN

HIGHEST = 2**63 - 1
"""TensorFlow Serving stores a version in 64 bits."""


def check_writable(out: Path) -> None:
    """Check that a folder of versions can be written, or created in the innermost folder that exists.

    Raises:
        RequestError: It cannot.
    """
    folder = next(path for path in (out, *out.absolute().parents) if path.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RequestError(f"The folder {folder} cannot be written. Choose another: {out_option()}")


def list_versions(out: Path) -> dict[Path, int]:
    """Return all entries in a folder that a server treats as a version, with their numbers."""
    if not out.is_dir():
        return {}
    numbers = {path: int(path.name) for path in out.iterdir() if path.name.isdecimal()}
    return {path: number for path, number in numbers.items() if number <= HIGHEST}


def highest_version(out: Path) -> int:
    """Return the highest version in a folder, which a server serves; 0 if there is none."""
    return max(list_versions(out).values(), default=0)


def next_version(out: Path) -> int:
    """Return the version after the highest in a folder; 1 if there is none.

    Raises:
        RequestError: There is no higher number.
    """
    highest = highest_version(out)
    if highest == HIGHEST:
        raise RequestError(
            f"{out} has version {HIGHEST}, the highest possible. Choose another folder with --out, or a free version: "
            "--version N"
        )
    return highest + 1


def check_version_free(out: Path, version: int) -> None:
    """Check that a version can be written.

    Raises:
        RequestError: The number is out of range, or the version exists.
    """
    if not 1 <= version <= HIGHEST:
        raise RequestError(f"A version must be an integer from 1 to {HIGHEST}, got {version}.")
    if version in list_versions(out).values():
        raise version_exists_error(out, version)


def version_exists_error(out: Path, version: int) -> RequestError:
    """Return the error for a version that exists."""
    other = min(highest_version(out), HIGHEST - 1) + 1
    remedy = f"Omit --version to write {other}, or choose" if other != version else "Choose"
    return RequestError(
        f"{out} already has version {version}, and nothing is overwritten. {remedy} another folder with --out. "
        f"To check the existing version: {shell_command('kerastl', 'verify', out / str(version))}"
    )


def resolve_model_name(out: Path, requested: str | None = None, run_folder: Path | None = None) -> str:
    """Return the model name of a new version: the requested one, that of the versions in `out`, or that of the recipe.

    Args:
        out: The folder of all versions. They have one name, because they share `models.config` and the other files.
        requested: The requested name; None for the default.
        run_folder: The run folder, for `export.model_name` of its recipe; None for `kerastl`.

    Raises:
        RequestError: The name is not valid, or the versions in `out` have a different one.
    """
    newest = find_export(out)
    present = None if newest is None else read_model_name(newest.folder)
    if requested is not None:
        check_model_name(requested)
    if requested is not None and present not in (None, requested):
        raise RequestError(
            f"{out} has versions of the model '{present}', and all versions in a folder have one name. "
            f"For {quote(requested)}, choose another folder: --out DIR. For another version: --model-name {present}"
        )
    name = present if requested is None else requested
    return check_model_name(_name_in_recipe(run_folder) if name is None else name)


def check_model_name(name: str) -> str:
    """Return the name of a model, if it is valid for TF Serving, Docker Compose and Kubernetes.

    Raises:
        RequestError: It is not valid.
    """
    _, errors = recipe.Export.read({"model_name": name})
    if errors:
        near = re.sub("[^a-z0-9]+", "-", str(name).lower()).strip("-0123456789")[:63].rstrip("-")
        hint = f" Use {near}." if near else ""
        raise RequestError(
            f"The name of a model must be {allowed(recipe.ModelName)}, got {describe_value(name)}.{hint}"
        )
    return name


def _name_in_recipe(run_folder: Path | None) -> str:
    """Return `export.model_name` of a run, or its default."""
    file = run_folder and run_folder / RESOLVED_RECIPE
    if file is None or not file.is_file():
        return recipe.MODEL_NAME
    with report_damage(file, RUN_AGAIN):
        content = recipe.read_plain(file.read_text(encoding="utf-8"))
        return str(content.get("export", {}).get("model_name", recipe.MODEL_NAME))


@dataclass(frozen=True)
class PrunedVersions:
    """The result of `prune`.

    Args:
        removed: Versions that were removed, the oldest first.
        skipped: Older numbered entries that were kept because they are not versions of this export.
    """

    removed: tuple[Path, ...]
    skipped: tuple[Path, ...]


def prune(written: Path, keep: int) -> PrunedVersions:
    """Remove the oldest versions so that `keep` remain, including the written one; higher versions are not counted.

    Only a folder with a manifest of kerastl and a model of the same format as the written one is removed. It
    is renamed to a hidden name first, so that a server sees it complete or not at all.

    Args:
        written: The version folder that was just written.
        keep: Number of versions to keep, at least 1.

    Raises:
        RequestError: `keep` is below 1, or `written` is not an export.
        OSError: A folder cannot be removed.
    """
    if keep < 1:
        raise RequestError(f"--keep must be at least 1, got {keep}.")
    format_name = _format_of(written)
    if format_name is None:
        raise RequestError(f"{written} is not an export of kerastl.")
    numbers = list_versions(written.parent)
    older = [path for path, number in numbers.items() if number < int(written.name)]
    older.sort(key=numbers.__getitem__)
    same_type = [path for path in older if _format_of(path) == format_name]
    removed = same_type[: max(0, len(same_type) - (keep - 1))]
    for path in removed:
        _remove(path)
    return PrunedVersions(tuple(removed), tuple(path for path in older if path not in same_type))


def _format_of(path: Path) -> str | None:
    """Return the format of a version that kerastl wrote; None for anything else."""
    # A link can lead to a folder that is used elsewhere.
    export = None if path.is_symlink() else find_export(path)
    try:
        read_manifest(path)
    except (RequestError, OSError):
        return None
    return export.format_name if export is not None and export.folder == path else None


def _remove(path: Path) -> None:
    # Hidden and not a number, so that if the process is killed, no server treats the remains as a version.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kerastl.") as hidden:
        path.rename(Path(hidden, path.name))
