"""Reader `phantom`: a phantom hospital, drawn once and kept in the cache. Phantoms prove nothing clinical."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from kerastl.data.records import Collection, Record
from kerastl.options import StrictModel

NOTE = "Phantom images, made by simulation: nothing measured on them says anything about patients."


class Options(StrictModel):
    """Which phantom hospital.

    Args:
        hospital: a (standard scanner), b (another scanner: a strong shift) or c (the scanner of a, but fewer
            malignant nodules).
        patients: how many; each has one nodule.
        seed: of the patients; the recipe's seed when left out.
        slices_per_patient: images of each patient.
        image_size_px: side of the images as drawn.
        region: lung, or head for a lesion in a brain.
    """

    hospital: Literal["a", "b", "c"] = "a"
    patients: Annotated[int, Ge(2), Le(10_000)] = 80
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] | None = None
    slices_per_patient: Annotated[int, Ge(1), Le(32)] = 5
    image_size_px: Annotated[int, Ge(32), Le(256)] = 128
    region: Literal["lung", "head"] = "lung"


def read(options: Options, *, seed: int, cache_dir: Path) -> Collection:
    """Return a phantom hospital as records: group is the patient, domain the hospital.

    Args:
        options: which hospital.
        seed: used when the options name none.
        cache_dir: the images are drawn once into `cache_dir/phantom/<key>`.

    Raises:
        Problems: numbers that make no sense.
        RequestError: the cache cannot be written.
    """
    from kerastl.data.cache import cache_not_writable, entry_lock, mark_in_use
    from kerastl.data.phantom.generate import VERSION, write_phantoms
    from kerastl.runs import read_csv

    wanted = options.model_dump() | {"seed": seed if options.seed is None else options.seed}
    text = json.dumps(wanted | {"version": VERSION}, sort_keys=True)
    folder = cache_dir / "phantom" / hashlib.sha256(text.encode()).hexdigest()[:24]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with entry_lock(folder):
            if not (folder / "labels.csv").is_file():
                write_phantoms(folder, **wanted)
            mark_in_use(folder)
    except OSError as error:
        # A cache that can only be read serves what is in it.
        if not (folder / "labels.csv").is_file():
            raise cache_not_writable(cache_dir, error) from error
    root = folder.resolve()
    records = tuple(
        Record(
            path=row["path"],
            file=root / row["path"],
            label=row["label"],
            group=row["patient_id"],
            domain=row["site"],
        )
        for row in read_csv(root / "labels.csv")
    )
    return Collection(root, ("benign", "malignant"), records, (NOTE,))
