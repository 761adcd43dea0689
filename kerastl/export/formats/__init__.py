"""Export formats, one file each: `write` exports a model, and `FILES` identify its folder.

Formats of other runtimes have `convert` instead, which writes a graph to a folder and returns details for the manifest,
and `load`, which returns the class names and a function from images to probabilities. `write_server_files`, if present,
writes files for a server into the folder of all versions. `TITLE`, `PACKAGE`, `CLIENT_IMPORT` and `CLIENT_PREDICT` are parts
of the README and the client in each version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from kerastl import registry
from kerastl.errors import RequestError, join_words, quote, shell_command
from kerastl.runs import EXPORT_AGAIN, MANIFEST

SAVED_MODEL = "saved_model"
PORTABLE = "keras"
"""The format for another hospital, which adapts the model. No server runs it."""
EXPORT_FOLDER = "export"
"""The folder of exports in a run folder."""


@dataclass(frozen=True)
class ExportFolder:
    """The version folder of an export.

    Args:
        folder: The version folder.
        format_name: One of `kerastl.registry.names("format")`.
    """

    folder: Path
    format_name: str

    @property
    def module(self) -> ModuleType:
        """The plug-in of the format."""
        return registry.module("format", self.format_name)

    @property
    def is_converted(self) -> bool:
        """Whether another runtime than TensorFlow runs it."""
        return hasattr(self.module, "load")


def find_export(path: Path) -> ExportFolder | None:
    """Return the export in `path`, or else its highest version; None if there is none."""
    if not path.is_dir():
        return None
    versions = [folder for folder in path.iterdir() if folder.name.isdecimal() and folder.is_dir()]
    for folder in (path, *sorted(versions, key=lambda version: int(version.name), reverse=True)):
        for name in registry.names("format"):
            if all((folder / file).is_file() for file in registry.module("format", name).FILES):
                return ExportFolder(folder, name)
    return None


def find_verifiable(path: Path) -> ExportFolder:
    """Return the export in `path`, or else its highest version.

    Raises:
        RequestError: There is none.
    """
    export = find_export(path)
    if export is None and not path.exists():
        raise RequestError(f"Export folder not found: {path}.")
    if export is None and path.is_file():
        raise RequestError(f"{path} is a file. Specify the folder of the export.")
    if export is None:
        exports = sorted(folder for folder in path.glob(f"{EXPORT_FOLDER}/*") if find_export(folder))
        hint = (
            f" To verify an export of this run: {shell_command('kerastl', 'verify', exports[0])}"
            if exports
            else f" {EXPORT_AGAIN}" * (path / MANIFEST).is_file()
        )
        raise RequestError(
            f"{path} is not an export: it contains neither saved_model.pb nor a model in any other format.{hint}"
        )
    return export


def check_formats(
    names: Sequence[str], quantize: str | None = None, with_resize: bool = False, model_name: str = ""
) -> None:
    """Check that formats can be written, without importing their packages.

    Args:
        names: Names of formats.
        quantize: The requested quantization; None for none.
        with_resize: Whether the resize is requested as a part of the model.
        model_name: The name of the model on a server; empty if it is not known.

    Raises:
        RequestError: A package is missing (the text names the extra), no format has that quantization, a format
            cannot have the resize, or the name is too long for the servers of a format.
    """
    problems = [problem for name in names if (problem := _missing_packages(name))]
    if quantize is not None and not any(quantize in registry.quantize_choices(name) for name in names):
        choices = {name: registry.quantize_choices(name) for name in registry.names("format")}
        available = "; ".join(f"{name}: {', '.join(values)}" for name, values in choices.items() if values)
        problems.append(
            f"{', '.join(names) or 'No format'} cannot be quantized to {quantize}. Available quantizations: {available}."
        )
    if with_resize:
        problems += [problem for name in names if (problem := _resize_problem(name, quantize))]
    for name in names:
        longest = getattr(registry.module("format", name), "MAX_NAME_LENGTH", len(model_name))
        if len(model_name) > longest:
            problems.append(
                f"The model name {quote(model_name)} has {len(model_name)} characters, but at most {longest} are allowed "
                f"for the format {name}, because KServe appends '-predictor'. Use {model_name[:longest].rstrip('-')}."
            )
    if problems:
        raise RequestError("\n".join(problems))


def _resize_problem(name: str, quantize: str | None) -> str:
    if name == SAVED_MODEL:
        return f"The format {name} always decodes and resizes files itself. Omit --with-resize."
    if not registry.can_resize(name):
        return f"The format {name} has no resize, because kerastl resizes the images. Omit --with-resize."
    if quantize == "int8":
        return "--with-resize cannot be combined with --quantize int8, which would resize in 8 bits. Use --quantize float16, or omit one."
    return ""


def _missing_packages(name: str) -> str:
    required = getattr(registry.module("format", name), "REQUIRED_PACKAGES", ())
    missing = [package for package in required if find_spec(package) is None]
    if not missing:
        return ""
    verb = "are" if len(missing) > 1 else "is"
    return (
        f"The format {name} needs {join_words(missing, 'and')}, which {verb} not installed: "
        f"pip install 'kerastl[{name}]'"
    )
