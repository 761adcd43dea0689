"""Find a plug-in by its file name. There is no list to edit: a file in the right folder is a plug-in.

Plug-in modules import TensorFlow only inside their functions, so looking up names and options is free.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any

from kerastl.errors import RequestError

FOLDERS = {
    "reader": "kerastl.data.readers",
    "operation": "kerastl.augment.ops",
    "mixing": "kerastl.augment.mixing",
    "backbone": "kerastl.models.families",
    "format": "kerastl.export.formats",
    "adaptation": "kerastl.adaptation.methods",
    "validator": "kerastl.selection.validators",
}


@cache
def _modules(kind: str) -> dict[str, str]:
    """Return the name of the module that holds each plug-in; backbone families and validators share modules."""
    package: Any = importlib.import_module(FOLDERS[kind])
    if kind == "validator":
        return dict.fromkeys(package.VALIDATORS, FOLDERS[kind])
    files = [file.name for file in pkgutil.iter_modules(package.__path__) if not file.name.startswith("_")]
    modules = {file: f"{FOLDERS[kind]}.{file}" for file in files}
    if kind != "backbone":
        return modules
    return {name: path for path in modules.values() for name in importlib.import_module(path).BACKBONES}


def names(kind: str) -> list[str]:
    """Return every name of a kind: reader, operation, mixing, backbone, format, adaptation or validator."""
    return sorted(_modules(kind))


def module(kind: str, name: str) -> ModuleType:
    """Return the module that holds a plug-in.

    Raises:
        RequestError: no such name; the text names the nearest right one.
    """
    if name not in _modules(kind):
        near = difflib.get_close_matches(name, names(kind), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RequestError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(names(kind))}.")
    return importlib.import_module(_modules(kind)[name])


def read_domains(reader: str, options: Any) -> list[str]:
    """Return the domains that a reader's images come from, sorted. Reads the table, opens no image.

    Raises:
        RequestError: the table will not do, or an image has no domain.
    """
    found = [record.domain for record in module("reader", reader).read(options).records]
    missing = found.count(None)
    if missing:
        raise RequestError(f"{missing:,} of {len(found):,} images have no domain.")
    return sorted(set(found))


def read_columns(reader: str, options: Any) -> list[str]:
    """Return the names of the columns of a reader's table. Reads its first line.

    Raises:
        RequestError: the table cannot be read.
    """
    return list(module("reader", reader).read_columns(options))


def options_of(kind: str, name: str) -> type[Any] | None:
    """Return the frozen dataclass of a plug-in's options, None when it has none."""
    plugin: Any = module(kind, name)
    if kind == "validator":
        options = plugin.VALIDATORS[name].options
        return None if options is None else type(options)
    return getattr(plugin, "Options", None)


def needs_color(operation: str, options: Any) -> bool:
    """Tell whether an operation makes no sense on images of one channel.

    Args:
        operation: its name.
        options: its options: an operation that holds others needs colour where one of them does.
    """
    held: Any = module("operation", operation)
    if hasattr(held, "needs_color"):
        return bool(held.needs_color(options))
    return bool(getattr(held, "NEEDS_COLOR", False))
