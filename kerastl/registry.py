"""Registry of plug-ins, found by the names of the files in their folders.

Plug-in modules import TensorFlow only inside functions, so looking up names and options is fast.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any

from kerastl.errors import RequestError, did_you_mean

FOLDERS = {
    "reader": "kerastl.data.readers",
    "operation": "kerastl.augment.ops",
    "mixing": "kerastl.augment.mixing",
    "backbone": "kerastl.models.families",
    "format": "kerastl.export.formats",
    "adaptation": "kerastl.adaptation.methods",
    "validator": "kerastl.selection.validators",
}
TITLES = {"mixing": "mixing operation", "format": "export format", "adaptation": "adaptation method"}
"""The names of kinds in messages, if different."""


@cache
def _modules(kind: str) -> dict[str, str]:
    """Return the module of each plug-in; of each family for backbones. Validators share a module."""
    package: Any = importlib.import_module(FOLDERS[kind])
    if kind == "validator":
        return dict.fromkeys(package.VALIDATORS, FOLDERS[kind])
    files = [file.name for file in pkgutil.iter_modules(package.__path__) if not file.name.startswith("_")]
    return {file: f"{FOLDERS[kind]}.{file}" for file in files}


@cache
def _find(kind: str, name: str) -> str | None:
    """Return the module that holds a plug-in, or None. Of the backbones, families with a similar name are imported first."""
    modules = _modules(kind)
    if kind != "backbone":
        return modules.get(name)
    families = difflib.get_close_matches(name[:100], modules, n=len(modules), cutoff=0.0)
    paths = (modules[family] for family in families)
    return next((path for path in paths if name in importlib.import_module(path).BACKBONES), None)


def has(kind: str, name: str) -> bool:
    """Return whether there is a plug-in of a kind with this name."""
    return _find(kind, name) is not None


def names(kind: str) -> list[str]:
    """Return the plug-in names of a kind (a key of `FOLDERS`), sorted."""
    modules = _modules(kind)
    if kind != "backbone":
        return sorted(modules)
    return sorted(name for path in modules.values() for name in importlib.import_module(path).BACKBONES)


def module(kind: str, name: str) -> ModuleType:
    """Import and return the module that holds a plug-in.

    Raises:
        RequestError: There is no plug-in of this name.
    """
    path = _find(kind, name)
    if path is None:
        raise RequestError(f"Unknown {TITLES.get(kind, kind)} '{name}'. {did_you_mean(name, names(kind))}")
    return importlib.import_module(path)


def read_domains(reader: str, options: Any) -> list[str]:
    """Return the domains of a reader's images, sorted. Reads the table but opens no image.

    Raises:
        RequestError: The table is invalid, or an image has no domain.
    """
    domains = [record.domain for record in module("reader", reader).read(options).records]
    missing = domains.count(None)
    if missing:
        raise RequestError(f"{missing:,} of {len(domains):,} images have no domain.")
    return sorted(set(domains))


def read_columns(reader: str, options: Any) -> list[str]:
    """Return the column names of a reader's table. Reads only the header.

    Raises:
        RequestError: The table cannot be read.
    """
    return list(module("reader", reader).read_columns(options))


def options_of(kind: str, name: str) -> type[Any] | None:
    """Return the options class of a plug-in, or None if it has no options."""
    plugin: Any = module(kind, name)
    if kind == "validator":
        options = plugin.VALIDATORS[name].options
        return None if options is None else type(options)
    return getattr(plugin, "Options", None)


def quantize_choices(format_name: str) -> tuple[str, ...]:
    """Return the quantizations of an export format."""
    return tuple(getattr(module("format", format_name), "QUANTIZE_CHOICES", ()))


def needs_color(operation: str, options: Any) -> bool:
    """Return whether an operation requires color images, itself or in one of its nested operations."""
    plugin: Any = module("operation", operation)
    if hasattr(plugin, "needs_color"):
        return bool(plugin.needs_color(options))
    nested = getattr(options, "operations", ())
    return getattr(plugin, "NEEDS_COLOR", False) or any(
        needs_color(inner.name, inner.options) for inner in nested
    )
