"""Write what others are to serve, in each format that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

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
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.phase_data import candidates, target_training_records


def check_exports(recipe: Recipe) -> None:
    """Check that what a recipe exports can be written on this machine.

    Raises:
        RequestError: a format's packages are missing; the text names the extra.
    """
    export.check_formats(recipe.export.formats)


def write_exports(recipe: Recipe, run: Run) -> None:
    """Export the model of a run that was judged; an export of this very model that is whole already is left alone.

    Args:
        recipe: names the formats and how they answer; what the run cannot give of it is said and left out.
        run: holds model and scores.
    """
    wanted = recipe.export
    options = export.PostprocessingOptions(wanted.temperature, wanted.prevalence, wanted.threshold)
    if not wanted.formats:
        return
    _, problems = export.resolve_postprocessing(run.path, read_description(run.path).class_names, options)
    for problem in problems:
        print_status(f"Export without {problem}")
    for name in wanted.formats:
        offered = wanted.quantize in export.quantize_choices(name)
        quantize = wanted.quantize if offered else None
        export.export_once(run.path, name, options=options, quantize=quantize)


SHEET = "freeze.json"
NUM_IMAGES = 32
"""Enough for every kind of image file, few enough to take seconds."""
VALIDATION = ("val", "target_val")
TRAINING = ("train", "target_train")


@dataclass(frozen=True)
class Sample:
    """The images that a run is checked on.

    Args:
        records: spread over the kinds of file and the order of the data.
        decodings: their pixels, decoded twice, each `[n, size, size, 3]` float32 in [0, 255].
        split: `validation`, or `training` if there are no others.
        without_file: number of candidates that are not a file of their own.
        is_predicted_twice: False for training images: without validation, only exports are checked.
    """

    records: tuple[Record, ...]
    decodings: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None
    split: str
    without_file: int
    is_predicted_twice: bool


def check_consistency(
    recipe: Recipe, model: keras.Model, images: Datasets, run: Run, *, num_images: int = NUM_IMAGES
) -> None:
    """Make the consistency checks of a run and add them to `freeze.json`. No test image is opened.

    A run inside the run is checked too, and marked as finished; it has no exports.

    Args:
        recipe: names the formats; their exports are written.
        model: with its final weights.
        images: validation images are decoded and predicted twice; their files go through each export.
        run: its page is written here if a check fails, because the runner then writes none.
        num_images: images to check, at most.

    Raises:
        PermanentFailure: a check fails. All that was finished is kept, including the report of the fault.
    """
    sample = _sample(recipe, images, num_images)
    faults = []
    for name in (SOURCE_ONLY, *(method.name for method in candidates(recipe)[1:])):
        inner = Run(run.file("runs") / name)
        if inner.file("model.json").is_file():  # not where training broke down
            found = _check_one(recipe, load_trained(inner.path).model, sample, inner, ())
            write_report(inner.path)
            if not found:
                inner.finish()
            faults += found
    faults += _check_one(recipe, model, sample, run, recipe.export.formats)
    if faults:
        write_report(run.path)
        raise PermanentFailure(
            f"{len(faults)} of the consistency checks of this run failed:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nEverything that was finished is kept, the checks are in {run.file(SHEET)}. "
            "Do not serve this model before the cause is found."
        )


def _sample(recipe: Recipe, images: Datasets, num_images: int) -> Sample:
    """Choose and decode the images that the checks share."""
    validation = [record for split in VALIDATION for record in images.in_split(split)]
    # A model that came without images may have none for validation; those that it was adapted to serve as well.
    others = target_training_records(images) if recipe.source is not None else []
    training = [record for split in TRAINING for record in images.in_split(split)]
    records = validation or others or training
    files = [record for record in records if record.file.is_file()]
    chosen = _spread(files, num_images)
    decodings = None
    if chosen:
        # From the files, not from a cache, or the second decoding would be a copy of the first.
        decodings = decode_twice(replace(images, cache="none").dataset(recipe, chosen))
    return Sample(
        tuple(chosen),
        decodings,
        "validation" if validation else "training",
        len(records) - len(files),
        bool(validation or others),
    )


def _check_one(
    recipe: Recipe, model: keras.Model, sample: Sample, run: Run, formats: Sequence[str]
) -> list[str]:
    """Write the checks of one run; return its faults, each with where it was found."""
    # A run that adapts a model which was trained elsewhere has no phase of its own.
    sheet = run.read_json(SHEET) if run.file(SHEET).is_file() else {"phases": []}
    skipped: dict[str, Any] = {
        "images": 0, "reason": "there are no validation images", "faults": [],
    }  # fmt: skip
    passes, logits = skipped, None
    if sample.decodings is not None and (sample.is_predicted_twice or formats):
        print_status(f"Checking {run.path.name} on {len(sample.records)} {sample.split} images")
        paths = [record.path for record in sample.records]
        passes, logits = compare_passes(
            model, sample.decodings, paths, batch_size=recipe.data.known_batch_size
        )
    sheet["two_passes"] = passes if sample.is_predicted_twice else skipped
    sheet["exports"] = _exports(recipe, sample, logits, run, formats)
    run.write_json(SHEET, sheet)
    where = {"two passes": sheet["two_passes"]}
    where |= {f"export {name}": report for name, report in sheet["exports"].items()}
    return [
        f"{run.path.name}, {name}: {fault}" for name, report in where.items() for fault in report["faults"]
    ]


def _exports(
    recipe: Recipe, sample: Sample, logits: np.ndarray[Any, Any] | None, run: Run, formats: Sequence[str]
) -> dict[str, Any]:
    """Return how each export agrees with the run on the files of the sample, by format."""
    report: dict[str, Any] = {
        "split": sample.split,
        "files": len(sample.records),
        "without_file": sample.without_file,
    }
    if sample.decodings is None or logits is None:
        reason = "no image lies as a file of its own"
        return {name: {**report, "reason": reason, "faults": []} for name in formats}
    if not formats:
        return {}
    inputs = {
        "encoded": _encoded(sample.records, recipe.data.max_pixels),
        "pixels": sample.decodings[0],
        "probabilities": softmax(logits.astype(np.float64), axis=1),
    }
    return {name: report | _compared(run, name, inputs) for name in formats}


def _compared(run: Run, format_name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    written = run.file(export.EXPORT_FOLDER) / format_name
    converted = export.find_converted(written)
    if converted is not None:
        return {
            "folder": converted.folder.relative_to(run.path).as_posix(),
            **export.compare_converted(
                converted, pixels=inputs["pixels"], probabilities=inputs["probabilities"]
            ),
        }
    folder = export.find_export(written)
    if folder is None:
        return {"reason": "this format does not predict", "faults": []}
    return {"folder": folder.relative_to(run.path).as_posix(), **export.compare_with_run(folder, **inputs)}


def _spread(records: Sequence[Record], most: int) -> list[Record]:
    """Return up to `most` records, spread evenly over the kinds of file and the order of the data."""
    ordered = sorted(records, key=lambda record: record.file.suffix.lower())
    count = min(most, len(ordered))
    places = dict.fromkeys(round(place) for place in np.linspace(0, len(ordered) - 1, count))
    return [ordered[place] for place in places]


def _encoded(records: Sequence[Record], max_pixels: int) -> tuple[bytes, ...]:
    """Return the files as they would be sent to a server.

    Raises:
        RunFailed: a file changed during the run.
    """
    encoded = []
    for record in records:
        try:
            encoded.append(read_image(record.file, max_pixels=max_pixels))
        except UnreadableError as error:
            raise RunFailed(f"{record.path} can no longer be read: {error}") from error
    return tuple(encoded)
