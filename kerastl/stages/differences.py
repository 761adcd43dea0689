"""What differs between two recipes, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from kerastl.recipe import read_plain, to_yaml

LONGEST = 80


def differences(began: str, now: str) -> list[str]:
    """Return a line for each thing that differs, by its dotted key; none where the first is no YAML.

    Args:
        began, now: resolved recipes, as they are written down.
    """
    try:
        old = read_plain(began)
    except ValueError:
        return []
    return list(_of("", old, read_plain(now)))


def _of(key: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            below = f"{key}.{name}" if key else str(name)
            if name not in old:
                yield f"{below}: it began without, now it is {_short(new[name])}"
            elif name not in new:
                yield f"{below}: it began with {_short(old[name])}, now it has none"
            else:
                yield from _of(below, old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(key, old, new)
    else:
        yield f"{key}: it began with {_short(old)}, now it is {_short(new)}"


def _of_lists(key: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Tell which items were put in, taken out or changed: those behind them are the same, at other places."""
    was, is_now = ([json.dumps(one, default=str) for one in items] for items in (old, new))
    parts = SequenceMatcher(None, was, is_now, autojunk=False).get_opcodes()
    for _, first, last, new_first, new_last in parts:
        before, after = old[first:last], new[new_first:new_last]
        if len(before) == len(after):
            for place, pair in enumerate(zip(before, after, strict=True), first):
                yield from _of(f"{key}[{place}]", *pair)
            continue
        for place, one in enumerate(before, first):
            yield f"{key}[{place}]: it began with {_short(one)}, now that is not there"
        for place, one in enumerate(after, new_first):
            yield f"{key}[{place}]: it began without {_short(one)}"


def _short(value: Any) -> str:
    text = to_yaml(value, in_one_line=True)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
