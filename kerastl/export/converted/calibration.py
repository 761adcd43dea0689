"""The pictures that tell an 8-bit model how large its activations get: some that the run learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from natsort import natsorted

from kerastl.errors import RequestError
from kerastl.evaluation.predictions import picture_under
from kerastl.evaluation.trained_model import Trained
from kerastl.export.converted.pixels import pixels_of
from kerastl.runs import read_csv

SPLITS = ("train", "target_train")
SPLIT_TABLE = "split.csv"
MOST_PICTURES = 100
"""The converter's own documentation asks for a hundred or so; more move the ranges little and cost seconds."""

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """Training pictures of a run.

    Args:
        pictures: `[n, size, size, 3]` float32 in [0, 255].
        told: how many, of all and of each class; nothing that leads back to one.
    """

    pictures: npt.NDArray[np.float32]
    told: dict[str, Any]


def calibration_of(trained: Trained, most: int = MOST_PICTURES) -> Calibration:
    """Return training pictures of the run, spread over domains and classes, and evenly within each.

    Raises:
        RequestError: no training picture of the run can be opened.
    """
    labels, pictures = [], []
    for label, image in islice(_readable(trained), most):
        labels.append(label)
        pictures.append(image)
    if not pictures:
        raise RequestError(
            f"int8 needs training pictures of the run to be calibrated on, and none that {SPLIT_TABLE} names can be "
            "opened. Put them back where they were, or: --quantize float16"
        )
    counts = Counter(label or "not labelled" for label in labels)
    told = {"pictures": len(pictures), "classes": dict(sorted(counts.items()))}
    return Calibration(np.stack(pictures), told)


def _readable(trained: Trained) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for label, file in _in_turn(_files(trained)):
        for image in pixels_of([file], trained):
            yield label, image


def _files(trained: Trained) -> dict[tuple[str, str], list[Path]]:
    """Return the files of training pictures by split and label."""
    table = trained.folder / SPLIT_TABLE if trained.folder is not None else None
    found: dict[tuple[str, str], list[Path]] = {}
    for row in read_csv(table) if table is not None and table.is_file() else []:
        if row.get("split") not in SPLITS:
            continue
        file = picture_under(trained.root_of(row["split"]), row["path"])
        if file is not None:
            found.setdefault((row["split"], row["label"]), []).append(file)
    return found


def _in_turn(files: dict[tuple[str, str], list[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield one file of each kind in turn; the first ones of a kind are from all over its natural order."""
    kinds = [
        [(label, file) for file in _spread(natsorted(files[split, label]))]
        for split, label in sorted(files)
    ]
    turns: Iterable[tuple[tuple[str, Path] | None, ...]] = zip_longest(*kinds)
    return (one for turn in turns for one in turn if one is not None)


def _spread(files: list[Path]) -> list[Path]:
    """Return files in another order, of which any beginning is spread evenly over theirs."""
    places = sorted(range(len(files)), key=lambda place: place * GOLDEN % 1)
    return [files[place] for place in places]
