"""Registry of plug-ins: the files in the folders below, and entry points of installed packages.

Plug-in modules import TensorFlow only inside functions, so looking up names and options is fast.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from kerastl.errors import RequestError, did_you_mean, join_words, quote, setting

FOLDERS = {
    "reader": "kerastl.data.readers",
    "operation": "kerastl.augment.ops",
    "mixing": "kerastl.augment.mixing",
    "backbone": "kerastl.models.families",
    "format": "kerastl.export.formats",
    "adaptation": "kerastl.adaptation.methods",
    "validator": "kerastl.selection.validators",
}
TITLES = {kind: kind for kind in FOLDERS} | {
    "mixing": "mixing operation", "format": "export format", "adaptation": "adaptation method",
}  # fmt: skip
"""The names of kinds in messages."""
GROUPS = {
    "reader": "kerastl.readers",
    "operation": "kerastl.augmentations",
    "backbone": "kerastl.backbones",
    "adaptation": "kerastl.methods",
}
"""Entry-point groups. An entry point has the name of the plug-in (for backbones: of the family); its value is a module."""
REQUIRED_NAMES = {
    "reader": ("read",),
    "operation": ("Options", "at_strength", "build_layer"),
    "backbone": ("BACKBONES",),
    "adaptation": ("METHOD", "build"),
}
"""What the module of an installed plug-in must define."""
PRESET_PREFIX = "keras_hub/"
"""Prefix of the names of backbones that are presets of KerasHub."""


@cache
def _shipped(kind: str) -> dict[str, str]:
    """Return the module of each plug-in of kerastl; of each family for backbones. Validators share a module."""
    package: Any = importlib.import_module(FOLDERS[kind])
    if kind == "validator":
        return dict.fromkeys(package.VALIDATORS, FOLDERS[kind])
    files = [file.name for file in pkgutil.iter_modules(package.__path__) if not file.name.startswith("_")]
    return {file: f"{FOLDERS[kind]}.{file}" for file in files}


@cache
def installed_plugins(kind: str) -> dict[str, EntryPoint]:
    """Return the plug-ins of a kind that other installed packages provide; of backbones, the families.

    Raises:
        RequestError: A name is registered twice, or is a name of kerastl.
    """
    plugins: dict[str, EntryPoint] = {}
    for plugin in entry_points(group=GROUPS[kind]) if kind in GROUPS else ():
        owner = _package(plugins[plugin.name]) if plugin.name in plugins else "kerastl"
        if plugin.name in plugins or plugin.name in _shipped(kind):
            raise _duplicate(kind, plugin.name, plugin, owner)
        plugins[plugin.name] = plugin
    return plugins


def plugin_packages() -> set[str]:
    """Return the names of the installed packages that provide plug-ins."""
    return {_package(plugin) for kind in GROUPS for plugin in installed_plugins(kind).values()}


def _package(plugin: EntryPoint) -> str:
    """Return the name of the package that provides a plug-in."""
    return plugin.dist.name if plugin.dist else plugin.module


def _duplicate(kind: str, name: str, plugin: EntryPoint, owner: str) -> RequestError:
    """Return the error for a name that two packages provide."""
    return RequestError(
        f"The installed package {_package(plugin)} provides the {TITLES[kind]} '{name}', but {owner} provides one of the same "
        f"name. Uninstall the package (pip uninstall {_package(plugin)}), or rename its {TITLES[kind]}."
    )


@cache
def _load(kind: str, name: str) -> ModuleType:
    """Import the module of a plug-in; of a family for backbones. Check it if it belongs to another package."""
    if name in _shipped(kind):
        return importlib.import_module(_shipped(kind)[name])
    plugin = installed_plugins(kind)[name]
    subject = f"The {TITLES[kind]} '{name}' of the installed package {_package(plugin)}"
    try:
        loaded: ModuleType = plugin.load()
    except Exception as error:  # a module of another package can raise anything
        raise RequestError(f"{subject} cannot be imported: {type(error).__name__}: {error}") from error
    missing = [required for required in REQUIRED_NAMES[kind] if not hasattr(loaded, required)]
    if missing:
        raise RequestError(f"{subject} does not define {join_words(missing)}.")
    if kind == "backbone":
        for family in _shipped(kind):
            for backbone in sorted(loaded.BACKBONES.keys() & _load(kind, family).BACKBONES.keys()):
                raise _duplicate(kind, backbone, plugin, "kerastl")
    return loaded


def _plugins(kind: str) -> list[str]:
    """Return the names of the plug-ins of a kind; of the families for backbones."""
    return [*_shipped(kind), *installed_plugins(kind)]


@cache
def _find(kind: str, name: str) -> ModuleType | None:
    """Return the module of a plug-in, or None.

    Backbones with their own weights have one module. Of the others, installed families are imported first, then those of
    kerastl, starting with similar names.

    Raises:
        RequestError: Two installed families have a backbone of this name.
    """
    if kind != "backbone":
        return _load(kind, name) if name in _plugins(kind) else None
    if has_own_weights(name):
        return importlib.import_module("kerastl.models.hub_presets")
    plugins = [
        plugin for family, plugin in installed_plugins(kind).items() if name in _load(kind, family).BACKBONES
    ]
    if len(plugins) > 1:
        raise _duplicate(kind, name, plugins[0], _package(plugins[1]))
    shipped = difflib.get_close_matches(name[:100], _shipped(kind), n=len(_shipped(kind)), cutoff=0.0)
    modules = (_load(kind, family) for family in (*(plugin.name for plugin in plugins), *shipped))
    return next((module for module in modules if name in module.BACKBONES), None)


def is_preset(backbone: str) -> bool:
    """Return whether the name of a backbone is that of a KerasHub preset."""
    return backbone.startswith(PRESET_PREFIX)


def is_model_file(backbone: str) -> bool:
    """Return whether the name of a backbone is the path of a `.keras` file."""
    return backbone.endswith(".keras")


def has_own_weights(backbone: str) -> bool:
    """Return whether a backbone is a preset of KerasHub or a `.keras` file, which contain their own weights."""
    return is_preset(backbone) or is_model_file(backbone)


def path_hint(backbone: str) -> str:
    """Return how to use an existing path that was given as the name of a backbone, or an empty string."""
    path = Path(os.path.expanduser(backbone))  # noqa: PTH111 - Path raises for ~user without an account
    if os.path.isfile(path / "config.json"):  # noqa: PTH113 - Path raises for names that are too long
        folder = backbone if "/" in backbone else f"./{backbone}"
        return f"Did you mean {quote(PRESET_PREFIX + folder)}?"
    if os.path.isfile(path / "model.keras") or (path.suffix == ".h5" and os.path.isfile(path)):  # noqa: PTH113
        return f"It contains weights. Use {setting('weights', backbone)}, and the name of its backbone."
    return ""


def has(kind: str, name: str) -> bool:
    """Return whether there is a plug-in of a kind with this name."""
    return _find(kind, name) is not None


def names(kind: str) -> list[str]:
    """Return the plug-in names of a kind (a key of `FOLDERS`), sorted."""
    if kind != "backbone":
        return sorted(_plugins(kind))
    return sorted(name for family in _plugins(kind) for name in _load(kind, family).BACKBONES)


def module(kind: str, name: str) -> ModuleType:
    """Import and return the module that holds a plug-in.

    Raises:
        RequestError: There is no plug-in of this name.
    """
    plugin = _find(kind, name)
    if plugin is None:
        raise RequestError(f"Unknown {TITLES[kind]} '{name}'. {did_you_mean(name, names(kind))}")
    return plugin


def read_domains(reader: str, options: Any) -> list[str]:
    """Return the domains of a reader's images, sorted. Reads the table but opens no image.

    Raises:
        RequestError: The table is invalid, or an image has no domain.
    """
    collection = read_names(reader, options, seed=0, cache_dir=None)
    domains = [record.domain for record in collection.records]
    missing = domains.count(None)
    if missing:
        raise RequestError(f"{missing:,} of {len(domains):,} images have no domain.")
    return sorted(set(domains))


def read_names(reader: str, options: Any, *, seed: int, cache_dir: Path | None) -> Any:
    """Return the collection of a reader without opening its images, for checks. Images may not be stored yet."""
    plugin: Any = module("reader", reader)
    return getattr(plugin, "read_names", plugin.read)(options, seed=seed, cache_dir=cache_dir)


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


def can_resize(format_name: str) -> bool:
    """Return whether `with_resize` applies to an export format: only to the formats of other runtimes."""
    return hasattr(module("format", format_name), "convert")


def needs_color(operation: str, options: Any) -> bool:
    """Return whether an operation requires color images, itself or in one of its nested operations."""
    plugin: Any = module("operation", operation)
    if hasattr(plugin, "needs_color"):
        return bool(plugin.needs_color(options))
    nested = getattr(options, "operations", ())
    return getattr(plugin, "NEEDS_COLOR", False) or any(
        needs_color(inner.name, inner.options) for inner in nested
    )
