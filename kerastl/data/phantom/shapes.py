"""Draw soft-edged shapes, in millimetres, into a slice of Hounsfield units.

Every edge is as wide as one pixel, so that a pixel cut by an edge holds the mean of both sides: the partial
volume effect of a real scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """A square of pixels, around the centre of the scanner or beside it.

    Args:
        size_px: pixels along one side.
        width_mm: length of one side.
        centre_column_mm: how far to the right of the scanner's centre its own centre lies.
    """

    size_px: int
    width_mm: float
    centre_column_mm: float = 0.0

    @property
    def pixel_mm(self) -> float:
        """Length of a pixel's side."""
        return self.width_mm / self.size_px

    @cached_property
    def axis_mm(self) -> Image:
        """`[size]` float32: the centres of the pixels along one side, 0 in the middle."""
        positions = (np.arange(self.size_px) + 0.5) * self.pixel_mm - self.width_mm / 2
        return positions.astype(np.float32)

    @cached_property
    def rows_mm(self) -> Image:
        """`[size, 1]` float32: downwards, towards the patient's back."""
        return self.axis_mm[:, None]

    @cached_property
    def columns_mm(self) -> Image:
        """`[1, size]` float32: to the right of the picture."""
        return self.axis_mm[None, :] + np.float32(self.centre_column_mm)

    def coverage(self, distance_mm: Image) -> Image:
        """Return how much of each pixel lies inside a shape (0 to 1) from its signed distance, negative inside."""
        return np.clip(np.float32(0.5) - distance_mm / np.float32(self.pixel_mm), 0, 1)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse; `exponent` above 2 makes it boxier.

    Args:
        row_mm, column_mm: its centre.
        height_mm, width_mm: its half axes.
        turn_rad: its rotation, clockwise on the picture.
        exponent: 2 for a true ellipse.
    """

    row_mm: float
    column_mm: float
    height_mm: float
    width_mm: float
    turn_rad: float = 0.0
    exponent: float = 2.0

    def distance_mm(self, grid: Grid) -> Image:
        """Return the signed distance of each pixel to the edge, negative inside (first order in the distance)."""
        down, right = grid.rows_mm - self.row_mm, grid.columns_mm - self.column_mm
        cos, sin = np.cos(self.turn_rad), np.sin(self.turn_rad)
        tall = np.abs(down * cos - right * sin) / self.height_mm
        wide = np.abs(down * sin + right * cos) / self.width_mm
        power = self.exponent
        level = (tall**power + wide**power) ** (1 / power) + np.float32(1e-6)
        steep = np.hypot(
            (tall / level) ** (power - 1) / self.height_mm,
            (wide / level) ** (power - 1) / self.width_mm,
        )
        distance: Image = ((level - 1) / (steep + np.float32(1e-6))).astype(np.float32)
        return distance


Place = Callable[..., Ellipse]
"""Makes an ellipse (row, column, height, width in mm; turn_rad, exponent) in a patient's own position and scale."""


@dataclass(frozen=True)
class Rod:
    """A straight round rod in space that may taper: a piece of a vessel, a spicule.

    Args:
        start_mm, end_mm: (row, column, height along the patient) of its ends.
        start_radius_mm, end_radius_mm: its radius at each end.
    """

    start_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]
    start_radius_mm: float
    end_radius_mm: float


def paint(picture: Image, coverage: Image, value: float | Image) -> None:
    """Mix a value into a picture, in place: `coverage` 1 replaces, 0 leaves.

    Args:
        picture: `[h, w]` float32 Hounsfield units.
        coverage: `[h, w]` float32, 0 to 1.
        value: Hounsfield units, one or one a pixel.
    """
    picture += coverage * (value - picture)


def cut_rods(grid: Grid, rods: list[Rod], height_mm: float) -> Image:
    """Return how much of each pixel the rods cover in the plane at one height.

    Returns:
        `[size, size]` float32, 0 to 1. A rod thinner than a pixel covers it in proportion.
    """
    covered = np.zeros((grid.size_px, grid.size_px), np.float32)
    for rod in rods:
        _cut_rod(covered, grid, rod, height_mm)
    return covered


def _cut_rod(covered: Image, grid: Grid, rod: Rod, height_mm: float) -> None:
    start, end = np.array(rod.start_mm), np.array(rod.end_mm)
    reach = max(rod.start_radius_mm, rod.end_radius_mm) + grid.pixel_mm
    low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
    if not low[2] < height_mm < high[2]:
        return
    rows, columns = (
        slice(*np.searchsorted(grid.axis_mm, (low[axis], high[axis]))) for axis in (0, 1)
    )
    down, right = grid.axis_mm[rows, None] - start[0], grid.axis_mm[None, columns] - start[1]
    if down.size == 0 or right.size == 0:
        return
    along, up = end - start, height_mm - start[2]
    share = (down * along[0] + right * along[1] + up * along[2]) / max(along @ along, 1e-9)
    share = np.clip(share, 0, 1)
    away = np.sqrt(
        (down - share * along[0]) ** 2
        + (right - share * along[1]) ** 2
        + (up - share * along[2]) ** 2
    )
    radius = rod.start_radius_mm + share * (rod.end_radius_mm - rod.start_radius_mm)
    thin = np.minimum(1, 2 * radius / grid.pixel_mm)
    part = (grid.coverage(away - radius) * thin).astype(np.float32)
    np.maximum(covered[rows, columns], part, out=covered[rows, columns])
