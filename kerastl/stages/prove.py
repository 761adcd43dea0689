"""Prove what a run ends with: two passes give the same bytes, and an export sees the pictures as the run did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl import export
from kerastl.adaptation.choosing import SOURCE_ONLY
from kerastl.data import Record
from kerastl.errors import RunFailed, WouldFailAgain
from kerastl.evaluation import load_trained, predict, two_passes
from kerastl.progress import say
from kerastl.recipe import Recipe
from kerastl.report import write_report
from kerastl.runs import Run
from kerastl.stages.methods import candidates
from kerastl.stages.phases import target_pool
from kerastl.stages.pictures import Pictures

SHEET = "freeze.json"
MOST_FILES = 16
"""Files that each export is given; enough for every kind of picture, few enough to be over in seconds."""
VALIDATION = ("val", "target_val")
TRAINING = ("train", "target_train")


def prove(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> None:
    """Make the proofs that need the trained model, and add them to `freeze.json`. No test picture is opened.

    A run inside the run is proven, too, and marked as finished; it has no exports.

    Args:
        recipe: names the formats; their exports are written.
        model: with its final weights.
        pictures: validation pictures are predicted twice; files of some go through each export.
        run: its page is written here where a proof fails, as the runner then writes none.

    Raises:
        WouldFailAgain: a proof does not hold. All that was finished is kept, the sheet with the fault, too.
    """
    faults = []
    for name in (SOURCE_ONLY, *(one.name for one in candidates(recipe)[1:])):
        inner = Run(run.file("runs") / name)
        if inner.file("model.json").is_file():  # not where training broke down
            found = _prove_one(recipe, load_trained(inner.path).model, pictures, inner, ())
            write_report(inner.path)
            if not found:
                inner.finish()
            faults += found
    faults += _prove_one(recipe, model, pictures, run, recipe.export.formats)
    if faults:
        write_report(run.path)
        raise WouldFailAgain(
            f"{len(faults)} of the proofs of this run did not hold:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nEverything that was finished is kept, the proofs are in {run.file(SHEET)}. "
            "Do not serve this model before the cause is found."
        )


def _prove_one(
    recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run, formats: Sequence[str]
) -> list[str]:
    """Write the sheet of one run; return its faults, each with where it was found."""
    records = [record for split in VALIDATION for record in pictures.of(split)]
    # A run that adapts a model which was trained elsewhere has no phase of its own to write a sheet of.
    sheet = run.read_json(SHEET) if run.file(SHEET).is_file() else {"phases": []}
    # A model that came without pictures may have none for validation; those that it was adapted to serve as well.
    instead = target_pool(pictures) if recipe.source is not None else []
    sheet["two_passes"] = _passes(recipe, model, pictures, run, records or instead)
    sheet["exports"] = _exports(recipe, model, pictures, run, formats, records, instead)
    run.write_json(SHEET, sheet)
    where = {"two passes": sheet["two_passes"]}
    where |= {f"export {name}": told for name, told in sheet["exports"].items()}
    return [
        f"{run.path.name}, {name}: {one}" for name, told in where.items() for one in told["faults"]
    ]


def _passes(
    recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run, records: Sequence[Record]
) -> dict[str, Any]:
    if not records:
        return {"pictures": 0, "reason": "there are no validation pictures", "faults": []}
    say(f"Proof of {run.path.name}: {len(records):,} pictures are predicted twice")
    return two_passes(model, lambda: pictures.source_of(recipe, records))


def _exports(
    recipe: Recipe,
    model: keras.Model,
    pictures: Pictures,
    run: Run,
    formats: Sequence[str],
    validation: Sequence[Record],
    instead: Sequence[Record],
) -> dict[str, Any]:
    """Return what became of the files of some pictures in each export, by format."""
    if not formats:
        return {}
    records = validation or [record for split in TRAINING for record in pictures.of(split)]
    records = records or instead
    chosen = _spread([record for record in records if record.file.is_file()])
    told: dict[str, Any] = {
        "split": "validation" if validation else "training",
        "files": len(chosen),
        "without_file": sum(not record.file.is_file() for record in records),
    }
    if not chosen:
        reason = "no picture lies as a file of its own"
        return {name: {**told, "reason": reason, "faults": []} for name in formats}
    source = pictures.source_of(recipe, chosen)
    asked = {
        "encoded": _encoded(chosen, recipe.data.max_pixels),
        "pixels": np.concatenate([images.numpy() for images, _ in source.batches(0)]),
        "probabilities": predict(model, source).probabilities,
    }
    say(f"Proof of {run.path.name}: {len(chosen)} files are given to {', '.join(formats)}")
    return {name: told | _compared(run, name, asked) for name in formats}


def _compared(run: Run, format_name: str, asked: dict[str, Any]) -> dict[str, Any]:
    written = run.file(export.EXPORTS) / format_name
    converted = export.find_converted(written)
    if converted is not None:
        return {
            "folder": converted.folder.relative_to(run.path).as_posix(),
            **export.compare_converted(
                converted, pixels=asked["pixels"], probabilities=asked["probabilities"]
            ),
        }
    folder = export.find_export(written)
    if folder is None:
        return {"reason": "no export that answers for pictures", "faults": []}
    return {
        "folder": folder.relative_to(run.path).as_posix(),
        **export.compare_with_run(folder, **asked),
    }


def _spread(records: Sequence[Record]) -> list[Record]:
    """Return up to `MOST_FILES` records, spread evenly over the kinds of file and the order of the data."""
    ordered = sorted(records, key=lambda record: record.file.suffix.lower())
    count = min(MOST_FILES, len(ordered))
    places = dict.fromkeys(round(place) for place in np.linspace(0, len(ordered) - 1, count))
    return [ordered[place] for place in places]


def _encoded(records: Sequence[Record], max_pixels: int) -> tuple[bytes, ...]:
    """Return the files as a server would be sent them.

    Raises:
        RunFailed: a file changed while the run went on.
    """
    found = export.read_probe_pictures([record.file for record in records], max_pixels=max_pixels)
    if found.problems:
        raise RunFailed(f"A picture can no longer be read: {found.problems[0]}")
    return found.encoded
