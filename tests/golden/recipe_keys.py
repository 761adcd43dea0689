"""Every key of a recipe, and every option of a plug-in, with its type and its default.

Reads the schema classes, whether they are dataclasses or pydantic models.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KINDS = ("reader", "operation", "mixing", "backbone", "format", "adaptation", "validator")
PLAIN = {
    bool: "boolean", int: "integer", float: "number", str: "text", Path: "path", type(None): "null",
}  # fmt: skip
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
MISSING = object()


def recipe_keys() -> list[str]:
    """Return one line for each key and option."""
    from kerastl.recipe import Recipe

    lines = [f"recipe {line}" for line in _lines(Recipe)]
    for kind in KINDS:
        lines += _plugin_lines(kind)
    return lines


def _plugin_lines(kind: str) -> Iterator[str]:
    from kerastl import registry

    for name in registry.names(kind):
        options = registry.options_of(kind, name)
        yield f"{kind} {name}"
        if options is not None:
            yield from (f"{kind} {name}: {line}" for line in _lines(options))


def _fields(schema: Any) -> Iterator[tuple[str, Any, list[Any], Any]]:
    """Yield name, type, constraints and default of each field."""
    if hasattr(schema, "model_fields"):
        for name, field in schema.model_fields.items():
            default = MISSING if field.is_required() else field.get_default(call_default_factory=True)
            yield field.alias or name, field.annotation, field.metadata, default
        return
    hints = typing.get_type_hints(schema, include_extras=True)
    for field in dataclasses.fields(schema):
        default: Any = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield (field.name, hints[field.name], [], MISSING if default is dataclasses.MISSING else default)


def _is_schema(hint: Any) -> bool:
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "model_fields"))


def _lines(schema: Any, path: str = "") -> Iterator[str]:
    for name, hint, constraints, default in _fields(schema):
        if name == "options" and hint is Any:  # the options of a plug-in are written next to its name
            continue
        key = f"{path}{name}"
        value = "required" if default is MISSING else f"default {json.dumps(_plain(default))}"
        yield f"{key}: {_type(hint, constraints)}; {value}"
        yield from _inner_lines(hint, f"{key}.")


def _inner_lines(hint: Any, path: str) -> Iterator[str]:
    """Yield the keys of the mappings that a value may be."""
    if _is_schema(hint):
        yield from _lines(hint, path)
        return
    is_list = typing.get_origin(hint) in (tuple, list)
    for inner in typing.get_args(hint):
        if inner is not Ellipsis and not isinstance(inner, str | int):
            yield from _inner_lines(inner, f"{path[:-1]}[]." if is_list else path)


def _type(hint: Any, constraints: list[Any] | tuple[Any, ...] = ()) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(inner[0], [*inner[1:], *constraints])
    if origin in (typing.Union, types.UnionType):
        text = " | ".join(_type(argument) for argument in inner)
    elif origin is typing.Literal:
        text = " | ".join(json.dumps(value) for value in inner)
    elif origin is tuple and inner[-1] is not Ellipsis:
        text = f"[{', '.join(map(_type, inner))}]"
    elif origin in (tuple, list):
        text = f"list of ({_type(inner[0])})"
    elif _is_schema(hint):
        metadata = hint.model_fields["name"].metadata if "name" in getattr(hint, "model_fields", {}) else []
        kinds = [item.kind for item in metadata if hasattr(item, "kind")]
        text = f"mapping ({kinds[0] if kinds else 'keys below'})"
    else:
        text = PLAIN.get(hint, "any")
    return ", ".join([text, *sorted(_constraints(constraints))])


def _constraints(metadata: list[Any] | tuple[Any, ...]) -> Iterator[str]:
    for item in metadata:
        if hasattr(item, "metadata"):  # pydantic.Field
            yield from _constraints(item.metadata)
        for name, sign in BOUNDS.items():
            if getattr(item, name, None) is not None:
                yield f"{sign} {getattr(item, name)}"
        pattern = getattr(item, "regex", None) or getattr(item, "pattern", None)
        if pattern is not None:
            yield f"matches {pattern}"
        if hasattr(item, "kind"):
            yield f"name of a {item.kind}"


def _plain(value: Any) -> Any:
    """Return a default as JSON; a mapping shows only what differs from its own defaults."""
    if _is_schema(type(value)):
        return {
            name: _plain(getattr(value, name))
            for name, _, _, default in _fields(type(value))
            if getattr(value, name) != default
        }
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
