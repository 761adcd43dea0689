"""`--set data.batch_size=8`: change a recipe's tree before it is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from kerastl.recipe.read import read_value
from kerastl.recipe.schema import Augment
from kerastl.recipe.tree import Findings, Listing, Mapping, Node, Place, Scalar, join, quoted, shown

STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,6})\]")
# Where a bare word stands for `{name: word}`, so that a longer path reaches an option beside the name.
NAMES = re.compile(r"(.+\.)?(reader|backbone)|(.+\.)?(augment|operations|mixing)\[\d+\]")
# Sections that may be written as one word or as a list, and what these stand for.
SHORT_FORMS = {"augment": (Augment.SHORT_WORD, Augment.SHORT_LIST)}
SET = Place(0)


def apply(root: Node, sets: Sequence[str], found: Findings) -> None:
    """Apply each `path=value` to the tree in place; the last word on a path wins.

    Args:
        root: the recipe; mappings that a path needs are added.
        sets: as typed, e.g. `phases[0].epochs=2`; values are YAML.
        found: where problems go.
    """
    for text in sets:
        path, equals, value = text.partition("=")
        path = path.strip()
        steps = _steps(path)
        if not equals or not steps:
            found.add(SET, text, "must be PATH=VALUE, as data.batch_size=8 or phases[0].epochs=2.")
            continue
        node = read_value(value, path, found)
        if node is not None:
            _put(root, steps, node, found)


def _steps(path: str) -> list[str | int] | None:
    """Return `a.b[0]` as [a, b, 0]; None when it is no path."""
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        match = STEP.match(path, position)
        if match is None or (position == 0 and path[0] in ".["):
            return None
        if match[1] and position and path[position] != ".":
            return None
        steps.append(match[1] if match[1] else int(match[2]))
        position = match.end()
    return steps


def _put(root: Node, steps: list[str | int], value: Node, found: Findings) -> None:
    node, path = root, ""
    for step, following in pairwise(steps):
        child = _child(node, step, following, path, found)
        if child is None:
            return
        node, path = child, join(path, step)
    last = steps[-1]
    if not _fits(node, last, path, found):
        return
    if isinstance(node, Listing) and isinstance(last, int):
        node.items[last] = value
    elif isinstance(node, Mapping) and isinstance(last, str):
        node.items[last] = value
        node.keys[last] = SET


def _child(
    node: Node, step: str | int, following: str | int, path: str, found: Findings
) -> Node | None:
    """Return what lies under one step; a word that names a plug-in becomes `{name: word}`.

    Another single value gives way to a new mapping: a longer path means the longer form.
    """
    if not _fits(node, step, path, found):
        return None
    if isinstance(node, Listing) and isinstance(step, int):
        child: Node | None = node.items[step]
    else:
        assert isinstance(node, Mapping)
        assert isinstance(step, str)
        child = node.items.get(step)
    if isinstance(following, str):
        child = _as_mapping(child, join(path, step))
    if child is None:
        found.add(SET, join(path, step), f"is not in the recipe, so it has no [{following}].")
        return None
    if isinstance(node, Listing) and isinstance(step, int):
        node.items[step] = child
    elif isinstance(node, Mapping) and isinstance(step, str):
        node.items[step] = child
        node.keys.setdefault(step, SET)
    return child


def _as_mapping(child: Node | None, path: str) -> Node:
    """Return the longer form of what is short: a longer path means a key of it. What is no short form stays."""
    if isinstance(child, Listing) and path in SHORT_FORMS:
        return Mapping(
            child.place, {SHORT_FORMS[path][1]: child}, {SHORT_FORMS[path][1]: child.place}
        )
    if child is not None and not isinstance(child, Scalar):
        return child
    key = SHORT_FORMS[path][0] if path in SHORT_FORMS else "name"
    is_short = path in SHORT_FORMS or NAMES.fullmatch(path)
    if child is None or child.value is None or not is_short:
        return Mapping(SET)
    return Mapping(child.place, {key: child}, {key: child.place})


def _fits(node: Node, step: str | int, path: str, found: Findings) -> bool:
    where = join(path, step)
    if isinstance(step, int):
        if not isinstance(node, Listing):
            found.add(SET, where, f"{_called(path)} is no list.")
            return False
        if step >= len(node.items):
            found.add(SET, where, f"{_called(path)} has {len(node.items)} entries, counted from 0.")
            return False
        return True
    if isinstance(node, Listing):
        found.add(SET, where, f"{_called(path)} is a list: write {_called(path)}[0].")
        return False
    if isinstance(node, Scalar):
        found.add(SET, where, f"{_called(path)} is {shown(node)}, which has no keys.")
        return False
    return True


def _called(path: str) -> str:
    return quoted(path, "") or "the recipe"
