"""The page of an audit: for each harmful effect, augmented images next to images of the class they are predicted as."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.audit import Audited, Finding, Trial, format_lines, format_options
from kerastl.report.figures import png_url, write_page

Array = np.ndarray[Any, Any]

IMAGES_PER_FINDING = 6
SIDE_PX = 128
MAX_FINDINGS = 40


def write_audit_sheet(file: Path, audited: Audited) -> Path:
    """Write the page, a single file that contains images and paths of the data.

    Args:
        file: The HTML file.
        audited: The audit and its images.
    """
    findings = [finding for verdict in audited.result.verdicts for finding in verdict.findings]

    # The findings of a trial follow one another.
    @lru_cache(maxsize=1)
    def augment(trial: Trial) -> Array:
        return audited.augment(trial, 0)

    sections = [_section(finding, audited, augment(finding.trial)) for finding in findings[:MAX_FINDINGS]]
    omitted = max(0, len(findings) - MAX_FINDINGS)
    text = "\n".join(format_lines(audited.result))
    return write_page(file, "audit.html", text=text, findings=sections, omitted=omitted)


def _section(finding: Finding, audited: Audited, augmented: Array) -> dict[str, Any]:
    """Return the rows of one finding: original, augmented, and the nearest original image of the other class.

    The images shown are those whose augmented version is closest to the other class relative to their own, by the
    pixels of small copies.
    """
    names, images = audited.result.class_names, audited.images
    source, target = names[finding.pair.source], names[finding.pair.target]
    own = [row for row, label in enumerate(audited.labels) if label == source]
    other = [row for row, label in enumerate(audited.labels) if label == target]
    to_other = _distances(augmented[own], images[other])
    to_own = _distances(augmented[own], images[own])
    np.fill_diagonal(to_own, np.inf)
    order = np.argsort(to_other.min(axis=1) - to_own.min(axis=1), kind="stable")[:IMAGES_PER_FINDING]
    rows = [
        {
            "path": audited.paths[own[index]],
            "original": _png(images[own[index]]),
            "augmented": _png(augmented[own[index]]),
            "nearest": _png(images[other[int(to_other[index].argmin())]]),
        }
        for index in order
    ]
    return {
        "name": finding.trial.name,
        "strength": f"{finding.trial.strength:g}",
        "options": format_options(finding.trial),
        "kind": finding.kind,
        "source": source,
        "target": target,
        "rows": rows,
    }


def _distances(images: Array, others: Array) -> Array:
    """Return squared distances `[images, others]` between small copies of images."""
    first, second = _small(images), _small(others)
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    distances: Array = squares - 2 * first @ second.T
    return distances


def _small(images: Array) -> Array:
    down, across = (max(1, side // 16) for side in images.shape[1:3])
    return images[:, ::down, ::across].reshape(len(images), -1).astype(np.float32)


def _png(image: Array) -> str:
    from PIL import Image, ImageOps

    return png_url(ImageOps.contain(Image.fromarray(image), (SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))
