"""Write a phantom hospital to a folder: images, masks and a table. Phantoms prove nothing clinical."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerastl.console import track
from kerastl.data.phantom import anatomy
from kerastl.data.phantom.anatomy import Grid, Image, Nodule, Rod, cut_rods, draw_nodule, paint, paint_nodule
from kerastl.data.phantom.scanner import HOSPITALS, scan
from kerastl.errors import Problem, Problems, RequestError
from kerastl.runs import is_new_or_empty, write_csv

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
    *, hospital: str, patients: int, seed: int, slices_per_patient: int, image_size_px: int, region: str
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
        image_size_px: side of the images, 32 to 256.
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
    if not is_new_or_empty(out):
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
        image, mask = (f"{kind}/{patient_id}_{index:02d}.png" for kind in ("images", "masks"))
        Image.fromarray(one.stored).save(draft / image)
        Image.fromarray(one.mask.astype("uint8") * 255).save(draft / mask)
        label = "malignant" if malignant else "benign"
        rows.append((image, label, patient_id, hospital, mask, *one.box()))
    return rows


VERSION = 5
"""Raise it whenever the images change, so that cached ones are made again."""
STORED_OFFSET_HU = 1024
STORED_MAX = 4095
FINER = 1.5
"""The anatomy has this many times the image's pixels along a side."""
CLEAR_RADII, STRAND_DEPTH_MM = 1.8, 4.0
"""Scattered strands lie this far from a nodule's middle, in its radii, and this deep in the tissue around it."""
BREATH_MM = 8.0
"""How far a patient may lie elsewhere from slice to slice: each is taken in a breath of its own."""


@dataclass(frozen=True)
class Region:
    """What is scanned.

    Args:
        width_mm: width of the anatomy, which fits into the circle inside of it.
        radius_mm: shortest and longest radius of a nodule.
        nodule_hu: lowest and highest density of a nodule.
        reach_mm: how far above or below the middle a nodule may reach and stay in every hospital's view.
        centre_mm: how far from the middle, on the nodule's side, the scanner is aimed.
    """

    width_mm: float
    radius_mm: tuple[float, float]
    nodule_hu: tuple[float, float]
    reach_mm: float
    centre_mm: float


REGIONS = {
    "lung": Region(anatomy.CHEST_WIDTH_MM, (11, 17), (20, 70), 69, anatomy.LUNG_MM),
    "head": Region(anatomy.HEAD_WIDTH_MM, (8, 13), (85, 115), 95, 0),
}


@dataclass(frozen=True)
class Slice:
    """One image with its truth.

    Args:
        stored: `[size, size]` uint16, Hounsfield units + 1024, clipped to 0 to 4095.
        mask: `[size, size]` bool, where more than half of a pixel is nodule.
    """

    stored: NDArray[np.uint16]
    mask: NDArray[np.bool_]

    def box(self) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the mask in pixels."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        top, left = int(rows[0]), int(columns[0])
        return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


def classes(hospital: str, *, patients: int, seed: int) -> list[bool]:
    """Return for each patient whether the nodule is malignant.

    The hospital's prevalence is met to the nearest patient, with at least one patient of each class.
    """
    wanted = round(HOSPITALS[hospital].prevalence * patients)
    num_malignant = min(max(wanted, 1), patients - 1)
    order = _generator(seed, hospital, 0).permutation(patients)
    return [bool(place < num_malignant) for place in order]


