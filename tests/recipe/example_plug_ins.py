"""Plug-ins for tests of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen

from kerastl.options import StrictModel
from kerastl.recipe import Operation, Recipe, check


class Columns(StrictModel):
    label: str = "label"
    group: str | None = None


class Folder(StrictModel):
    path: Path
    labelled: bool = True
    pattern: Annotated[str, MinLen(1)] | None = None


class Table(StrictModel):
    path: Path
    columns: Columns = Columns()
    domains: tuple[str, ...] | None = None


class Cutout(StrictModel):
    area: Annotated[float, Ge(0), Le(1)] = 0.25
    range_deg: tuple[float, float] = (0.0, 90.0)
    direction: Literal["horizontal", "vertical", "both"] = "both"


class Alpha(StrictModel):
    alpha: Annotated[float, Ge(0.1), Le(2)] = 1.0


class Holder(StrictModel):
    operations: Annotated[tuple[Operation, ...], MinLen(1)]
    share: float = 0.5


OPTIONS: dict[str, dict[str, type[Any] | None]] = {
    "reader": {"folder": Folder, "table": Table, "phantom": None},
    "operation": {"cutout": Cutout, "holder": Holder, "random_flip": None},
    "mixing": {"mix_up": Alpha, "cut_mix": None},
    "adaptation": {"source_only": None, "adabn": None, "coral": Alpha},
    "validator": {
        "information_maximization": None, "snd": Alpha, "class_ami": Alpha, "bounded_information": None,
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


def has(kind: str, name: str) -> bool:
    return name in OPTIONS[kind]


def names_of(kind: str) -> list[str]:
    return sorted(OPTIONS[kind])


def checked(text: str, *sets: str, name: str = "flowers.yaml") -> Recipe:
    return check(text, name=name, sets=sets)
