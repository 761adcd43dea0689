"""Generation of phantom hospitals: a folder with images, masks and a table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerastl.console import track
from kerastl.data.phantom import anatomy
from kerastl.data.phantom.anatomy import Grid, Image, Nodule, Rod, cut_rods, draw_nodule, paint, paint_nodule
from kerastl.data.phantom.scanner import HOSPITALS, scan
from kerastl.data.readers.phantom import Options
from kerastl.errors import Problems, RequestError
from kerastl.runs import is_new_or_empty, name_file_in_errors, write_csv

HEADER = (
    "path", "label", "patient_id", "site", "mask", "box_top_px", "box_left_px", "box_height_px", "box_width_px"
)  # fmt: skip
Row = tuple[str | int, ...]


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
    """Write a phantom hospital to a folder. The same arguments give the same bytes for any number of workers.

    The folder contains `images/<patient>_<slice>.png` (16-bit grayscale, stored value = Hounsfield units +
    1024, 0 to 4095), `masks/<patient>_<slice>.png` (8-bit, 255 inside the nodule) and `labels.csv` with the
    columns path, label (benign or malignant), patient_id, site, mask and the box of the nodule (box_top_px,
    box_left_px, box_height_px, box_width_px, counted from 0). Every patient has one nodule, which is visible
    in every slice.

    Args:
        out: Folder to create. It may exist if it is empty.
        hospital: `a`, `b` or `c`.
        patients: Number of patients, 2 to 10,000.
        seed: Seed, 0 to 2**32 - 1.
        slices_per_patient: Number of slices through the nodule, 1 to 32.
        image_size_px: Side length of the images, 32 to 256.
        region: `lung`, or `head` for a lesion in the brain.
        workers: Number of threads. Two by default.

    Returns:
        `out`.

    Raises:
        Problems: Arguments are invalid.
        RequestError: `out` is a file or is not empty.
        OSError: The disk is full or `out` is not writable. No partial files remain.
    """
    try:
        options = Options(
            hospital=hospital, patients=patients, seed=seed, slices_per_patient=slices_per_patient,
            image_size_px=image_size_px, region=region,
        )  # fmt: skip
    except Problems as error:
        raise Problems("The phantom hospital", error.problems) from None
    if not is_new_or_empty(out):
        reason = "is not empty" if out.is_dir() else "is a file"
        raise RequestError(f"{out} {reason}. Nothing was written. Choose a new folder.")

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", ignore_cleanup_errors=True)
    with name_file_in_errors(out), partial as part:
        _write_files(Path(part), options, seed, workers or 2)
        Path(part).chmod(0o755)
        return Path(part).replace(out)


def _write_files(out: Path, options: Options, seed: int, workers: int) -> None:
    """Draw all patients in parallel and write their images, masks and table."""
    hospital = options.hospital
    classes = assign_classes(hospital, patients=options.patients, seed=seed)

    def draw(number: int, malignant: bool) -> list[Slice]:
        return draw_patient(options, patient=number, malignant=malignant, seed=seed)

    for folder in ("images", "masks"):
        (out / folder).mkdir()
    rows: list[Row] = []
    with ThreadPoolExecutor(workers) as pool:
        drawn = pool.map(draw, range(1, options.patients + 1), classes)
        tracked = track(drawn, f"generating hospital {hospital}", options.patients)
        for number, (malignant, slices) in enumerate(zip(classes, tracked, strict=True), start=1):
            label = "malignant" if malignant else "benign"
            rows += _write_slices(out, hospital, f"{hospital}{number:04d}", label, slices)
    write_csv(out / "labels.csv", HEADER, rows)


def _write_slices(
    out: Path, hospital: str, patient_id: str, label: str, slices: Sequence[Slice]
) -> Iterator[Row]:
    """Write the images and masks of a patient, and yield the rows of the table."""
    from PIL import Image

    for index, patient_slice in enumerate(slices, start=1):
        image, mask = (f"{folder}/{patient_id}_{index:02d}.png" for folder in ("images", "masks"))
        Image.fromarray(patient_slice.stored).save(out / image)
        Image.fromarray(patient_slice.mask.astype("uint8") * 255).save(out / mask)
        yield image, label, patient_id, hospital, mask, *patient_slice.box()


VERSION = 5
"""Increase it when the images change, so that cached images are generated again."""
STORED_OFFSET_HU = 1024
STORED_MAX = 4095
OVERSAMPLING = 1.5
"""Number of pixels of the anatomy per pixel of the image, along a side."""
CLEAR_RADII, STRAND_DEPTH_MM = 1.8, 4.0
"""Minimum distance of scattered strands from the center of the nodule, in radii, and minimum depth in the tissue."""
MAX_BREATHING_SHIFT_MM = 8.0
"""Maximum shift of a slice by breathing."""


@dataclass(frozen=True)
class Region:
    """Geometry of a body region.

    Args:
        width_mm: Width of the anatomy, which fits into the inscribed circle.
        radius_mm: Minimum and maximum radius of a nodule.
        nodule_hu: Minimum and maximum density of a nodule.
        reach_mm: Maximum distance of a nodule from the center row, so that it is in the view of every
            scanner.
        center_mm: Distance of the center of the view from the center of the anatomy, on the side of the
            nodule.
    """

    width_mm: float
    radius_mm: tuple[float, float]
    nodule_hu: tuple[float, float]
    reach_mm: float
    center_mm: float


REGIONS = {
    "lung": Region(anatomy.CHEST_WIDTH_MM, (11, 17), (20, 70), 69, anatomy.LUNG_MM),
    "head": Region(anatomy.HEAD_WIDTH_MM, (8, 13), (85, 115), 95, 0),
}


@dataclass(frozen=True)
class Slice:
    """A slice with the mask of its nodule.

    Args:
        stored: `[size, size]` uint16 Hounsfield units + 1024, clipped to 0 to 4095.
        mask: `[size, size]` bool, whether more than half of a pixel is nodule.
    """

    stored: NDArray[np.uint16]
    mask: NDArray[np.bool_]

    def box(self) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the mask in pixels."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        top, left = int(rows[0]), int(columns[0])
        return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


def assign_classes(hospital: str, *, patients: int, seed: int) -> list[bool]:
    """Return whether the nodule of each patient is malignant, with the prevalence of the hospital.

    There is at least one patient of each class.
    """
    num_malignant = min(max(round(HOSPITALS[hospital].prevalence * patients), 1), patients - 1)
    order = _generator(seed, hospital, 0).permutation(patients)
    return [bool(rank < num_malignant) for rank in order]


def draw_patient(options: Options, *, patient: int, malignant: bool, seed: int) -> list[Slice]:
    """Draw the slices of a patient, evenly spaced through the nodule. The same arguments give the same pixels.

    Args:
        options: Options of the hospital.
        patient: Number of the patient, from 1.
        malignant: Whether the nodule is malignant.
        seed: Seed of the hospital.
    """
    rng = _generator(seed, options.hospital, patient)
    geometry, num_slices = REGIONS[options.region], options.slices_per_patient
    grid = Grid(round(OVERSAMPLING * options.image_size_px), geometry.width_mm)
    scanner = HOSPITALS[options.hospital].scanner
    if options.region == "head":
        scanner = scanner.for_head()
    base, tissue, vessels = _draw_anatomy(rng, grid, options.region)
    nodule = _place_nodule(rng, grid, tissue, geometry, malignant)
    offsets = np.linspace(-0.6, 0.6, num_slices) if num_slices > 1 else np.zeros(1)
    images, bodies = [], []
    for offset in offsets + rng.uniform(-0.05, 0.05, num_slices):
        height_mm = float(offset) * nodule.radius_mm
        image = base.copy()
        paint(image, cut_rods(grid, vessels, height_mm) * tissue, anatomy.BLOOD_HU)
        body = paint_nodule(image, grid, nodule, height_mm)
        moved_px = rng.uniform(-MAX_BREATHING_SHIFT_MM, MAX_BREATHING_SHIFT_MM, 2) / grid.pixel_mm
        images.append(ndimage.shift(image, moved_px, order=1, cval=anatomy.AIR_HU))
        bodies.append(ndimage.shift(body, moved_px, order=1))
    center_mm = float(np.copysign(geometry.center_mm, nodule.column_mm))
    view = Grid(options.image_size_px, geometry.width_mm * scanner.zoom, center_mm)
    gains = _generator(0, options.hospital, 0).standard_normal(grid.size_px)
    scans = scan(images, scanner, width_mm=geometry.width_mm, view=view, gains=gains, rng=rng)
    return [
        Slice(_stored(image), _visible_mask(body, grid, view))
        for image, body in zip(scans, bodies, strict=True)
    ]


def _generator(seed: int, hospital: str, patient: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, ord(hospital), patient])


def _draw_anatomy(rng: np.random.Generator, grid: Grid, region: str) -> tuple[Image, Image, list[Rod]]:
    if region == "head":
        return *anatomy.draw_head(rng, grid), []
    return *anatomy.draw_chest(rng, grid), anatomy.draw_vessels(rng)


def _place_nodule(
    rng: np.random.Generator, grid: Grid, tissue: Image, geometry: Region, malignant: bool
) -> Nodule:
    """Draw the size, density and position independently of the class, then the shape."""
    radius_mm = float(rng.uniform(*geometry.radius_mm))
    depth = ndimage.distance_transform_edt(tissue > 0.5) * grid.pixel_mm
    depth *= np.abs(grid.rows_mm) <= geometry.reach_mm - radius_mm
    spots = np.flatnonzero(depth >= min(1.5 * radius_mm, 0.8 * float(depth.max())))
    row, column = np.unravel_index(int(rng.choice(spots)), depth.shape)
    row_mm, column_mm = float(grid.axis_mm[row]), float(grid.axis_mm[column])
    distance_mm = np.hypot(grid.rows_mm - row_mm, grid.columns_mm - column_mm)
    clear = (distance_mm > CLEAR_RADII * radius_mm) & (depth > STRAND_DEPTH_MM)
    clear &= grid.columns_mm * column_mm > 0
    return draw_nodule(
        rng,
        malignant=malignant,
        row_mm=row_mm,
        column_mm=column_mm,
        radius_mm=radius_mm,
        hu=float(rng.uniform(*geometry.nodule_hu)),
        tissue_mm=grid.axis_mm[np.argwhere(clear)].astype(np.float64),
    )


def _stored(image: Image) -> NDArray[np.uint16]:
    return np.clip(np.rint(image + STORED_OFFSET_HU), 0, STORED_MAX).astype(np.uint16)


def _visible_mask(body: Image, grid: Grid, view: Grid) -> NDArray[np.bool_]:
    """Return the pixels of the view that are more than half nodule."""
    rows, columns = (
        (positions_mm + grid.width_mm / 2) / grid.pixel_mm - 0.5
        for positions_mm in np.broadcast_arrays(view.rows_mm, view.columns_mm)
    )
    mask: NDArray[np.bool_] = ndimage.map_coordinates(body, [rows, columns], order=1) > 0.5
    return mask
