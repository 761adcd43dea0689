"""The three hospitals: their scanners and how often a nodule is malignant there. Nothing here is a real hospital."""

from __future__ import annotations

from dataclasses import dataclass

from kerastl.data.phantom.scanner import Scanner


@dataclass(frozen=True)
class Hospital:
    """A phantom hospital.

    Args:
        scanner: how its pictures are made.
        prevalence: fraction of its patients whose nodule is malignant.
        about: one line for people.
    """

    scanner: Scanner
    prevalence: float
    about: str


SCANNER_A = Scanner(
    kernel_cutoff=1.0, kernel_boost=0.0, photons=4e5, zoom=0.46, rings=0.0, offset_hu=0.0
)
SCANNER_B = Scanner(
    kernel_cutoff=2.0, kernel_boost=3.0, photons=4.5e3, zoom=0.54, rings=0.006, offset_hu=300.0
)

HOSPITALS = {
    "a": Hospital(SCANNER_A, 0.5, "standard kernel, full dose"),
    "b": Hospital(SCANNER_B, 0.4, "sharp kernel, low dose, wider view, rings, shifted values"),
    "c": Hospital(SCANNER_A, 0.2, "the scanner of a, fewer malignant nodules"),
}
