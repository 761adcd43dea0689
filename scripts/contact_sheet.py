"""Write docs/images/phantom_hospitals.png: benign and malignant phantoms of the hospitals a, b and c.

Usage: python scripts/contact_sheet.py [OUT.png]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

from kerastl.data.phantom.generate import STORED_OFFSET_HU, draw_patient
from kerastl.data.phantom.scanner import HOSPITALS
from kerastl.data.readers.phantom import Options

OUT = Path(__file__).parent.parent / "docs" / "images" / "phantom_hospitals.png"
LUNG_WINDOW_HU = (-1250.0, 250.0)
PATIENTS = (3, 4)
SEED = 7


def render_slice(hospital: str, patient: int, *, malignant: bool) -> np.ndarray:
    """Return the middle slice of a patient in a lung window, `[192, 192]`, float64 in [0, 1]."""
    options = Options(hospital=hospital, slices_per_patient=3, image_size_px=192)
    slices = draw_patient(options, patient=patient, malignant=malignant, seed=SEED)
    low, high = LUNG_WINDOW_HU
    gray = (slices[1].stored.astype(float) - STORED_OFFSET_HU - low) / (high - low)
    return np.clip(gray, 0, 1)


def main() -> None:
    """Write the sheet with a row per class and two columns per hospital."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, 6, figsize=(9.6, 3.75), facecolor="white")
    for column, (hospital, shift) in enumerate((h, s) for h in HOSPITALS for s in (0, 1)):
        for row, malignant in enumerate((False, True)):
            axis = axes[row, column]
            number = PATIENTS[shift] + 10 * row
            axis.imshow(render_slice(hospital, number, malignant=malignant), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
    figure.subplots_adjust(left=0.03, right=0.998, top=0.88, bottom=0.06, wspace=0.03, hspace=0.03)
    for index, (name, hospital) in enumerate(HOSPITALS.items()):
        box = axes[0, 2 * index].get_position()
        end = axes[0, 2 * index + 1].get_position()
        title = f"Hospital {name}: {TITLES[name]}"
        figure.text((box.x0 + end.x1) / 2, 0.92, title, ha="center", fontsize=8.5, weight="bold")
        share = f"{hospital.prevalence:.0%} malignant"
        figure.text((box.x0 + end.x1) / 2, 0.015, share, ha="center", fontsize=8, color="0.35")
    for row, name in enumerate(("benign", "malignant")):
        box = axes[row, 0].get_position()
        middle = (box.y0 + box.y1) / 2
        figure.text(0.014, middle, name, rotation=90, va="center", ha="center", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    Image.open(buffer).convert("L").save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


TITLES = {"a": "smooth kernel, full dose", "b": "sharp kernel, low dose, rings", "c": "same scanner as a"}

if __name__ == "__main__":
    main()
