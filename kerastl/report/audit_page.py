"""A page of images about an audit: for each harmful finding, changed images beside what they were taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.audit import Audit, Finding, Trial, lines, options_in_words
from kerastl.report.figures import png_url
from kerastl.report.run_report import environment
from kerastl.runs import write_atomic

Array = np.ndarray[Any, Any]

SHOWN = 6
"""Images of each finding."""
SIDE_PX = 128
MOST_FINDINGS = 40


def write_audit_sheet(
    file: Path,
    audit: Audit,
    *,
    paths: Sequence[str],
    labels: Sequence[str],
    images: Array,
    change: Callable[[Trial, int], Array],
) -> Path:
    """Write the page; it loads nothing and holds images and paths of the data.

    Args:
        file: an HTML file.
        audit: what was found.
        paths, labels: of each image.
        images: `[n, size, size, 3]` uint8.
        change: gives the images changed by a trial for a draw, as `images`.
    """
    findings = [one for verdict in audit.verdicts for one in verdict.findings]
    changed: dict[Trial, Array] = {}
    told = []
    for finding in findings[:MOST_FINDINGS]:
        if finding.trial not in changed:
            changed.clear()
            changed[finding.trial] = change(finding.trial, 0)
        told.append(_finding(finding, audit, paths, labels, images, changed[finding.trial]))
    page = (
        environment()
        .get_template("audit.html")
        .render(text="\n".join(lines(audit)), findings=told, left_out=max(0, len(findings) - MOST_FINDINGS))
    )
    write_atomic(file, page)
    return file


def _finding(
    finding: Finding, audit: Audit, paths: Sequence[str], labels: Sequence[str], images: Array, changed: Array
) -> dict[str, Any]:
    """Return the rows of one finding: original, changed, and the untouched image of the other class nearest to it.

    The worst are those whose changed version is nearest, pixel by pixel of a small copy, to the other class
    compared with their own.
    """
    source, target = (audit.class_names[one] for one in (finding.pair.source, finding.pair.target))
    own = [row for row, label in enumerate(labels) if label == source]
    other = [row for row, label in enumerate(labels) if label == target]
    to_other = _distances(changed[own], images[other])
    to_own = _distances(changed[own], images[own])
    np.fill_diagonal(to_own, np.inf)
    order = np.argsort(to_other.min(axis=1) - to_own.min(axis=1), kind="stable")[:SHOWN]
    rows = [
        {
            "path": paths[own[place]],
            "original": _png(images[own[place]]),
            "changed": _png(changed[own[place]]),
            "nearest": _png(images[other[int(to_other[place].argmin())]]),
        }
        for place in order
    ]
    return {
        "name": finding.trial.name,
        "strength": f"{finding.trial.strength:g}",
        "options": options_in_words(finding.trial),
        "kind": finding.kind,
        "source": source,
        "target": target,
        "rows": rows,
    }


def _distances(some: Array, others: Array) -> Array:
    """Return squared distances `[some, others]` between small copies of images."""
    first, second = _small(some), _small(others)
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    found: Array = squares - 2 * first @ second.T
    return found


def _small(images: Array) -> Array:
    step = max(1, images.shape[1] // 16)
    return images[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)


def _png(image: Array) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    return png_url(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))
