"""A recipe as it was written: scalars, lists and mappings, each knowing where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kerastl.errors import Problem

Value = None | bool | int | float | str
LONGEST_QUOTE = 60


@dataclass(frozen=True)
class Place:
    """Where something stands: in a line of the file (from 1), or in a `--set` (line 0)."""

    line: int

    def where(self, path: str) -> str:
        """Return `line 7, data.split`, or `--set data.split`."""
        path = quoted(path, marks="")
        if not self.line:
            return f"--set {path}".rstrip()
        return f"line {self.line}, {path}" if path else f"line {self.line}"


@dataclass
class Scalar:
    """One value; `text` is what was typed, `plain` says that it had no quotes."""

    place: Place
    value: Value
    text: str
    plain: bool


@dataclass
class Listing:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass
class Mapping:
    """A mapping from keys to values; `keys` says where each key stands."""

    place: Place
    items: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)


Node = Scalar | Listing | Mapping


class Findings:
    """Collects problems in any order and gives them back in the order of the file, `--set` last."""

    def __init__(self) -> None:
        self._found: list[tuple[float, Problem]] = []

    def add(self, place: Place, path: str, message: str) -> None:
        """Note one problem."""
        order = place.line or float("inf")
        self._found.append((order, Problem(place.where(path), message)))

    @property
    def problems(self) -> list[Problem]:
        """Every problem, ordered."""
        return [problem for _, problem in sorted(self._found, key=lambda pair: pair[0])]


Report = Callable[[Place, str, str], None]


def quoted(text: str, marks: str = "'") -> str:
    """Return text fit for a terminal: unprintable characters escaped, long text cut."""
    safe = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[: LONGEST_QUOTE * 4]
    )
    cut = safe if len(safe) <= LONGEST_QUOTE * 2 else safe[:LONGEST_QUOTE] + "…"
    return f"{marks}{cut}{marks}"


def shown(node: Node) -> str:
    """Return what was written, for `got ...`."""
    if isinstance(node, Listing):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None:
        return "nothing" if not node.text else quoted(node.text, marks="")
    if isinstance(node.value, str):
        return quoted(node.value)
    return quoted(node.text, marks="")


def join(path: str, key: str | int) -> str:
    """Return the path of a key or an index below a path."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
