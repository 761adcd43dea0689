"""What the tables of the plug-ins say of a recipe: blocks, sizes, published weights, the options' own rules.

Nothing of this needs data, the disk or TensorFlow. A value that was wrong by itself is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Protocol

from kerastl.errors import RequestError
from kerastl.recipe.phases import BlockRate, FromBlock
from kerastl.recipe.tree import quoted
from kerastl.recipe.walk import Broken, NamesOf, OptionsOf
from kerastl.recipe.words import hints, members, nearest, unwrap

Finding = tuple[str, str]


class Tables(Protocol):
    """Look-ups in the tables of the backbones; the package `kerastl.backbones` is one."""

    def block_names(self, name: str) -> Sequence[str]:
        """Return the names of a backbone's blocks from the input on."""

    def checked_size(self, name: str, image_size_px: int | None) -> int:
        """Return the side of the pictures; RequestError where the backbone cannot be built for it."""

    def published_weights(
        self, name: str, *, image_size_px: int | None = None, **options: Any
    ) -> Sequence[Any]:
        """Return the published weights; RequestError where there are none for these options."""


def backbone_findings(
    values: Map[str, Any], options_of: OptionsOf, tables: Tables
) -> Iterator[Finding]:
    """Yield what the tables of the backbones refuse.

    Args:
        values: every value of the recipe by its path, as the walker read it.
        options_of: `(kind, name)` to the dataclass of a plug-in's options.
        tables: the look-ups.
    """
    name = values.get("backbone.name")
    if not isinstance(name, str):
        return
    size = values.get("data.image_size_px")
    size = None if isinstance(size, Broken) else size
    try:
        tables.checked_size(name, size)
    except RequestError as error:
        yield "data.image_size_px", str(error)
        size = None
    yield from _weights(name, size, values, options_of, tables)
    known = tables.block_names(name)
    for path, value in values.items():
        block, key = _named_block(value)
        if block is not None and block not in known:
            near = nearest(block, known)
            hint = f"Did you mean '{near}'? " if near else ""
            yield (
                f"{path}.{key}",
                f"{name} has no block {quoted(block)}. {hint}Blocks: {', '.join(known)}.",
            )


def _named_block(value: Any) -> tuple[str | None, str]:
    """Return the block that a value names, and the key that it stands under."""
    if isinstance(value, FromBlock):
        return value.from_block, "from_block"
    return (value.block, "block") if isinstance(value, BlockRate) else (None, "")


def _weights(
    name: str, size: int | None, values: Map[str, Any], options_of: OptionsOf, tables: Tables
) -> Iterator[Finding]:
    if values.get("backbone.weights", "imagenet") != "imagenet":
        return
    options = _given(options_of("backbone", name), "backbone", values)
    if any(isinstance(value, Broken) for value in options.values()):
        return
    try:
        tables.published_weights(name, image_size_px=size, **options)
    except RequestError as error:
        yield f"backbone.{next(iter(options), 'weights')}", str(error)


def reader_findings(
    values: Map[str, Any], options_of: OptionsOf, names_of: NamesOf
) -> Iterator[Finding]:
    """Yield what the readers' options refuse, at the source and at the target."""
    shared = "target" in values and "target.reader" not in values
    told = set[str]()
    for part in ("data", "target"):
        owner = "data" if shared else part
        name = values.get(f"{owner}.reader.name")
        if not isinstance(name, str):
            continue
        options = options_of("reader", name)
        for path, option in _uses(part, shared=shared):
            value = values.get(path)
            if value and not isinstance(value, Broken) and not _has(options, option):
                if path in told:
                    continue  # both readers lack it
                told.add(path)
                able = [
                    one for one in names_of("reader") if _has(options_of("reader", one), option)
                ]
                known = f"Readers that have: {', '.join(able)}."
                yield (
                    path,
                    f"the reader {name} has no {option}. {known} Take another, or take this out.",
                )
        if owner == part:
            yield from _options(options, f"{part}.reader", values)


def _uses(part: str, *, shared: bool) -> list[tuple[str, str]]:
    """Return the keys beside a reader that need an option of it, each with that option."""
    needed = [(f"{part}.split.group_by", "columns"), ("evaluation.subgroups", "columns")]
    return [*needed, ("target.domains", "domains")] if shared and part == "target" else needed


def _has(options: type[Any] | None, name: str) -> bool:
    return options is not None and name in hints(options)


def _options(options: type[Any] | None, path: str, values: Map[str, Any]) -> Iterator[Finding]:
    """Yield what the options' own `problems` say, but for paths: what is on the disk is seen by `run`."""
    if options is None or not hasattr(options, "problems"):
        return
    places = {name for name, hint in hints(options).items() if Path in members(unwrap(hint)[0])}
    given = _given(options, path, values)
    given |= {one.name: Path() for one in fields(options) if one.name in places}
    needed = {one.name for one in fields(options) if one.default is MISSING}
    if needed - given.keys() or any(isinstance(value, Broken) for value in given.values()):
        return
    for line in options(**given).problems():
        name, _, message = line.partition(": ")
        if name not in places:
            yield f"{path}.{name}", message


def _given(options: type[Any] | None, path: str, values: Map[str, Any]) -> dict[str, Any]:
    """Return the options that stand in the recipe, by name."""
    if options is None:
        return {}
    names = (one.name for one in fields(options) if f"{path}.{one.name}" in values)
    return {name: values[f"{path}.{name}"] for name in names}
