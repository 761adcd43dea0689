"""Reader `phantom`: a simulated phantom hospital, generated once and cached."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from kerastl.data.records import Collection, Record
from kerastl.options import StrictModel

NOTE = "The images are simulated phantoms. Results on them have no clinical meaning."


class Options(StrictModel):
    """Options of the reader `phantom`.

    Args:
        hospital: `a` (standard scanner), `b` (a different scanner: a strong shift) or `c` (the scanner of
            `a`, fewer malignant nodules).
        patients: Number of patients, each with one nodule.
        seed: Seed of the patients. By default, the seed of the recipe.
        slices_per_patient: Number of images per patient.
        image_size_px: Side length of the generated images.
        region: `lung`, or `head` for a lesion in the brain.
    """

    hospital: Literal["a", "b", "c"] = "a"
    patients: Annotated[int, Ge(2), Le(10_000)] = 80
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] | None = None
    slices_per_patient: Annotated[int, Ge(1), Le(32)] = 5
    image_size_px: Annotated[int, Ge(32), Le(256)] = 128
    region: Literal["lung", "head"] = "lung"


def read(options: Options, *, seed: int, cache_dir: Path) -> Collection:
    """Read a phantom hospital. The group of a record is the patient, its domain the hospital.

    Args:
        options: Options of the reader.
        seed: Seed if the options have none.
        cache_dir: Images are generated once in `cache_dir/phantom/<key>`.

    Raises:
        RequestError: The cache is not writable.
    """
    from kerastl.data.cache import fill_entry
    from kerastl.data.phantom.generate import VERSION, write_phantoms
    from kerastl.runs import read_csv

    wanted = options.model_dump() | {"seed": seed if options.seed is None else options.seed}
    text = json.dumps(wanted | {"version": VERSION}, sort_keys=True)
    folder = cache_dir / "phantom" / hashlib.sha256(text.encode()).hexdigest()[:24]
    fill_entry(
        folder, is_complete=(folder / "labels.csv").is_file, write=lambda: write_phantoms(folder, **wanted)
    )
    root = folder.resolve()
    records = tuple(
        Record(row["path"], root / row["path"], row["label"], group=row["patient_id"], domain=row["site"])
        for row in read_csv(root / "labels.csv")
    )
    return Collection(root, ("benign", "malignant"), records, (NOTE,))
