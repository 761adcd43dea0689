"""Plug-ins made up for tests of the recipe room, which knows none itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen

from kerastl.recipe import Recipe, check


@dataclass(frozen=True)
class Columns:
    label: str = "label"
    group: str | None = None


@dataclass(frozen=True)
class Folder:
    path: Path
    labelled: bool = True
    pattern: Annotated[str, MinLen(1)] | None = None


@dataclass(frozen=True)
class Table:
    path: Path
    columns: Columns = Columns()
    domains: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Cutout:
    area: Annotated[float, Ge(0), Le(1)] = 0.25
    range_deg: tuple[float, float] = (0.0, 90.0)
    direction: Literal["horizontal", "vertical", "both"] = "both"


@dataclass(frozen=True)
class Alpha:
    alpha: Annotated[float, Ge(0.1), Le(2)] = 1.0


OPTIONS: dict[str, dict[str, type[Any] | None]] = {
    "reader": {"folder": Folder, "table": Table, "phantom": None},
    "operation": {"cutout": Cutout, "random_flip": None},
    "mixing": {"mix_up": Alpha, "cut_mix": None},
    "adaptation": {"source_only": None, "adabn": None, "coral": Alpha},
    "validator": {
        "information_maximization": None, "snd": Alpha, "class_ami": Alpha, "proven_information": None,
    },
    "backbone": {"mobilenet_v2": Alpha, "small_cnn": None},
    "format": {"saved_model": None, "onnx": None, "litert": None},
}  # fmt: skip

GOOD = """\
format: 1
seed: 7
data:
  reader: {name: folder, path: flowers}
backbone: {name: mobilenet_v2, weights: imagenet, alpha: 0.35}
phases:
  - {name: head, epochs: 2, learning_rate: 1e-3, trainable: none}
"""


def options_of(kind: str, name: str) -> type[Any] | None:
    return OPTIONS[kind][name]


def names_of(kind: str) -> list[str]:
    return sorted(OPTIONS[kind])


def checked(text: str, *sets: str, name: str = "flowers.yaml") -> Recipe:
    return check(text, name=name, options_of=options_of, names_of=names_of, sets=sets)
