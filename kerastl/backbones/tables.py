"""Look a backbone up in the tables and check what is asked of it. No TensorFlow."""

from __future__ import annotations

from typing import Any

from kerastl import registry
from kerastl.backbones.backbone import Backbone
from kerastl.errors import RequestError


def table() -> dict[str, Backbone]:
    """Return every backbone by name, in alphabetical order."""
    return {name: backbone_named(name) for name in registry.names("backbone")}


def backbone_named(name: str) -> Backbone:
    """Return the table of one backbone.

    Raises:
        RequestError: no such name; the text names the nearest right one.
    """
    backbone = registry.module("backbone", name).BACKBONES[name]
    assert isinstance(backbone, Backbone)
    return backbone


def checked_size(name: str, image_size_px: int | None) -> int:
    """Return the side of the pictures in pixels, the published one where None.

    Raises:
        RequestError: it is below the smallest that the network can be built for.
    """
    backbone = backbone_named(name)
    size = backbone.image_size_px if image_size_px is None else image_size_px
    if size < backbone.min_size_px:
        raise RequestError(
            f"{name} needs pictures of at least {backbone.min_size_px} pixels a side, got {size}."
        )
    return size


def checked_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a family's options with defaults filled in.

    Raises:
        RequestError: the family has no such option.
    """
    kind = registry.options_of("backbone", name)
    known = list(kind.model_fields) if kind else []
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = f"It has: {', '.join(known)}." if known else "It has none."
        raise RequestError(f"{name} has no option '{unknown[0]}'. {allowed}")
    return kind(**options).model_dump() if kind else {}


def described(name: str, size_px: int | None, options: dict[str, Any]) -> str:
    """Say what is meant in one phrase: `mobilenet_v2 (96 px, alpha=0.35)`."""
    details = [f"{size_px} px"] if size_px else []
    details += [f"{key}={value}" for key, value in options.items()]
    return f"{name} ({', '.join(details)})" if details else name
