"""Anatomy of phantoms: slices through a chest or a head, and nodules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """A square grid of pixels.

    Args:
        size_px: Number of pixels along a side.
        width_mm: Length of a side.
        center_column_mm: Distance of the center of the grid to the right of the center of the scanner.
    """

    size_px: int
    width_mm: float
    center_column_mm: float = 0.0

    @property
    def pixel_mm(self) -> float:
        """Side length of a pixel."""
        return self.width_mm / self.size_px

    @cached_property
    def axis_mm(self) -> Image:
        """`[size]` float32 pixel centers along a side, 0 in the center."""
        positions = (np.arange(self.size_px) + 0.5) * self.pixel_mm - self.width_mm / 2
        return positions.astype(np.float32)

    @cached_property
    def rows_mm(self) -> Image:
        """`[size, 1]` float32 row positions, increasing toward the patient's back."""
        return self.axis_mm[:, None]

    @cached_property
    def columns_mm(self) -> Image:
        """`[1, size]` float32 column positions, increasing to the right of the image."""
        return self.axis_mm[None, :] + np.float32(self.center_column_mm)

    def coverage(self, distance_mm: Image) -> Image:
        """Return the coverage of each pixel by a shape, 0 to 1, from the signed distance, which is negative inside."""
        return np.clip(np.float32(0.5) - distance_mm / np.float32(self.pixel_mm), 0, 1)

    def window(
        self, row_mm: float, column_mm: float, half_height_mm: float, half_width_mm: float
    ) -> tuple[slice, slice]:
        """Return the rows and columns of the pixels in a rectangle around a position."""
        rows = np.searchsorted(self.rows_mm[:, 0], (row_mm - half_height_mm, row_mm + half_height_mm))
        columns = np.searchsorted(self.columns_mm[0], (column_mm - half_width_mm, column_mm + half_width_mm))
        return slice(*rows), slice(*columns)


def ellipse_distance_mm(
    grid: Grid,
    row_mm: float,
    column_mm: float,
    height_mm: float,
    width_mm: float,
    turn_rad: float = 0.0,
    exponent: float = 2.0,
    reach_mm: float = 0.0,
) -> Image:
    """Return the signed distance of each pixel to the edge of a superellipse, as a first-order approximation.

    Args:
        grid: The pixels.
        row_mm, column_mm: Position of the center.
        height_mm, width_mm: Semi-axes.
        turn_rad: Clockwise rotation.
        exponent: 2 for an ellipse. Larger values are closer to a rectangle.
        reach_mm: Distances up to one pixel more than this are computed. Larger ones may be infinite.

    Returns:
        `[size, size]` float32, negative inside.
    """
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    # The approximate distance is at least (level - 1) / hypot(1 / height, 1 / width), and a semi-axis is at most `level` long.
    level = 1 + (reach_mm + grid.pixel_mm) * float(np.hypot(1 / height_mm, 1 / width_mm))
    tall, wide = level * height_mm, level * width_mm
    window = grid.window(
        row_mm, column_mm, tall * abs(cos) + wide * abs(sin), tall * abs(sin) + wide * abs(cos)
    )
    distance = np.full((grid.size_px, grid.size_px), np.inf, np.float32)
    down, right = grid.rows_mm[window[0]] - row_mm, grid.columns_mm[:, window[1]] - column_mm
    tall = np.abs(down * cos - right * sin) / height_mm
    wide = np.abs(down * sin + right * cos) / width_mm
    level = (tall**exponent + wide**exponent) ** (1 / exponent) + np.float32(1e-6)
    steep = np.hypot(
        (tall / level) ** (exponent - 1) / height_mm, (wide / level) ** (exponent - 1) / width_mm
    )
    distance[window] = (level - 1) / (steep + np.float32(1e-6))
    return distance


EllipseDistance = Callable[..., Image]
"""Function of (row, column, height, width in mm; turn_rad, exponent) that applies a patient's position and scale and
returns `ellipse_distance_mm`."""


@dataclass(frozen=True)
class Rod:
    """A straight tapered rod in space, e.g. a segment of a vessel or a spicule.

    Args:
        start_mm, end_mm: `[3]` float64 (row, column, height along the patient) of the ends.
        start_radius_mm, end_radius_mm: Radius at each end.
    """

    start_mm: Vector
    end_mm: Vector
    start_radius_mm: float
    end_radius_mm: float


def paint(image: Image, coverage: Image, value: float | Image) -> None:
    """Blend a value (a scalar or one per pixel, in Hounsfield units) into an image in place, weighted by coverage."""
    image += coverage * (value - image)


