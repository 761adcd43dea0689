"""Find the folder of a converted model, and which format it is in, by its file. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kerastl import registry


@dataclass(frozen=True)
class Converted:
    """A folder that holds a converted model.

    Args:
        folder: the numbered folder.
        format_name: one of `kerastl.registry.names("format")`.
    """

    folder: Path
    format_name: str

    @property
    def module(self) -> ModuleType:
        """The plug-in of the format."""
        return registry.module("format", self.format_name)


def find_converted(path: Path) -> Converted | None:
    """Return the converted model that is meant: in `path` itself, or under the highest number in it; None: there is none."""
    if not path.is_dir():
        return None
    numbered = [one for one in path.iterdir() if one.name.isdecimal() and one.is_dir()]
    for folder in (path, *sorted(numbered, key=lambda one: int(one.name), reverse=True)):
        for name in registry.names("format"):
            module = registry.module("format", name)
            if hasattr(module, "opened") and (folder / module.FILE).is_file():
                return Converted(folder, name)
    return None
