"""Write the exports of a run, and check that its model and exports predict consistently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerastl import export
from kerastl.adaptation import SOURCE_ONLY
from kerastl.console import print_status
from kerastl.data import Record
from kerastl.data.convert import UnreadableError, read_image
from kerastl.errors import PermanentFailure, RunFailed
from kerastl.evaluation import decode_twice, load_trained, read_description
from kerastl.evaluation.inference import compare_passes
from kerastl.recipe import Recipe
from kerastl.report import write_report
from kerastl.runs import Run
from kerastl.tasks import SINGLE_LABEL
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.phases import candidate_methods, target_training_records

FREEZE_FILE = "freeze.json"
MAX_IMAGES = 32
"""Enough for all file types, and few enough to take seconds."""
VALIDATION = ("val", "target_val")
TRAINING = ("train", "target_train")


def check_exports(recipe: Recipe) -> None:
    """Check that the packages of all export formats are installed.

    Raises:
        RequestError: A package is missing. The message contains the install command.
    """
    export.check_formats(recipe.export.formats)


def write_exports(recipe: Recipe, run: Run) -> None:
    """Export the model of an evaluated run. An intact export of the same model is kept.

    Args:
        recipe: Its `export` section. Options that this run cannot provide are reported and omitted.
        run: The run folder with model and scores.
    """
    options = recipe.export
    postprocessing = export.PostprocessingOptions(options.temperature, options.prevalence, options.threshold)
    if not options.formats:
        return
    class_names = read_description(run.path).class_names
    _, problems = export.resolve_postprocessing(run.path, class_names, postprocessing)
    for problem in problems:
        print_status(f"Export without {problem}")
    for name in options.formats:
        is_offered = options.quantize in export.quantize_choices(name)
        quantize = options.quantize if is_offered else None
        export.export_once(run.path, name, options=postprocessing, quantize=quantize)


@dataclass(frozen=True)
class Sample:
    """The images for the consistency checks.

    Args:
        records: Images of all file types, spread over the dataset.
        decodings: Their pixels, decoded twice, each `[n, size, size, 3]` float32 in [0, 255]; None without images.
        split: `validation`, or `training` if there is no validation image.
        without_file: Number of images that are not a file of their own.
        checks_model: Whether the model is checked, too. Without validation images, only exports are.
    """

    records: tuple[Record, ...]
    decodings: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None
    split: str
    without_file: int
    checks_model: bool


def check_consistency(
    recipe: Recipe, model: keras.Model, datasets: Datasets, run: Run, *, max_images: int = MAX_IMAGES
) -> None:
    """Check that predictions are deterministic and equal to those of the exports, and add the results to `freeze.json`.

    The candidates of an adaptation are checked, too, and marked as finished; they have no exports.

    Args:
        recipe: The recipe.
        model: The final model.
        datasets: All images. No test image is opened.
        run: The run folder, with its exports. If a check fails, the report is written here.
        max_images: Maximum number of images.

    Raises:
        PermanentFailure: A check failed. All files are kept.
    """
    sample = _sample(recipe, datasets, max_images)
    faults = []
    for name in (SOURCE_ONLY, *(method.name for method in candidate_methods(recipe)[1:])):
        inner = Run(run.file("runs") / name)
        if inner.file("model.json").is_file():  # missing if training diverged
            inner_faults = _check_run(recipe, load_trained(inner.path).model, sample, inner, ())
            write_report(inner.path)
            if not inner_faults:
                inner.finish()
            faults += inner_faults
    faults += _check_run(recipe, model, sample, run, recipe.export.formats)
    if faults:
        write_report(run.path)
        raise PermanentFailure(
            f"{len(faults)} consistency checks failed:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nAll files are kept, and {run.file(FREEZE_FILE)} contains the results. "
            "Do not serve this model before the cause is known."
        )


def _sample(recipe: Recipe, datasets: Datasets, max_images: int) -> Sample:
    """Select and decode the images that all checks share."""
    validation = [record for split in VALIDATION for record in datasets.in_split(split)]
    # With source.model there may be no validation images. The images that it was adapted to are suitable, too.
    adapted_to = target_training_records(datasets) if recipe.source is not None else []
    training = [record for split in TRAINING for record in datasets.in_split(split)]
    records = validation or adapted_to or training
    files = [record for record in records if record.file.is_file()]
    selected = _spread(files, max_images)
    decodings = None
    if selected:
        # Without a cache, because it would return the first decoding twice.
        decodings = decode_twice(replace(datasets, cache="none").dataset(selected))
    return Sample(
        tuple(selected),
        decodings,
        split="validation" if validation else "training",
        without_file=len(records) - len(files),
        checks_model=bool(validation or adapted_to),
    )


def _check_run(
    recipe: Recipe, model: keras.Model, sample: Sample, run: Run, formats: Sequence[str]
) -> list[str]:
    """Write the checks of one run, and return its faults, each with its location."""
    # A run with source.model has no freeze checks of its own.
    content = run.read_json(FREEZE_FILE) if run.file(FREEZE_FILE).is_file() else {"phases": []}
    skipped: dict[str, Any] = {
        "images": 0, "reason": "there are no validation images", "faults": [],
    }  # fmt: skip
    determinism, logits = skipped, None
    if sample.decodings is not None and (sample.checks_model or formats):
        print_status(
            f"Checking determinism of {run.path.name} on {len(sample.records)} {sample.split} images"
        )
        paths = [record.path for record in sample.records]
        determinism, logits = compare_passes(
            model, sample.decodings, paths, batch_size=recipe.data.known_batch_size
        )
    content["determinism"] = determinism if sample.checks_model else skipped
    content["exports"] = _compare_exports(recipe, sample, logits, run, formats)
    run.write_json(FREEZE_FILE, content)
    checks = {"determinism": content["determinism"]}
    checks |= {f"export {name}": check for name, check in content["exports"].items()}
    return [
        f"{run.path.name}, {name}: {fault}" for name, check in checks.items() for fault in check["faults"]
    ]


def _compare_exports(
    recipe: Recipe, sample: Sample, logits: np.ndarray[Any, Any] | None, run: Run, formats: Sequence[str]
) -> dict[str, Any]:
    """Return the comparison of each export with the model of the run, by format."""
    check: dict[str, Any] = {
        "split": sample.split,
        "files": len(sample.records),
        "without_file": sample.without_file,
    }
    if sample.decodings is None or logits is None:
        reason = "no image is a file of its own"
        return {name: {**check, "reason": reason, "faults": []} for name in formats}
    if not formats:
        return {}
    inputs = {
        "encoded": _read_files(sample.records, recipe.data.max_pixels),
        "pixels": sample.decodings[0],
        "probabilities": SINGLE_LABEL.probabilities(logits),
    }
    return {name: check | _compare_export(run, name, inputs) for name in formats}


def _compare_export(run: Run, format_name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    folder = run.file(export.EXPORT_FOLDER) / format_name
    converted = export.find_converted(folder)
    if converted is not None:
        return {
            "folder": converted.folder.relative_to(run.path).as_posix(),
            **export.compare_converted(
                converted, pixels=inputs["pixels"], probabilities=inputs["probabilities"]
            ),
        }
    version = export.find_export(folder)
    if version is None:
        return {"reason": "no export in this format, or one that does not predict", "faults": []}
    return {"folder": version.relative_to(run.path).as_posix(), **export.compare_with_run(version, **inputs)}


def _spread(records: Sequence[Record], max_images: int) -> list[Record]:
    """Return up to `max_images` records of all file types, at equal distances."""
    ordered = sorted(records, key=lambda record: record.file.suffix.lower())
    count = min(max_images, len(ordered))
    indices = dict.fromkeys(round(index) for index in np.linspace(0, len(ordered) - 1, count))
    return [ordered[index] for index in indices]


def _read_files(records: Sequence[Record], max_pixels: int) -> tuple[bytes, ...]:
    """Return the encoded images as a client sends them. Raises RunFailed if a file changed during the run."""
    encoded = []
    for record in records:
        try:
            encoded.append(read_image(record.file, max_pixels=max_pixels))
        except UnreadableError as error:
            raise RunFailed(f"{record.path} can no longer be read: {error}") from error
    return tuple(encoded)
