"""One nodule a patient: benign is smooth, round, at times calcified; malignant is irregular and spiculated.

Size, density and place are drawn before the class is looked at, so that they cannot tell it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerastl.data.phantom.shapes import Grid, Image, Rod, cut_rods, paint


@dataclass(frozen=True)
class Nodule:
    """A nodule in space.

    Args:
        row_mm, column_mm: its centre in the slice through its middle.
        radius_mm: its mean radius there.
        hu: density of its body.
        waves: (count around, height as a fraction of the radius, phase in radians, twist in radians per mm).
        spicules: thin rods that leave its surface.
        calcified_hu: density of the core, None when there is no calcification.
        holes: small cavities in the body.
        hole_hu: their density.
    """

    row_mm: float
    column_mm: float
    radius_mm: float
    hu: float
    waves: tuple[tuple[int, float, float, float], ...]
    spicules: tuple[Rod, ...]
    calcified_hu: float | None
    holes: tuple[Rod, ...]
    hole_hu: float


def draw_nodule(
    rng: np.random.Generator,
    *,
    malignant: bool,
    row_mm: float,
    column_mm: float,
    radius_mm: float,
    hu: float,
    hole_hu: float,
) -> Nodule:
    """Draw the shape of a nodule whose place, size and densities are given.

    Both classes overlap: a benign nodule may be a little lobed or touch a vessel, a malignant one may have few
    and short spicules.
    """
    heights = (
        rng.uniform(0.05, 0.15, 4)
        if malignant
        else np.append(rng.uniform(0.0, 0.05, 2), (0.0, 0.0))
    )
    waves = tuple(
        (count, float(height), float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-0.03, 0.03)))
        for count, height in zip((2, 3, 4, 6), heights, strict=True)
    )
    num_spicules = int(rng.integers(20, 35)) if malignant else int(rng.integers(0, 3))
    spicules = tuple(
        _draw_spicule(rng, row_mm, column_mm, radius_mm, long=malignant)
        for _ in range(num_spicules)
    )
    calcified = not malignant and rng.random() < 0.15
    num_holes = int(rng.integers(4, 10)) if malignant else 0
    holes = tuple(_draw_hole(rng, row_mm, column_mm, radius_mm) for _ in range(num_holes))
    core_hu = float(rng.uniform(250, 600)) if calcified else None
    return Nodule(row_mm, column_mm, radius_mm, hu, waves, spicules, core_hu, holes, hole_hu)


def _draw_spicule(
    rng: np.random.Generator, row_mm: float, column_mm: float, radius_mm: float, *, long: bool
) -> Rod:
    around, up = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    flat = np.sqrt(1 - up**2)
    direction = np.array([flat * np.sin(around), flat * np.cos(around), up])
    length_mm = radius_mm * rng.uniform(0.7, 1.5) if long else radius_mm * rng.uniform(0.2, 0.6)
    centre = np.array([row_mm, column_mm, 0.0])
    start = centre + direction * radius_mm * 0.8
    end = centre + direction * (radius_mm + length_mm)
    thick_mm = rng.uniform(1.4, 2.2)
    row, column, height = (float(value) for value in start)
    end_row, end_column, end_height = (float(value) for value in end)
    return Rod((row, column, height), (end_row, end_column, end_height), float(thick_mm), 0.8)


def _draw_hole(rng: np.random.Generator, row_mm: float, column_mm: float, radius_mm: float) -> Rod:
    away = rng.normal(0, 1, 3)
    away *= 0.75 * radius_mm * rng.random() ** (1 / 3) / np.linalg.norm(away)
    place = (row_mm + float(away[0]), column_mm + float(away[1]), float(away[2]))
    wide_mm = float(rng.uniform(1.5, 2.6))
    return Rod(place, place, wide_mm, wide_mm)


def paint_nodule(picture: Image, grid: Grid, nodule: Nodule, height_mm: float) -> Image:
    """Draw a nodule into a slice, in place, and return where its body lies.

    Args:
        picture: `[n, n]` float32 Hounsfield units.
        grid: the pixels of the slice.
        nodule: what to draw.
        height_mm: height of the slice above the nodule's middle.

    Returns:
        `[n, n]` float32, 0 to 1: how much of each pixel is nodule, spicules left out.
    """
    down, right = grid.rows_mm - nodule.row_mm, grid.columns_mm - nodule.column_mm
    around = np.arctan2(down, right)
    away = np.hypot(down, right)
    radius_mm = np.sqrt(max(nodule.radius_mm**2 - height_mm**2, 0.0))
    shape = 1 + sum(
        height * np.cos(count * (around - phase - twist * height_mm))
        for count, height, phase, twist in nodule.waves
    )
    # Waves add area and reach; this takes it off again, so that neither mask nor box tells the class.
    shape = shape / (1 + sum(height for _, height, _, _ in nodule.waves) * 0.09)
    body = grid.coverage((away - radius_mm * shape).astype(np.float32))
    paint(picture, cut_rods(grid, list(nodule.spicules), height_mm), nodule.hu)
    paint(picture, body, nodule.hu)
    paint(picture, cut_rods(grid, list(nodule.holes), height_mm), nodule.hole_hu)
    if nodule.calcified_hu is not None:
        paint(
            picture, grid.coverage((away - 0.3 * radius_mm).astype(np.float32)), nodule.calcified_hu
        )
    return body
