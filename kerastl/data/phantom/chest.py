"""A slice through a chest: body, lungs with their vessels, heart, spine, ribs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerastl.data.phantom.shapes import Ellipse, Grid, Image, Place, Rod, paint

CHEST_WIDTH_MM = 340.0
LUNG_MM = 66.0
"""How far from the middle a lung's centre lies: the scanner is aimed at one lung."""
AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU = -1000.0, -100.0, 50.0, 45.0


def smooth_noise(rng: np.random.Generator, grid: Grid, blur_mm: float) -> Image:
    """Return `[n, n]` float32: a random texture of mean 0 and spread 1, with grains of about `blur_mm`."""
    rough = rng.standard_normal((grid.size_px, grid.size_px), dtype=np.float32)
    smooth = ndimage.gaussian_filter(rough, blur_mm / grid.pixel_mm, mode="wrap")
    texture: Image = (smooth - smooth.mean()) / smooth.std()
    return texture


def draw_chest(rng: np.random.Generator, grid: Grid) -> tuple[Image, Image]:
    """Draw what all slices of one patient share.

    Returns:
        The slice `[n, n]` float32 in Hounsfield units without vessels, and the coverage of the lungs, 0 to 1.
    """
    scale = rng.uniform(0.85, 0.93)
    middle_row, middle = rng.uniform(-6, 6), rng.uniform(-6, 6)
    fat_mm = rng.uniform(8, 16)

    def place(row: float, column: float, height: float, width: float, **more: float) -> Ellipse:
        return Ellipse(
            middle_row + row * scale, middle + column * scale, height * scale, width * scale, **more
        )

    picture = np.full((grid.size_px, grid.size_px), AIR_HU, np.float32)
    wall = place(0, 0, 108, 152, exponent=2.4)
    skin = Ellipse(
        wall.row_mm, wall.column_mm, wall.height_mm + fat_mm, wall.width_mm + fat_mm, exponent=2.4
    )
    paint(picture, grid.coverage(skin.distance_mm(grid)), FAT_HU)
    paint(
        picture, grid.coverage(wall.distance_mm(grid)), MUSCLE_HU + 8 * smooth_noise(rng, grid, 4)
    )
    lungs = _draw_lungs(rng, grid, place)
    dependent = np.float32(0.35) * grid.rows_mm
    air = rng.uniform(-880, -830) + dependent + 14 * smooth_noise(rng, grid, 3)
    air = air + _draw_haze(rng, grid)
    paint(picture, lungs, air.astype(np.float32))
    _paint_bones(picture, rng, grid, place)
    return picture, lungs


def _draw_haze(rng: np.random.Generator, grid: Grid) -> Image:
    """Draw hazy denser patches, more in some patients than in others and blind to the class.

    Without them the number of pixels between lung and soft tissue would tell a spiculated nodule.
    """
    patches = np.clip(smooth_noise(rng, grid, 25) - rng.uniform(-0.5, 1.5), 0, None)
    haze: Image = np.minimum(rng.uniform(0, 90) * patches, 250).astype(np.float32)
    return haze


def _draw_lungs(rng: np.random.Generator, grid: Grid, place: Place) -> Image:
    tilt = rng.uniform(0.05, 0.16)
    right = place(2, -76, rng.uniform(86, 93), 63, turn_rad=tilt, exponent=2.3)
    left = place(2, 78, rng.uniform(84, 91), 60, turn_rad=-tilt, exponent=2.3)
    lungs = np.maximum(
        grid.coverage(right.distance_mm(grid)), grid.coverage(left.distance_mm(grid))
    )
    heart = place(-28, rng.uniform(18, 32), rng.uniform(36, 46), rng.uniform(50, 60), turn_rad=0.5)
    aorta = place(52, 22, 13, 13)
    for organ in (heart, aorta):
        lungs = lungs * (1 - grid.coverage(organ.distance_mm(grid)))
    return lungs


def _paint_bones(picture: Image, rng: np.random.Generator, grid: Grid, place: Place) -> None:
    spongy, hard = rng.uniform(150, 250), rng.uniform(500, 800)
    for shape, inner in ((place(72, 0, 19, 22), 3.0), (place(-96, 0, 6, 18), 2.5)):
        distance = shape.distance_mm(grid)
        paint(picture, grid.coverage(distance), hard)
        paint(picture, grid.coverage(distance + np.float32(inner)), spongy)
    canal = place(98, 0, 8, 9)
    arch = place(98, 0, 13, 15)
    paint(picture, grid.coverage(arch.distance_mm(grid)), hard)
    paint(picture, grid.coverage(place(114, 0, 10, 4).distance_mm(grid)), hard)
    paint(picture, grid.coverage(canal.distance_mm(grid)), 20.0)
    shift = rng.uniform(-0.15, 0.15)
    for side in (-1, 1):
        for index in range(7):
            angle = -1.15 + index * 0.4 + shift + rng.uniform(-0.06, 0.06)
            # The lungs reach to about 100 by 142 mm: ribs lie in the wall outside of them.
            row, column = 99 * np.sin(angle), side * 143 * np.cos(angle)
            along = np.arctan2(99 * np.cos(angle), -side * 143 * np.sin(angle))
            rib = place(row, column, 4.5, rng.uniform(9, 19), turn_rad=float(along))
            distance = rib.distance_mm(grid)
            paint(picture, grid.coverage(distance), hard)
            paint(picture, grid.coverage(distance + np.float32(2.4)), spongy)


def draw_vessels(rng: np.random.Generator) -> list[Rod]:
    """Grow a tree of vessels from the root of each lung; the lungs' edge cuts what grows too far."""
    rods: list[Rod] = []
    for side in (-1, 1):
        for _ in range(3):
            start = np.array([rng.uniform(-12, 22), side * 34.0, rng.uniform(-16, 16)])
            angle = rng.uniform(-1.5, 1.5)
            direction = np.array([np.sin(angle), side * np.cos(angle), rng.uniform(-0.35, 0.35)])
            _grow(rods, rng, start, direction, rng.uniform(1.8, 2.8), depth=3)
    return rods


def _grow(
    rods: list[Rod],
    rng: np.random.Generator,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    radius_mm: float,
    depth: int,
) -> None:
    end = start + direction / np.linalg.norm(direction) * rng.uniform(15, 32)
    thinner = radius_mm * 0.78
    rods.append(Rod(tuple(start.tolist()), tuple(end.tolist()), radius_mm, thinner))
    if depth == 0:
        return
    for _ in range(2):
        turned = direction + rng.normal(0, 0.42, 3)
        _grow(rods, rng, end, turned, thinner * rng.uniform(0.7, 0.95), depth - 1)
