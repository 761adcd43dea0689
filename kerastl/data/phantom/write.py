"""Write a phantom hospital to a folder: pictures, masks and a table. Phantoms prove nothing clinical."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kerastl.console import track
from kerastl.errors import Problem, Problems, RequestError
from kerastl.runs import is_free, write_csv

HOSPITAL_NAMES = ("a", "b", "c")
REGION_NAMES = ("lung", "head")
MAX_PATIENTS, MAX_SLICES, MAX_SEED = 10_000, 32, 2**32 - 1
IMAGE_SIZES_PX = (32, 256)
HEADER = (
    "path",
    "label",
    "patient_id",
    "site",
    "mask",
    "box_top_px",
    "box_left_px",
    "box_height_px",
    "box_width_px",
)
Row = tuple[str | int, ...]


def check_numbers(
    *,
    hospital: str,
    patients: int,
    seed: int,
    slices_per_patient: int,
    image_size_px: int,
    region: str,
) -> list[str]:
    """Return what is wrong with a request, a line each; empty when it can be drawn."""
    ranges = (
        ("patients", patients, 2, MAX_PATIENTS),
        ("seed", seed, 0, MAX_SEED),
        ("slices_per_patient", slices_per_patient, 1, MAX_SLICES),
        ("image_size_px", image_size_px, *IMAGE_SIZES_PX),
    )
    wrong = [
        f"{name}: must be a whole number from {low} to {high}, got {value!r}."
        for name, value, low, high in ranges
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high
    ]
    choices = (("hospital", hospital, HOSPITAL_NAMES), ("region", region, REGION_NAMES))
    wrong += [
        f"{name}: must be one of {', '.join(known)}, got {value!r}."
        for name, value, known in choices
        if value not in known
    ]
    return wrong


def write_phantoms(
    out: Path,
    *,
    hospital: str,
    patients: int,
    seed: int,
    slices_per_patient: int = 5,
    image_size_px: int = 128,
    region: str = "lung",
    workers: int | None = None,
) -> Path:
    """Write a phantom hospital; the same arguments give the same bytes, whatever `workers` is.

    The folder holds `images/<patient>_<slice>.png` (16-bit grey, stored value = Hounsfield units + 1024, 0 to
    4095), `masks/<patient>_<slice>.png` (8-bit, 255 inside the nodule) and `labels.csv` with the columns path,
    label (benign or malignant), patient_id, site, mask and the box of the nodule (box_top_px, box_left_px,
    box_height_px, box_width_px; rows and columns count from 0). Every patient has one nodule, seen in every slice.

    Args:
        out: folder to make; it may exist when it is empty.
        hospital: a, b or c.
        patients: 2 to 10,000.
        seed: 0 to 2**32 - 1.
        slices_per_patient: 1 to 32, evenly spread through the nodule.
        image_size_px: side of the pictures, 32 to 256.
        region: lung, or head for a lesion in a brain.
        workers: threads; two by default.

    Returns:
        `out`.

    Raises:
        Problems: numbers that make no sense, all of them together.
        RequestError: `out` is a file or holds something.
        OSError: the disk is full or `out` cannot be written; nothing is left behind.
    """
    wrong = check_numbers(
        hospital=hospital, patients=patients, seed=seed, slices_per_patient=slices_per_patient,
        image_size_px=image_size_px, region=region,
    )  # fmt: skip
    if wrong:
        raise Problems("The phantom hospital", [Problem("", line) for line in wrong])
    _check_free(out)
    from kerastl.data.phantom.patients import classes

    numbered = list(enumerate(classes(hospital, patients=patients, seed=seed), start=1))
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        draw = partial(
            _write_patient, draft, hospital=hospital, seed=seed, num_slices=slices_per_patient,
            image_size_px=image_size_px, region=region,
        )  # fmt: skip
        rows = _draw_all(draft, draw, numbered, f"drawing hospital {hospital}", workers or 2)
        write_csv(draft / "labels.csv", HEADER, rows)
        draft.chmod(0o755)
        _put_in_place(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return out


def _draw_all(
    draft: Path,
    draw: Callable[..., Sequence[Row]],
    numbered: Sequence[tuple[int, bool]],
    description: str,
    workers: int,
) -> list[Row]:
    """Draw every patient into a folder, with progress; return the rows of the table in their order."""
    for folder in ("images", "masks"):
        (draft / folder).mkdir()
    with ThreadPoolExecutor(workers) as pool:
        drawn = pool.map(lambda job: draw(*job), numbered)
        watched = track(drawn, description, total=len(numbered))
        return [row for patient_rows in watched for row in patient_rows]


def _check_free(out: Path) -> None:
    if not is_free(out):
        what = "is not empty" if out.is_dir() else "is a file"
        raise RequestError(f"{out} {what}. Nothing was written. Name a new folder.")


def _put_in_place(draft: Path, out: Path) -> None:
    if out.exists():
        out.rmdir()
    os.rename(draft, out)  # noqa: PTH104


def _write_patient(
    draft: Path,
    number: int,
    malignant: bool,
    *,
    hospital: str,
    seed: int,
    num_slices: int,
    image_size_px: int,
    region: str,
) -> list[Row]:
    from PIL import Image

    from kerastl.data.phantom.patients import draw_patient

    patient_id = f"{hospital}{number:04d}"
    slices = draw_patient(
        hospital,
        patient=number,
        malignant=malignant,
        seed=seed,
        num_slices=num_slices,
        image_size_px=image_size_px,
        region=region,
    )
    rows: list[Row] = []
    for index, one in enumerate(slices, start=1):
        picture, mask = (f"{kind}/{patient_id}_{index:02d}.png" for kind in ("images", "masks"))
        Image.fromarray(one.stored).save(draft / picture)
        Image.fromarray(one.mask.astype("uint8") * 255).save(draft / mask)
        label = "malignant" if malignant else "benign"
        rows.append((picture, label, patient_id, hospital, mask, *one.box()))
    return rows