def draw_patient(
    hospital: str,
    *,
    patient: int,
    malignant: bool,
    seed: int,
    num_slices: int,
    image_size_px: int,
    region: str,
) -> list[Slice]:
    """Draw the slices of one patient; the same arguments give the same pixels.

    Args:
        hospital: a, b or c.
        patient: number from 1.
        malignant: class of the nodule.
        seed: of the whole set.
        num_slices: evenly spread through the nodule.
        image_size_px: side of the images.
        region: lung or head.
    """
    rng = _generator(seed, hospital, patient)
    where = REGIONS[region]
    grid = Grid(round(FINER * image_size_px), where.width_mm)
    scanner = HOSPITALS[hospital].scanner
    if region == "head":
        scanner = scanner.for_head()
    base, tissue, vessels = _draw_anatomy(rng, grid, region)
    nodule = _place_nodule(rng, grid, tissue, where, malignant)
    offsets = np.linspace(-0.6, 0.6, num_slices) if num_slices > 1 else np.zeros(1)
    images, bodies = [], []
    for offset in offsets + rng.uniform(-0.05, 0.05, num_slices):
        height_mm = float(offset) * nodule.radius_mm
        image = base.copy()
        paint(image, cut_rods(grid, vessels, height_mm) * tissue, anatomy.BLOOD_HU)
        body = paint_nodule(image, grid, nodule, height_mm)
        moved_px = rng.uniform(-BREATH_MM, BREATH_MM, 2) / grid.pixel_mm
        images.append(ndimage.shift(image, moved_px, order=1, cval=anatomy.AIR_HU))
        bodies.append(ndimage.shift(body, moved_px, order=1))
    centre_mm = float(np.copysign(where.centre_mm, nodule.column_mm))
    view = scanner.view(image_size_px, width_mm=where.width_mm, centre_column_mm=centre_mm)
    gains = _generator(0, hospital, 0).standard_normal(grid.size_px)
    scans = scan(images, scanner, width_mm=where.width_mm, view=view, gains=gains, rng=rng)
    return [Slice(_stored(image), _seen(body, grid, view)) for image, body in zip(scans, bodies, strict=True)]


def _generator(seed: int, hospital: str, patient: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, ord(hospital), patient])


def _draw_anatomy(rng: np.random.Generator, grid: Grid, region: str) -> tuple[Image, Image, list[Rod]]:
    if region == "head":
        return *anatomy.draw_head(rng, grid), []
    return *anatomy.draw_chest(rng, grid), anatomy.draw_vessels(rng)


def _place_nodule(
    rng: np.random.Generator, grid: Grid, tissue: Image, where: Region, malignant: bool
) -> Nodule:
    """Draw size, density and place, all blind to the class, then the shape."""
    radius_mm = float(rng.uniform(*where.radius_mm))
    depth = ndimage.distance_transform_edt(tissue > 0.5) * grid.pixel_mm
    depth *= np.abs(grid.rows_mm) <= where.reach_mm - radius_mm
    spots = np.flatnonzero(depth >= min(1.5 * radius_mm, 0.8 * float(depth.max())))
    row, column = np.unravel_index(int(rng.choice(spots)), depth.shape)
    row_mm, column_mm = float(grid.axis_mm[row]), float(grid.axis_mm[column])
    away = np.hypot(grid.rows_mm - row_mm, grid.columns_mm - column_mm)
    clear = (away > CLEAR_RADII * radius_mm) & (depth > STRAND_DEPTH_MM)
    clear &= grid.columns_mm * column_mm > 0
    return draw_nodule(
        rng,
        malignant=malignant,
        row_mm=row_mm,
        column_mm=column_mm,
        radius_mm=radius_mm,
        hu=float(rng.uniform(*where.nodule_hu)),
        elsewhere_mm=grid.axis_mm[np.argwhere(clear)].astype(np.float64),
    )


def _stored(image: Image) -> NDArray[np.uint16]:
    return np.clip(np.rint(image + STORED_OFFSET_HU), 0, STORED_MAX).astype(np.uint16)


def _seen(body: Image, grid: Grid, view: Grid) -> NDArray[np.bool_]:
    """Return the pixels of the scanner's view that are more than half nodule."""
    rows, columns = (
        (places + grid.width_mm / 2) / grid.pixel_mm - 0.5
        for places in np.broadcast_arrays(view.rows_mm, view.columns_mm)
    )
    seen: NDArray[np.bool_] = ndimage.map_coordinates(body, [rows, columns], order=1) > 0.5
    return seen
