"""Measure the effect of padding on the style methods `reinhard`, `histogram_matching` and `fda`, which count it as pixels.

    KERASTL_TEST_ASSETS=FOLDER python benchmarks/style_padding.py [--quick] [--size 96]

Photographs (google-coral/test_data, CC BY 2.0) are the source. The same photographs, darker and with less contrast, are
the target, in another order. An ideal method gives each source image the mean level of its style. The table
lists the distance between the mean levels of the two images, without their padding, in gray levels of 255, for images that
are stretched and images that are padded. Pairs are grouped by the difference of the padded fractions. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from resizing import OBJECTS, decode, read_archive

from kerastl.adaptation import fourier_style, histogram_style, reinhard_style

Array = np.ndarray[Any, Any]
STYLES = {
    "reinhard": reinhard_style, "histogram_matching": histogram_style, "fda": partial(fourier_style, beta=0.01),
}  # fmt: skip
GROUPS = {"equal": (0.0, 0.05), "different": (0.15, 1.0)}
"""Smallest and largest difference of the padded fractions of source and style."""


def other_scanner(images: Array) -> Array:
    """Return darker images with less contrast, in which padding stays black."""
    return np.where(images == 0, 0, 20 + 0.6 * images).astype(np.float32)


def white(file: bytes) -> bytes:
    """Return a white image of the size of an image, as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", Image.open(io.BytesIO(file)).size, "white").save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="use a quarter of the pairs")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    options = parser.parse_args()
    archive = read_archive(Path(os.environ["KERASTL_TEST_ASSETS"]) / "data" / "coral_photos.zip")
    files = [file for name, file in sorted(archive.items()) if Path(name).name.startswith(tuple(OBJECTS))]
    stretched, padded = (decode(files, options.size, rule) for rule in ("stretch", "pad"))
    contents = decode([white(file) for file in files], options.size, "pad").min(axis=-1) > 127
    chosen = np.random.default_rng(7).permutation(len(files) ** 2)[: 400 // (4 if options.quick else 1)]
    pairs = np.stack([chosen // len(files), chosen % len(files)])
    fractions = 1 - contents.mean(axis=(1, 2))
    difference = np.abs(fractions[pairs[0]] - fractions[pairs[1]])
    results = {}
    for name, style in STYLES.items():
        for rule, images in (("stretch", stretched), ("pad", padded)):
            styles = other_scanner(images)
            masks = contents if rule == "pad" else np.ones_like(contents)
            errors = []
            for source, target in pairs.T:
                restyled = np.asarray(style(images[source : source + 1], styles[target : target + 1]))[0]
                means = restyled[masks[source]].mean(), styles[target][masks[target]].mean()
                errors.append(abs(means[0] - means[1]))
            for group, (low, high) in GROUPS.items():
                rows = (difference >= low) & (difference <= high)
                value = round(float(np.mean(np.array(errors)[rows])), 1)
                results[f"{name}_{rule}_{group}"] = value
                print(f"{name:20} {rule:8} {group:10} {rows.sum():4} pairs  {value:5.1f} levels")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