def cut_rods(grid: Grid, rods: Sequence[Rod], height_mm: float) -> Image:
    """Return the coverage of each pixel by rods in the plane at a height: `[size, size]` float32, 0 to 1."""
    coverage = np.zeros((grid.size_px, grid.size_px), np.float32)
    radii = np.array([(rod.start_radius_mm, rod.end_radius_mm) for rod in rods]).reshape(-1, 2)
    ends = np.array([(rod.start_mm, rod.end_mm) for rod in rods]).reshape(-1, 2, 3)
    reach = (radii.max(axis=1) + grid.pixel_mm)[:, None]
    low, high = ends.min(axis=1) - reach, ends.max(axis=1) + reach
    is_cut = (low[:, 2] < height_mm) & (height_mm < high[:, 2])
    first, last = (np.searchsorted(grid.axis_mm, bounds[is_cut, :2]) for bounds in (low, high))
    rod, row, column = _window_pixels(first, last)
    part = _rod_coverage(grid, ends[is_cut], radii[is_cut], height_mm, rod, row, column)
    np.maximum.at(coverage, (row, column), part)
    return coverage


def _window_pixels(
    first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the index of the window, the row and the column of each pixel of windows `[n, 2]` to `[n, 2]`."""
    height, width = (last - first).T
    window = np.repeat(np.arange(len(first)), height * width)
    pixel = np.arange(len(window)) - np.repeat(np.cumsum(height * width) - height * width, height * width)
    down, right = np.divmod(pixel, width[window])
    return window, first[window, 0] + down, first[window, 1] + right


def _rod_coverage(
    grid: Grid,
    ends_mm: Vector,
    radii_mm: Vector,
    height_mm: float,
    rod: NDArray[np.int64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
) -> Image:
    """Return the coverage of pixels by one rod each, `[num_pixels]` float32, from `[n, 2, 3]` ends and `[n, 2]` radii."""
    start = ends_mm[:, 0]
    along, up = ends_mm[:, 1] - start, height_mm - start[:, 2]
    square = np.array([max(vector @ vector, 1e-9) for vector in along])
    down, right = grid.axis_mm[row] - start[rod, 0], grid.axis_mm[column] - start[rod, 1]
    along_row, along_column, along_up = along.T[:, rod]
    share = (down * along_row + right * along_column + (up * along[:, 2])[rod]) / square[rod]
    share = np.clip(share, 0, 1)
    away = np.sqrt(
        (down - share * along_row) ** 2
        + (right - share * along_column) ** 2
        + (up[rod] - share * along_up) ** 2
    )
    radius = radii_mm[rod, 0] + share * (radii_mm[:, 1] - radii_mm[:, 0])[rod]
    thin = np.minimum(1, 2 * radius / grid.pixel_mm)
    return (grid.coverage(away - radius) * thin).astype(np.float32)


CHEST_WIDTH_MM = 340.0
LUNG_MM = 66.0
"""Distance of the center of a lung from the center of the chest. The view is centered on a lung."""
AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU = -1000.0, -100.0, 50.0, 45.0


def smooth_noise(rng: np.random.Generator, grid: Grid, blur_mm: float) -> Image:
    """Return a random texture `[n, n]` float32 of mean 0 and standard deviation 1, with grains of about `blur_mm`."""
    rough = rng.standard_normal((grid.size_px, grid.size_px), dtype=np.float32)
    smooth = ndimage.gaussian_filter(rough, blur_mm / grid.pixel_mm, mode="wrap")
    texture: Image = (smooth - smooth.mean()) / smooth.std()
    return texture


def draw_chest(rng: np.random.Generator, grid: Grid) -> tuple[Image, Image]:
    """Draw the anatomy that all slices of a patient share.

    Returns:
        The slice `[n, n]` float32 in Hounsfield units without vessels, and the coverage of the lungs, 0 to 1.
    """
    scale = rng.uniform(0.85, 0.93)
    center_row, center_column = rng.uniform(-6, 6), rng.uniform(-6, 6)
    fat_mm = rng.uniform(8, 16)

    def ellipse(
        row: float, column: float, height: float, width: float, *, margin_mm: float = 0.0, **more: float
    ) -> Image:
        row_mm, column_mm = center_row + row * scale, center_column + column * scale
        height_mm, width_mm = height * scale + margin_mm, width * scale + margin_mm
        return ellipse_distance_mm(grid, row_mm, column_mm, height_mm, width_mm, **more)

    image = np.full((grid.size_px, grid.size_px), AIR_HU, np.float32)
    paint(image, grid.coverage(ellipse(0, 0, 108, 152, margin_mm=fat_mm, exponent=2.4)), FAT_HU)
    wall = ellipse(0, 0, 108, 152, exponent=2.4)
    paint(image, grid.coverage(wall), MUSCLE_HU + 8 * smooth_noise(rng, grid, 4))
    lungs = _draw_lungs(rng, grid, ellipse)
    dependent = np.float32(0.35) * grid.rows_mm
    air = rng.uniform(-880, -830) + dependent + 14 * smooth_noise(rng, grid, 3)
    air = air + _draw_haze(rng, grid)
    paint(image, lungs, air.astype(np.float32))
    _paint_bones(image, rng, grid, ellipse)
    return image, lungs


def _draw_haze(rng: np.random.Generator, grid: Grid) -> Image:
    """Draw hazy dense patches, independently of the class.

    Without them, the number of pixels between lung and soft tissue densities would reveal spiculated nodules.
    """
    patches = np.clip(smooth_noise(rng, grid, 25) - rng.uniform(-0.5, 1.5), 0, None)
    haze: Image = np.minimum(rng.uniform(0, 90) * patches, 250).astype(np.float32)
    return haze


def _draw_lungs(rng: np.random.Generator, grid: Grid, ellipse: EllipseDistance) -> Image:
    tilt = rng.uniform(0.05, 0.16)
    right = ellipse(2, -76, rng.uniform(86, 93), 63, turn_rad=tilt, exponent=2.3)
    left = ellipse(2, 78, rng.uniform(84, 91), 60, turn_rad=-tilt, exponent=2.3)
    lungs = np.maximum(grid.coverage(right), grid.coverage(left))
    heart = ellipse(-28, rng.uniform(18, 32), rng.uniform(36, 46), rng.uniform(50, 60), turn_rad=0.5)
    aorta = ellipse(52, 22, 13, 13)
    for organ in (heart, aorta):
        lungs = lungs * (1 - grid.coverage(organ))
    return lungs


def _paint_bones(image: Image, rng: np.random.Generator, grid: Grid, ellipse: EllipseDistance) -> None:
    spongy, hard = rng.uniform(150, 250), rng.uniform(500, 800)
    for distance, inner in ((ellipse(72, 0, 19, 22), 3.0), (ellipse(-96, 0, 6, 18), 2.5)):
        paint(image, grid.coverage(distance), hard)
        paint(image, grid.coverage(distance + np.float32(inner)), spongy)
    arch, spine, canal = ellipse(98, 0, 13, 15), ellipse(114, 0, 10, 4), ellipse(98, 0, 8, 9)
    for distance, hu in ((arch, hard), (spine, hard), (canal, 20.0)):
        paint(image, grid.coverage(distance), hu)
    shift = rng.uniform(-0.15, 0.15)
    for side in (-1, 1):
        for index in range(7):
            angle = -1.15 + index * 0.4 + shift + rng.uniform(-0.06, 0.06)
            # The lungs extend to about 100 by 142 mm, and the ribs are in the wall around them.
            row, column = 99 * np.sin(angle), side * 143 * np.cos(angle)
            along = np.arctan2(99 * np.cos(angle), -side * 143 * np.sin(angle))
            distance = ellipse(row, column, 4.5, rng.uniform(9, 19), turn_rad=float(along))
            paint(image, grid.coverage(distance), hard)
            paint(image, grid.coverage(distance + np.float32(2.4)), spongy)


def draw_vessels(rng: np.random.Generator) -> list[Rod]:
    """Grow trees of vessels from the root of each lung. Vessels outside of the lungs are clipped later."""
    rods: list[Rod] = []
    for side in (-1, 1):
        for _ in range(3):
            start = np.array([rng.uniform(-12, 22), side * 34.0, rng.uniform(-16, 16)])
            angle = rng.uniform(-1.5, 1.5)
            direction = np.array([np.sin(angle), side * np.cos(angle), rng.uniform(-0.35, 0.35)])
            rods += _grow(rng, start, direction, rng.uniform(1.8, 2.8), depth=3)
    return rods


def _grow(
    rng: np.random.Generator, start: Vector, direction: Vector, radius_mm: float, depth: int
) -> Iterator[Rod]:
    """Yield a segment of a vessel and its branches."""
    end = start + direction / np.linalg.norm(direction) * rng.uniform(15, 32)
    thinner = radius_mm * 0.78
    yield Rod(start, end, radius_mm, thinner)
    if depth == 0:
        return
    for _ in range(2):
        turned = direction + rng.normal(0, 0.42, 3)
        yield from _grow(rng, end, turned, thinner * rng.uniform(0.7, 0.95), depth - 1)


HEAD_WIDTH_MM = 250.0


def draw_head(rng: np.random.Generator, grid: Grid) -> tuple[Image, Image]:
    """Draw the anatomy that all slices of a patient share.

    Returns:
        The slice `[n, n]` float32 in Hounsfield units, and the coverage of the brain without the ventricles.
    """
    scale = rng.uniform(0.93, 1.05)
    center_row, center_column = rng.uniform(-4, 4), rng.uniform(-4, 4)
    tilt = rng.uniform(-0.12, 0.12)
    cos, sin = np.cos(tilt), np.sin(tilt)

    def ellipse(
        row: float, column: float, height: float, width: float, turn: float = 0.0, reach_mm: float = 0.0
    ) -> Image:
        down, right = row * cos + column * sin, column * cos - row * sin
        row, column = center_row + down * scale, center_column + right * scale
        return ellipse_distance_mm(
            grid, row, column, height * scale, width * scale, tilt + turn, 2.15, reach_mm
        )

    image = np.full((grid.size_px, grid.size_px), AIR_HU, np.float32)
    skull_mm = rng.uniform(5.5, 8.0)
    brain = ellipse(0, 0, 84, 66, reach_mm=HEAD_WIDTH_MM)
    paint(image, grid.coverage(brain - np.float32(skull_mm + 6)), 20.0)
    paint(image, grid.coverage(brain - np.float32(skull_mm)), 1000.0)
    paint(image, grid.coverage(brain), 8.0)
    cortex = brain + 2.5 + np.float32(1.8) * smooth_noise(rng, grid, 3)
    inside = grid.coverage(cortex)
    paint(image, inside, 38 + smooth_noise(rng, grid, 4))
    white = cortex + 9 + np.float32(3.5) * smooth_noise(rng, grid, 4)
    paint(image, grid.coverage(white), 28 + smooth_noise(rng, grid, 4))
    fluid = _draw_ventricles(rng, grid, ellipse)
    for side in (-1, 1):
        paint(image, grid.coverage(ellipse(6, side * 21, 13, 6)), 38.0)
    paint(image, fluid, 6.0)
    falx = grid.coverage(ellipse(-52, 0, 27, 0.9)) * inside
    paint(image, falx, 60.0)
    return image, inside * (1 - fluid)


def _draw_ventricles(rng: np.random.Generator, grid: Grid, ellipse: EllipseDistance) -> Image:
    swollen = rng.uniform(0.8, 1.4)
    fluid = np.zeros((grid.size_px, grid.size_px), np.float32)
    for side in (-1, 1):
        front = ellipse(-20, side * 10, 17, 5 * swollen, side * -0.35)
        back = ellipse(24, side * 15, 19, 5 * swollen, side * 0.35)
        for horn in (front, back):
            fluid = np.maximum(fluid, grid.coverage(horn))
    third = ellipse(4, 0, 11, 1.8 * swollen)
    return np.maximum(fluid, grid.coverage(third))


NUM_STRANDS, NUM_TAGS, NUM_SCARS = (8, 32), (0, 6), (0, 40)
"""Ranges (exclusive upper bound) of the number of strands of a nodule, of strands attached to a benign nodule, and of
scattered strands in both classes."""
HIDDEN_FRACTION = 0.2
"""Fraction of the strands of a malignant nodule that are hidden by others. A benign nodule has as many fewer."""
CALCIFIED_FRACTION = 0.15


@dataclass(frozen=True)
class Nodule:
    """A nodule in space.

    Args:
        row_mm, column_mm: Center in the central slice.
        radius_mm: Mean radius in the central slice.
        hu: Density of the body.
        waves: (number around the circumference, height as a fraction of the radius, phase in radians, twist in radians
            per mm).
        strands: Thin rods, attached to the surface or elsewhere in the tissue.
        calcification: Center (row, column), radius in mm and density of a calcification, or None.
    """

    row_mm: float
    column_mm: float
    radius_mm: float
    hu: float
    waves: tuple[tuple[int, float, float, float], ...]
    strands: tuple[Rod, ...]
    calcification: tuple[float, float, float, float] | None


def draw_nodule(
    rng: np.random.Generator,
    *,
    malignant: bool,
    row_mm: float,
    column_mm: float,
    radius_mm: float,
    hu: float,
    tissue_mm: NDArray[np.float64],
) -> Nodule:
    """Draw the shape of a nodule of given position, size and density.

    The classes overlap: a benign nodule may be slightly lobed and touch a few strands, and a malignant one may have few.

    Args:
        tissue_mm: `[n, 2]` positions (row, column) in the tissue away from the nodule. n may be 0.
    """
    lobed = rng.uniform(0.03, 0.14, 4)
    smooth = np.append(rng.uniform(0.0, 0.07, 2), (0.0, 0.0))
    waves = tuple(
        (count, float(height), float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-0.03, 0.03)))
        for count, height in zip((2, 3, 4, 6), lobed if malignant else smooth, strict=True)
    )
    num_own, num_scars = int(rng.integers(*NUM_STRANDS)), int(rng.integers(*NUM_SCARS))
    strands = [_draw_strand(rng, row_mm, column_mm, radius_mm) for _ in range(num_own + num_scars)]
    tags = num_own if malignant else int(rng.integers(*NUM_TAGS))
    hidden = 0 if malignant else round(HIDDEN_FRACTION * (num_own - tags))
    attached, scattered = strands[:tags], strands[tags + hidden :]
    scattered = [_moved(rng, strand, tissue_mm) for strand in scattered if len(tissue_mm)]
    calcification = None
    if rng.random() < CALCIFIED_FRACTION:
        off_mm = 0.5 * radius_mm if malignant else 0.0
        around = rng.uniform(0, 2 * np.pi)
        row, column = row_mm + off_mm * np.sin(around), column_mm + off_mm * np.cos(around)
        core_hu = float(rng.uniform(250, 600))
        calcification = (float(row), float(column), 0.3 * radius_mm, core_hu)
    return Nodule(row_mm, column_mm, radius_mm, hu, waves, (*attached, *scattered), calcification)


def _draw_strand(rng: np.random.Generator, row_mm: float, column_mm: float, radius_mm: float) -> Rod:
    """Draw a thin rod from the surface of a nodule outwards."""
    around, up = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    flat = np.sqrt(1 - up**2)
    direction = np.array([flat * np.sin(around), flat * np.cos(around), up])
    length_mm = radius_mm * rng.uniform(0.7, 1.5)
    center = np.array([row_mm, column_mm, 0.0])
    start = center + direction * radius_mm * 0.9
    end = center + direction * (radius_mm + length_mm)
    return Rod(start, end, float(rng.uniform(1.4, 2.2)), 0.8)


def _moved(rng: np.random.Generator, strand: Rod, positions_mm: NDArray[np.float64]) -> Rod:
    """Move the midpoint of a strand to a random position and keep its height."""
    midpoint = (strand.start_mm + strand.end_mm) / 2
    shift = np.append(positions_mm[rng.integers(len(positions_mm))] - midpoint[:2], 0.0)
    return replace(strand, start_mm=strand.start_mm + shift, end_mm=strand.end_mm + shift)


def paint_nodule(image: Image, grid: Grid, nodule: Nodule, height_mm: float) -> Image:
    """Draw a nodule into a slice in place.

    Args:
        image: `[n, n]` float32 Hounsfield units.
        grid: Pixel grid of the slice.
        nodule: The nodule.
        height_mm: Height of the slice above the center of the nodule.

    Returns:
        Coverage of each pixel by the nodule without its strands, `[n, n]` float32, 0 to 1.
    """
    reach_mm = nodule.radius_mm * (1 + sum(height for _, height, _, _ in nodule.waves)) + grid.pixel_mm
    window = grid.window(nodule.row_mm, nodule.column_mm, reach_mm, reach_mm)
    down, right = grid.rows_mm[window[0]] - nodule.row_mm, grid.columns_mm[:, window[1]] - nodule.column_mm
    around = np.arctan2(down, right)
    away = np.hypot(down, right)
    radius_mm = np.sqrt(max(nodule.radius_mm**2 - height_mm**2, 0.0))
    shape = 1 + sum(
        height * np.cos(count * (around - phase - twist * height_mm))
        for count, height, phase, twist in nodule.waves
    )
    # Compensate for the area that waves add, so that neither mask nor box reveals the class.
    shape = shape / (1 + sum(height for _, height, _, _ in nodule.waves) * 0.09)
    body = np.zeros_like(image)
    body[window] = grid.coverage((away - radius_mm * shape).astype(np.float32))
    paint(image, cut_rods(grid, nodule.strands, height_mm), nodule.hu)
    paint(image, body, nodule.hu)
    if nodule.calcification is not None:
        row_mm, column_mm, wide_mm, hu = nodule.calcification
        away = np.hypot(grid.rows_mm - row_mm, grid.columns_mm - column_mm)
        paint(image, grid.coverage((away - wide_mm).astype(np.float32)), hu)
    return body
