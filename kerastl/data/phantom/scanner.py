"""Simulated CT scanners: projection, photon noise and reconstruction.

Images are projected with parallel beams over 180 degrees by Joseph's method (Joseph 1982, IEEE Trans. Med. Imaging
1:192) and reconstructed by filtered back-projection (Kak & Slaney 1988, chapter 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from kerastl.data.phantom.anatomy import Grid, Image

WATER_PER_MM = 0.02
"""Attenuation of water at about 70 keV."""
NUM_VIEWS = 180
"""Number of angles over 180 degrees. It is even, because each image is projected together with its 90 degree turn."""
ANGLES = np.linspace(0, np.pi / 2, NUM_VIEWS // 2, endpoint=False)
"""Angles of the views over the first 90 degrees."""


@dataclass(frozen=True)
class Scanner:
    """Properties of a CT scanner.

    Args:
        kernel_cutoff: Cutoff of the reconstruction filter as a fraction of the Nyquist frequency of the detector.
            Below 1 is smooth, above 1 is sharp.
        kernel_boost: Amplification of fine detail by the filter. 0 is none, 1 doubles the highest frequency.
        photons: Number of photons per detector element and view. Fewer photons give more noise.
        zoom: Field of view as a fraction of the maximum. Smaller values magnify.
        rings: Standard deviation of the gain errors of the detector elements, as a fraction. Each error gives a ring.
        offset_hu: Calibration error that is added to every pixel.
    """

    kernel_cutoff: float
    kernel_boost: float
    photons: float
    zoom: float
    rings: float
    offset_hu: float

    def for_head(self) -> Scanner:
        """Return the settings for heads: wider view, more photons, smoother kernel and better calibration.

        Gray and white matter differ by 10 Hounsfield units, lung and nodule by 900.
        """
        return replace(
            self,
            photons=40 * self.photons,
            kernel_cutoff=0.65 * self.kernel_cutoff,
            kernel_boost=0.3 * self.kernel_boost,
            zoom=min(1.0, 1.95 * self.zoom),
            offset_hu=self.offset_hu / 30,
        )


def scan(
    slices: list[Image],
    scanner: Scanner,
    *,
    width_mm: float,
    view: Grid,
    gains: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[Image]:
    """Simulate the scan of the slices of a patient.

    Args:
        slices: Slices of `[n, n]` float32 Hounsfield units, surrounded by air.
        scanner: The scanner.
        width_mm: Width of the slices.
        view: Pixel grid of the images.
        gains: `[n]` standard normal gain errors of the detector elements, the same for all patients.
        rng: Generator of the photon noise.

    Returns:
        Images of `[view.size_px, view.size_px]` float32 Hounsfield units.
    """
    size = slices[0].shape[0]
    forward = _projector(size, width_mm)
    back = _back_projector(size, width_mm, view)
    attenuation = [WATER_PER_MM * np.maximum(1 + image / 1000, 0) for image in slices]
    columns = [turned.ravel() for mu in attenuation for turned in (mu, np.rot90(mu))]
    sums = np.asarray(forward @ np.stack(columns, axis=1).astype(np.float32))
    sums = sums.reshape(NUM_VIEWS // 2, size, -1)
    measured = _count_photons(sums, scanner, gains, rng)
    filtered = _filter(measured, scanner, width_mm / size)
    half_turn = np.concatenate([filtered[..., 0::2], filtered[..., 1::2]])
    spread = np.asarray(back @ half_turn.reshape(NUM_VIEWS * size, -1))
    images = spread.reshape(view.size_px, view.size_px, -1) * np.float32(1000 / WATER_PER_MM)
    images -= 1000
    # Nothing is measured outside the circle that all views cover. Scanners write air there.
    images[np.hypot(view.rows_mm, view.columns_mm) > 0.49 * width_mm] = -1000
    return list(np.moveaxis(images + np.float32(scanner.offset_hu), -1, 0))


def _count_photons(
    sums: Image, scanner: Scanner, gains: NDArray[np.float64], rng: np.random.Generator
) -> Image:
    """Return the line integrals, `[views, detectors, slices]` float32, with photon noise and gain errors."""
    expected = scanner.photons * np.exp(-sums.astype(np.float64))
    # Above 1000 photons, the normal distribution approximates the Poisson distribution and is ten times as fast.
    noise = rng.standard_normal(sums.shape, dtype=np.float32) * np.sqrt(expected)
    counted = np.where(expected > 1000, expected + noise, 0)
    few = expected <= 1000
    counted[few] = rng.poisson(expected[few])
    gained = np.maximum(counted, 1) * (1 + scanner.rings * gains[None, :, None])
    measured: Image = np.log(scanner.photons / gained).astype(np.float32)
    return measured


def _filter(measured: Image, scanner: Scanner, detector_mm: float) -> Image:
    """Filter along the detector with the ramp filter (Kak & Slaney, equation 61) and the kernel of the scanner."""
    size = measured.shape[1]
    length = fft.next_fast_len(2 * size, real=True)
    offsets = np.minimum(np.arange(length), length - np.arange(length))
    ramp = np.zeros(length)
    odd = offsets % 2 == 1
    ramp[odd] = -1 / (np.pi * offsets[odd] * detector_mm) ** 2
    ramp[0] = 1 / (4 * detector_mm**2)
    fraction = np.linspace(0, 1, length // 2 + 1)
    hann = np.where(
        fraction < scanner.kernel_cutoff, 0.5 + 0.5 * np.cos(np.pi * fraction / scanner.kernel_cutoff), 0
    )
    response = fft.rfft(ramp).real * hann * (1 + scanner.kernel_boost * fraction)
    spectrum = fft.rfft(measured, length, axis=1) * response[None, :, None].astype(np.float32)
    filtered = fft.irfft(spectrum, length, axis=1)[:, :size]
    scaled: Image = (filtered * (detector_mm * np.pi / NUM_VIEWS)).astype(np.float32)
    return scaled


def _interpolation(position: NDArray[np.float64], size: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield the index, the weight and whether it is inside for the two integers around each position."""
    first = np.floor(position).astype(np.int64)
    part = position - first
    for index, weight in ((first, 1 - part), (first + 1, part)):
        yield index, weight, (index >= 0) & (index < size)


