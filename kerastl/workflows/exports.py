"""Write the exports of a run, and check that the predictions of its model and exports agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl import export, registry
from kerastl import recipe as recipes
from kerastl.console import print_status, status
from kerastl.data import ImageDataset, Record
from kerastl.data.convert import UnreadableError, read_image
from kerastl.data.records import evenly_spaced
from kerastl.errors import PermanentFailure, RunFailed, pluralize
from kerastl.evaluation import decode_twice
from kerastl.evaluation.inference import compare_passes
from kerastl.report import write_report
from kerastl.runs import Freeze, Run
from kerastl.workflows.datasets import VALIDATION, Datasets

MAX_IMAGES = 32
"""Enough for all file types, and few enough to take seconds."""


def write_exports(options: recipes.Export, class_names: Sequence[str], run: Run) -> dict[str, Path]:
    """Export the model of an evaluated run. An intact export of the same model is kept.

    Args:
        options: Formats and postprocessing. Options that this run cannot provide are reported and ignored.
        class_names: Class names in the order of the logits.
        run: The run folder with model and scores.

    Returns:
        The folder of each export, by format.
    """
    exports: dict[str, Path] = {}
    if not options.formats:
        return exports
    postprocessing = export.PostprocessingOptions(options.temperature, options.prevalence, options.threshold)
    _, problems = export.resolve_postprocessing(run.path, class_names, postprocessing)
    for problem in problems:
        print_status(f"The export ignores {problem}")
    for name in options.formats:
        is_offered = options.quantize in registry.quantize_choices(name)
        quantize = options.quantize if is_offered else None
        with_resize = options.with_resize and registry.can_resize(name)
        with status(f"Exporting to {name}"):
            exports[name] = export.export_once(
                run.path, name, options=postprocessing, quantize=quantize, with_resize=with_resize
            )
        if quantize is not None:
            _print_changes(exports[name], quantize)
    return exports


def _print_changes(folder: Path, quantize: str) -> None:
    """Print how quantization changed the predictions for the test images beyond the bounds."""
    conversion: dict[str, Any] = export.read_manifest(folder).conversion or {}
    for split, effect in conversion.get("effect", {}).items():
        if effect["changed"]:
            print_status(
                f"Warning: {quantize} changed the predictions on {split}: {'; '.join(effect['changed'])}. kerastl verify "
                f'reports "changed" for {folder}'
            )


@dataclass(frozen=True)
class Sample:
    """The images for the consistency checks.

    Args:
        dataset: Images of all file types, spread over the splits.
        decodings: Their pixels, decoded twice, each `[n, height, width, 3]` float32 in [0, 255]; None without
            images.
        split: `validation`, or `training` if there are no validation images.
        without_file: Number of images that are not stored as individual files.
        checks_model: Whether the model is also checked. Without validation images, only exports are checked.
    """

    dataset: ImageDataset
    decodings: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None
    split: str
    without_file: int
    checks_model: bool


def decode_sample(datasets: Datasets) -> Sample:
    """Select and decode the images that all consistency checks share.

    Args:
        datasets: All images. No test image is opened.
    """
    validation = datasets.in_split(*VALIDATION)
    # With source.model, there may be no validation images. The target's training images are also suitable.
    adapted_to = [] if datasets.has_source else datasets.target_training_records
    records = validation or adapted_to or datasets.in_split("train", "target_train")
    files = [record for record in records if record.file.is_file()]
    files.sort(key=lambda record: record.file.suffix.lower())  # so that the sample has all file types
    # Without a cache, because it would return the first decoding twice.
    dataset = replace(datasets, cache="none").dataset(evenly_spaced(files, MAX_IMAGES))
    return Sample(
        dataset,
        decode_twice(dataset) if files else None,
        split="validation" if validation else "training",
        without_file=len(records) - len(files),
        checks_model=bool(validation or adapted_to),
    )


def check_consistency(
    model: keras.Model,
    sample: Sample,
    freeze_reports: Sequence[dict[str, Any]],
    exports: Mapping[str, Path],
    run: Run,
    *,
    candidate_faults: Sequence[str] = (),
) -> None:
    """Check that predictions are deterministic and equal to those of the exports, and write the results to `freeze.json`.

    Args:
        model: The final model.
        sample: The images of the check.
        freeze_reports: The freeze check of each phase.
        exports: The folder of each export, by format.
        run: The run folder. If a check fails, the report is written here.
        candidate_faults: Failed checks of candidates.

    Raises:
        PermanentFailure: A check failed. All files are kept.
    """
    compared = f" and of its {pluralize(len(exports), 'export')}" if exports else ""
    with status(f"Checking the predictions of the model{compared}"):
        faults = [*candidate_faults, *check_run(model, sample, run, freeze_reports, exports)]
    if faults:
        write_report(run.path)
        raise PermanentFailure(
            f"{pluralize(len(faults), 'consistency check')} failed:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nAll files are kept, and {run.file(Freeze.FILE)} contains the results. "
            "Do not serve this model before the cause is known."
        )


def check_run(
    model: keras.Model,
    sample: Sample,
    run: Run,
    freeze_reports: Sequence[dict[str, Any]],
    exports: Mapping[str, Path],
) -> list[str]:
    """Check one run or candidate, write `freeze.json`, and return its faults, each with its location.

    Args:
        model: The model with its weights.
        sample: The images of the check.
        run: Its run folder.
        freeze_reports: The freeze check of each phase.
        exports: The folder of each export, by format.
    """
    skipped: dict[str, Any] = {
        "images": 0, "reason": "there are no validation images", "faults": [],
    }  # fmt: skip
    determinism, logits = skipped, None
    if sample.decodings is not None and (sample.checks_model or exports):
        records = sample.dataset.records
        paths = [record.path for record in records]
        determinism, logits = compare_passes(
            model, sample.decodings, paths, batch_size=sample.dataset.batch_size
        )
    determinism = determinism if sample.checks_model else skipped
    comparisons = _compare_exports(sample, logits, run, exports)
    content = {"phases": freeze_reports, "determinism": determinism, "exports": comparisons}
    Freeze.model_validate(content).write(run.path)
    checks = {"determinism": determinism} | {f"export {name}": check for name, check in comparisons.items()}
    return [
        f"{run.path.name}, {name}: {fault}" for name, check in checks.items() for fault in check["faults"]
    ]


def _compare_exports(
    sample: Sample, logits: np.ndarray[Any, Any] | None, run: Run, exports: Mapping[str, Path]
) -> dict[str, Any]:
    """Return the comparison of each export with the model of the run, by format."""
    records = sample.dataset.records
    check: dict[str, Any] = {
        "split": sample.split, "files": len(records), "without_file": sample.without_file,
    }  # fmt: skip
    if sample.decodings is None or logits is None:
        reason = "no image is a file of its own"
        return {name: {**check, "reason": reason, "faults": []} for name in exports}
    if not exports:
        return {}
    inputs = {
        "encoded": _read_files(records, sample.dataset.max_pixels),
        "pixels": sample.decodings[0],
        "logits": logits,
    }
    return {
        name: check | _compare_export(run, export.ExportFolder(folder, name), inputs)
        for name, folder in exports.items()
    }


def _compare_export(run: Run, written: export.ExportFolder, inputs: dict[str, Any]) -> dict[str, Any]:
    if written.format_name == export.PORTABLE:
        return {"reason": "no export in this format, or one that does not predict", "faults": []}
    folder = written.folder.relative_to(run.path).as_posix()
    return {"folder": folder, **export.compare_with_run(written, **inputs)}


def _read_files(records: Sequence[Record], max_pixels: int) -> tuple[bytes, ...]:
    """Return the encoded images as a client sends them. Raise RunFailed if a file changed during the run."""
    encoded = []
    for record in records:
        try:
            encoded.append(read_image(record.file, max_pixels=max_pixels))
        except UnreadableError as error:
            raise RunFailed(f"{record.path} can no longer be read: {error}") from error
    return tuple(encoded)
