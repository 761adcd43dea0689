"""Does an export see the pictures of a run as the run saw them, and answer the same?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError, first_line
from kerastl.export.findings import SAME_ANSWER
from kerastl.export.manifest import read_manifest
from kerastl.export.outside import check_graph
from kerastl.export.served_pixels import outputs_and_pixels

Array = np.ndarray[Any, Any]
UNNAMED = "the graph does not say where its pixels are: answers alone were compared"


def compare_with_run(
    export: Path, encoded: Sequence[bytes], *, pixels: Array, probabilities: Array
) -> dict[str, Any]:
    """Give an export the files of pictures, and compare with what the run made of the same files.

    Args:
        export: the numbered folder.
        encoded: at least one whole picture file.
        pixels: `[n, size, size, 3]` float32, as the run's pipeline hands them to its model.
        probabilities: `[n, classes]`, the run's own answers; the export may tell them at a temperature and for another
            prevalence, as its manifest says.

    Returns:
        `{"pixels": {"compared", "differ", "largest_difference"}, "answers": {"differ", "largest_difference",
        "allowed"}, "faults"}`. Pixels are read out of the served graph and must be equal to the bit; a
        difference of answers may be up to `allowed`. `differ` counts pictures. Either is None where the
        export gave none.
    """
    import tensorflow as tf

    report: dict[str, Any] = {"pixels": None, "answers": None, "faults": []}
    faults: list[str] = report["faults"]
    try:
        manifest = read_manifest(export)
        check_graph(export)
        outputs, served = outputs_and_pixels(export, encoded)
    except (RequestError, OSError, ValueError, tf.errors.OpError) as error:
        faults.append(f"it gives no predictions for images of the run: {first_line(error)}")
        return report
    names = tuple(name.decode(errors="replace") for name in outputs["class_names"][0])
    if names != manifest.class_names:
        faults.append(f"its classes are {list(names)}, the run's {list(manifest.class_names)}")
    expected = manifest.how.applied(probabilities)
    report["answers"] = _answers(outputs["probabilities"], expected, faults)
    report["pixels"] = _pixels(served, pixels, faults)
    return report


def _pixels(served: Array | None, pixels: Array, faults: list[str]) -> dict[str, Any]:
    if served is None:
        return {"compared": False, "reason": UNNAMED}
    if served.shape != pixels.shape:
        faults.append(f"its pixels are {served.shape}, the run's {pixels.shape}")
        return {"compared": True, "differ": len(pixels), "largest_difference": None}
    gaps = np.abs(served - pixels).max(axis=(1, 2, 3))
    differ = int(np.count_nonzero(gaps))
    if differ:
        faults.append(
            f"its graph makes other pixels than the run's pipeline of {differ} of {len(gaps)} files, by up to "
            f"{gaps.max():.3g} of 255: window, resizing or colours"
        )
    return {"compared": True, "differ": differ, "largest_difference": float(gaps.max())}


def _answers(answers: Array, expected: Array, faults: list[str]) -> dict[str, Any]:
    if answers.shape != expected.shape:
        faults.append(f"its probabilities are {answers.shape}, the run's {expected.shape}")
        return {"differ": len(expected), "largest_difference": None, "allowed": SAME_ANSWER}
    gaps = np.abs(answers - expected).max(axis=1)
    differ = int(np.count_nonzero(~(gaps <= SAME_ANSWER)))
    largest = float(gaps.max()) if np.isfinite(gaps).all() else None
    if differ:
        faults.append(
            f"its probabilities differ from the run's for {differ} of {len(gaps)} files, by up to "
            f"{gaps.max():.2g}, and {SAME_ANSWER:g} is allowed"
        )
    return {"differ": differ, "largest_difference": largest, "allowed": SAME_ANSWER}