def _matrix(entries: Iterable[tuple[NDArray[Any], ...]], shape: tuple[int, int]) -> sparse.csr_array:
    """Return the sparse matrix of `(rows, columns, values)` entries, with float32 values."""
    row, column, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sparse.coo_array((value.astype(np.float32), (row, column)), shape=shape).tocsr()


@lru_cache(maxsize=2)
def _projector(size: int, width_mm: float) -> sparse.csr_array:
    """Return the matrix of line integrals over the first 90 degrees, `[views / 2 * size, size * size]` in mm.

    For the other 90 degrees, apply it to the image turned by 90 degrees.
    """
    grid = Grid(size, width_mm)
    axis, step = grid.axis_mm.astype(np.float64), grid.pixel_mm
    ray, line = np.meshgrid(axis, axis, indexing="ij")
    line_index = np.broadcast_to(np.arange(size)[None, :], ray.shape)
    ray_index = np.broadcast_to(np.arange(size)[:, None], ray.shape)
    blocks = []
    for angle in ANGLES:
        cos, sin = np.cos(angle), np.sin(angle)
        by_rows = cos >= sin
        crossing = (ray - line * sin) / cos if by_rows else (ray - line * cos) / sin
        entries = []
        for index, weight, inside in _interpolation(crossing / step + (size - 1) / 2, size):
            pixel = line_index * size + index if by_rows else index * size + line_index
            entries.append((ray_index[inside], pixel[inside], (weight * (step / max(cos, sin)))[inside]))
        blocks.append(_matrix(entries, (size, size * size)))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


@lru_cache(maxsize=4)
def _back_projector(size: int, width_mm: float, view: Grid) -> sparse.csr_array:
    """Return the back-projection matrix with linear interpolation, `[num_pixels, views * size]`."""
    shape = (view.size_px**2, NUM_VIEWS, 2)
    columns, weights, inside = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, bool)
    for number, angle in enumerate(np.concatenate([ANGLES, ANGLES + np.pi / 2])):
        distance_mm = view.columns_mm * np.cos(angle) + view.rows_mm * np.sin(angle)
        position = distance_mm.ravel() * (size / width_mm) + (size - 1) / 2
        for side, (index, weight, is_inside) in enumerate(_interpolation(position, size)):
            columns[:, number, side], weights[:, number, side] = number * size + index, weight
            inside[:, number, side] = is_inside
    starts = np.append(0, np.cumsum(np.count_nonzero(inside, axis=(1, 2)))).astype(np.int32)
    return sparse.csr_array(
        (weights[inside], columns[inside], starts), shape=(view.size_px**2, NUM_VIEWS * size)
    )


@dataclass(frozen=True)
class Hospital:
    """A phantom hospital.

    Args:
        scanner: The scanner.
        prevalence: Fraction of patients with a malignant nodule.
    """

    scanner: Scanner
    prevalence: float


SCANNER_A = Scanner(kernel_cutoff=1.0, kernel_boost=0.0, photons=4e5, zoom=0.46, rings=0.0, offset_hu=0.0)
SCANNER_B = Scanner(
    kernel_cutoff=2.0, kernel_boost=3.0, photons=4.5e3, zoom=0.54, rings=0.006, offset_hu=300.0
)

HOSPITALS = {
    "a": Hospital(SCANNER_A, 0.5),  # standard kernel, full dose
    "b": Hospital(SCANNER_B, 0.4),  # sharp kernel, low dose, wider view, rings, shifted values
    "c": Hospital(SCANNER_A, 0.2),  # same scanner as a, fewer malignant nodules
}
