"""A slice through a head: scalp, skull, brain with grey and white matter, ventricles; a lesion instead of a nodule."""

from __future__ import annotations

import numpy as np

from kerastl.data.phantom.chest import AIR_HU, smooth_noise
from kerastl.data.phantom.shapes import Ellipse, Grid, Image, Place, paint

HEAD_WIDTH_MM = 250.0


def draw_head(rng: np.random.Generator, grid: Grid) -> tuple[Image, Image]:
    """Draw what all slices of one patient share.

    Returns:
        The slice `[n, n]` float32 in Hounsfield units, and the coverage of the brain without the ventricles.
    """
    scale = rng.uniform(0.93, 1.05)
    middle_row, middle = rng.uniform(-4, 4), rng.uniform(-4, 4)
    tilt = rng.uniform(-0.12, 0.12)
    cos, sin = np.cos(tilt), np.sin(tilt)

    def place(row: float, column: float, height: float, width: float, turn: float = 0.0) -> Ellipse:
        down, right = row * cos + column * sin, column * cos - row * sin
        return Ellipse(
            middle_row + down * scale,
            middle + right * scale,
            height * scale,
            width * scale,
            turn_rad=tilt + turn,
            exponent=2.15,
        )

    picture = np.full((grid.size_px, grid.size_px), AIR_HU, np.float32)
    skull_mm = rng.uniform(5.5, 8.0)
    brain = place(0, 0, 84, 66).distance_mm(grid)
    paint(picture, grid.coverage(brain - np.float32(skull_mm + 6)), 20.0)
    paint(picture, grid.coverage(brain - np.float32(skull_mm)), 1000.0)
    paint(picture, grid.coverage(brain), 8.0)
    cortex = brain + 2.5 + np.float32(1.8) * smooth_noise(rng, grid, 3)
    inside = grid.coverage(cortex)
    paint(picture, inside, 38 + smooth_noise(rng, grid, 4))
    white = cortex + 9 + np.float32(3.5) * smooth_noise(rng, grid, 4)
    paint(picture, grid.coverage(white), 28 + smooth_noise(rng, grid, 4))
    fluid = _draw_ventricles(rng, grid, place)
    for side in (-1, 1):
        paint(picture, grid.coverage(place(6, side * 21, 13, 6).distance_mm(grid)), 38.0)
    paint(picture, fluid, 6.0)
    falx = grid.coverage(place(-52, 0, 27, 0.9).distance_mm(grid)) * inside
    paint(picture, falx, 60.0)
    return picture, inside * (1 - fluid)


def _draw_ventricles(rng: np.random.Generator, grid: Grid, place: Place) -> Image:
    swollen = rng.uniform(0.8, 1.4)
    fluid = np.zeros((grid.size_px, grid.size_px), np.float32)
    for side in (-1, 1):
        front = place(-20, side * 10, 17, 5 * swollen, side * -0.35)
        back = place(24, side * 15, 19, 5 * swollen, side * 0.35)
        for horn in (front, back):
            fluid = np.maximum(fluid, grid.coverage(horn.distance_mm(grid)))
    third = place(4, 0, 11, 1.8 * swollen)
    return np.maximum(fluid, grid.coverage(third.distance_mm(grid)))
