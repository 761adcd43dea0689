"""One nodule a patient: benign is smooth and round; malignant is lobed and spiculated.

Size, density and place are drawn before the class is looked at, so that they cannot tell it. Nor can the levels of
single pixels: both classes hold the same things, and the class is how these are arranged. Thin strands leave a
malignant nodule on all sides, and lie scattered in the tissue beside a benign one. A calcification is central in a
benign nodule, and eccentric in a malignant one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerastl.data.phantom.shapes import Grid, Image, Rod, cut_rods, paint

NUM_STRANDS, NUM_TAGS, NUM_SCARS = (8, 32), (0, 6), (0, 40)
"""Strands of a nodule, how many of a benign one's touch it all the same, and strands that lie scattered in either
class: at least, and fewer than."""
HIDDEN_SHARE = 0.2
"""How much of the strands around a malignant nodule hides behind others: so many fewer lie beside a benign one."""
CALCIFIED_SHARE = 0.15


@dataclass(frozen=True)
class Nodule:
    """A nodule in space.

    Args:
        row_mm, column_mm: its centre in the slice through its middle.
        radius_mm: its mean radius there.
        hu: density of its body.
        waves: (count around, height as a fraction of the radius, phase in radians, twist in radians per mm).
        strands: thin rods that leave its surface, or lie elsewhere in the tissue.
        calcified: centre (row, column), radius in mm and density of a calcification; None without one.
    """

    row_mm: float
    column_mm: float
    radius_mm: float
    hu: float
    waves: tuple[tuple[int, float, float, float], ...]
    strands: tuple[Rod, ...]
    calcified: tuple[float, float, float, float] | None


def draw_nodule(
    rng: np.random.Generator,
    *,
    malignant: bool,
    row_mm: float,
    column_mm: float,
    radius_mm: float,
    hu: float,
    elsewhere_mm: NDArray[np.float64],
) -> Nodule:
    """Draw the shape of a nodule whose place, size and density are given.

    Both classes overlap: a benign nodule may be a little lobed and touch a few strands, a malignant one may have few.

    Args:
        elsewhere_mm: `[n, 2]` (row, column) of places in the tissue, clear of the nodule; n may be 0.
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
    hidden = 0 if malignant else round(HIDDEN_SHARE * (num_own - tags))
    attached, scattered = strands[:tags], strands[tags + hidden :]
    scattered = [_moved(rng, strand, elsewhere_mm) for strand in scattered if len(elsewhere_mm)]
    calcified = None
    if rng.random() < CALCIFIED_SHARE:
        off_mm = 0.5 * radius_mm if malignant else 0.0
        around = rng.uniform(0, 2 * np.pi)
        row, column = row_mm + off_mm * np.sin(around), column_mm + off_mm * np.cos(around)
        core_hu = float(rng.uniform(250, 600))
        calcified = (float(row), float(column), 0.3 * radius_mm, core_hu)
    return Nodule(row_mm, column_mm, radius_mm, hu, waves, (*attached, *scattered), calcified)


def _draw_strand(
    rng: np.random.Generator, row_mm: float, column_mm: float, radius_mm: float
) -> Rod:
    """Draw a thin rod that leaves the surface of a nodule outwards."""
    around, up = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    flat = np.sqrt(1 - up**2)
    direction = np.array([flat * np.sin(around), flat * np.cos(around), up])
    length_mm = radius_mm * rng.uniform(0.7, 1.5)
    centre = np.array([row_mm, column_mm, 0.0])
    start = centre + direction * radius_mm * 0.9
    end = centre + direction * (radius_mm + length_mm)
    return Rod(
        (float(start[0]), float(start[1]), float(start[2])),
        (float(end[0]), float(end[1]), float(end[2])),
        float(rng.uniform(1.4, 2.2)),
        0.8,
    )


def _moved(rng: np.random.Generator, strand: Rod, places_mm: NDArray[np.float64]) -> Rod:
    """Return a strand, its middle moved to one of some places; its height stays."""
    middle = (np.array(strand.start_mm) + np.array(strand.end_mm)) / 2
    row, column = places_mm[rng.integers(len(places_mm))] - middle[:2]
    start, end = (
        (at[0] + float(row), at[1] + float(column), at[2])
        for at in (strand.start_mm, strand.end_mm)
    )
    return Rod(start, end, strand.start_radius_mm, strand.end_radius_mm)


def paint_nodule(picture: Image, grid: Grid, nodule: Nodule, height_mm: float) -> Image:
    """Draw a nodule into a slice, in place, and return where its body lies.

    Args:
        picture: `[n, n]` float32 Hounsfield units.
        grid: the pixels of the slice.
        nodule: what to draw.
        height_mm: height of the slice above the nodule's middle.

    Returns:
        `[n, n]` float32, 0 to 1: how much of each pixel is nodule, strands left out.
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
    paint(picture, cut_rods(grid, list(nodule.strands), height_mm), nodule.hu)
    paint(picture, body, nodule.hu)
    if nodule.calcified is not None:
        row_mm, column_mm, wide_mm, hu = nodule.calcified
        away = np.hypot(grid.rows_mm - row_mm, grid.columns_mm - column_mm)
        paint(picture, grid.coverage((away - wide_mm).astype(np.float32)), hu)
    return body
