"""Open a run folder and write its recipe, versions, history and model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastl import recipe as recipes
from kerastl import runs
from kerastl.console import format_duration, print_status
from kerastl.errors import PermanentFailure, RequestError, pluralize, report_damage
from kerastl.evaluation.trained_model import fingerprint
from kerastl.recipe import Recipe, diff_recipes
from kerastl.recipe.phase import MONITORS
from kerastl.runs import RESOLVED_RECIPE, START_AGAIN, VERSIONS, Freeze, ModelDescription, Run, refuse_changes
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel

SPLIT_COLUMNS = ("path", "label", "split", "group", "domain")
"""Attributes of a record that `split.csv` lists."""


CONFIDENTIAL = (
    "This folder contains paths, groups and images of its data, and is as confidential as the data. "
    "The folder export/ contains none of them.\n"
)


@contextmanager
def open_run(name: str, out: Path | None, recipe_text: str, *, resume: bool) -> Iterator[Run]:
    """Create a run folder, or open an unfinished one, lock it against other processes, and write the recipe.

    If a new run is rejected before it starts, everything that was created is removed.

    Args:
        name: Name of the recipe.
        out: The run folder; None for the next free `runs/<name>-<n>`.
        recipe_text: The recipe as YAML, the first file of a run. It is not written to a run that has started.
        resume: Whether to open an unfinished run. A run that was killed before it started is started.

    Raises:
        RequestError: The folder is in use or cannot be written, or there is no run to resume.
    """
    created = _missing_folders(out if out is not None else Path("runs"))
    run = runs.find_unfinished_run(name, out) if resume else runs.create_run(name, out)
    if out is None and not resume:
        created.insert(0, run.path)
    is_new = runs.is_new_or_empty(run.path)
    runs.create_folder(run.path)
    with run.locked(resume=resume):
        if not run.started:
            if resume:
                print_status(f"{run.path} has nothing to resume. Starting from the beginning.")
            runs.write_atomic(run.file(RESOLVED_RECIPE), recipe_text)
        try:
            yield run
        except (RequestError, PermanentFailure):
            raise  # resuming would fail in the same way
        except BaseException:
            if run.started:
                print_status(f"Finished work is kept. To resume: {run.resume_command}")
            raise
        finally:
            # Under the lock, because another process may start a run in a folder of the same name.
            if is_new and not run.started:
                _remove_created(run, created)


def _missing_folders(path: Path) -> list[Path]:
    """Return the folders in a path that do not exist, deepest first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def _remove_created(run: Run, created: list[Path]) -> None:
    """Empty a run folder that was empty before, and remove the folders that were created."""
    for path in run.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in created:
        with suppress(OSError):  # not empty: it contains another run
            folder.rmdir()


def set_determinism(seed: int) -> None:
    """Make all operations deterministic, and seed the generators for initial weights."""
    keras.utils.set_random_seed(seed)
    # Some keras-cv layers use the global generator, which TensorFlow does not create if operations are deterministic.
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    tf.config.experimental.enable_op_determinism()


def write_start(recipe: Recipe, initial: InitialModel, datasets: Datasets, run: Run, *, resume: bool) -> None:
    """Write the resolved recipe, versions, split and notes.

    A resumed run is compared with its recipe and versions. Its other files are written again, in case they were edited.

    Args:
        recipe: The resolved recipe.
        initial: The initial model.
        datasets: All images.
        run: The run folder.
        resume: Whether the run is resumed.

    Raises:
        RequestError: The recipe, the data or the weights of a resumed run have changed.
    """
    text = recipes.write(recipe)
    versions = _versions(initial, datasets)
    if resume:
        with report_damage(run.file(VERSIONS), START_AGAIN):
            _check_unchanged(text, versions, run)
    runs.write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
    rows = ([getattr(record, column) for column in SPLIT_COLUMNS] for record in datasets.records)
    runs.write_csv(run.file("split.csv"), SPLIT_COLUMNS, rows)
    runs.write_csv(run.file("quarantine.csv"), ("path", "reason"), datasets.quarantined)
    run.write_json("notes.json", [*datasets.notes, *initial.notes])
    if not resume:
        runs.write_atomic(run.file(RESOLVED_RECIPE), text)
        run.write_json(VERSIONS, versions)  # last: see Run.started


def _versions(initial: InitialModel, datasets: Datasets) -> dict[str, Any]:
    return {
        "packages": runs.package_versions(),
        "machine": runs.machine_info(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "op_determinism": True,
        "seed": datasets.seed,
        "weights": initial.weights,
        "head": {"outcome": initial.head.outcome, "carried": list(initial.head.carried)},
        "data_sha256": datasets.fingerprints,
    }


def _check_unchanged(text: str, versions: dict[str, Any], run: Run) -> None:
    """Raise RequestError if the recipe, the data or the weights have changed; warn about other package versions."""
    old_text = run.file(RESOLVED_RECIPE).read_text(encoding="utf-8")
    old_versions = run.read_json(VERSIONS)
    changes = diff_recipes(old_text, text)
    if not changes and old_text != text:
        changes = [f"{run.file(RESOLVED_RECIPE)} was edited"]
    for key, what in (("data_sha256", "the images or labels"), ("weights", "the initial weights")):
        if old_versions[key] != versions[key]:
            changes.append(f"{what} have changed")
    refuse_changes(run.path, changes)
    _warn_about_packages(old_versions["packages"], versions["packages"])


def _warn_about_packages(old: dict[str, str], new: dict[str, str]) -> None:
    changes = [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changes:
        print_status(
            f"Warning: package versions have changed since the run started: {', '.join(changes)}. "
            "The results may differ from those of an uninterrupted run."
        )


def write_description(datasets: Datasets, weights: str, temperature: float | None, run: Run) -> None:
    """Write `model.json`, the last file of an evaluation.

    A model without it is refused, because its probabilities would lack the temperature.

    Args:
        datasets: All images.
        weights: The `weights_fingerprint` of the model.
        temperature: The divisor of its logits; None for 1.
        run: The run folder.
    """
    description = ModelDescription(
        class_names=datasets.class_names,
        image_size_px=datasets.image_size_px,
        resize=datasets.resize,
        window=datasets.window,
        max_pixels=datasets.max_pixels,
        data_root=datasets.root,
        target_root=datasets.target_root,
        temperature=temperature,
    )
    description.model_copy(update={"fingerprint": fingerprint(weights, description)}).write(run.path)


def write_network(model: keras.Model, file: Path) -> None:
    """Write a model to a `.keras` file, without the optimizer."""
    with runs.atomic_path(file) as part:
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(part)


def write_history(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write `history.jsonl`, one epoch per line."""
    lines = (json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
    runs.write_atomic(run.file("history.jsonl"), "".join(lines))


def write_freeze_reports(run: Run, freeze_reports: Sequence[dict[str, Any]]) -> Freeze:
    """Write `freeze.json`, with one entry per phase, and return its contents."""
    freeze = Freeze.model_validate({"phases": freeze_reports})
    freeze.write(run.path)
    return freeze


def epoch_line(row: dict[str, Any], timing: dict[str, Any], num_epochs: int) -> str:
    """Return the line that is printed after an epoch."""
    custom = (name for name in row if name.startswith("val_") and name not in MONITORS)
    names = ("loss", "val_loss", "val_balanced_accuracy", "val_auc", *custom)
    metrics = [f"{name} {row[name]:.3f}" for name in names if row.get(name) is not None]
    times = [
        f"{timing['seconds']:.1f} s", f"{timing['images_per_s']:.0f} images/s", *_remaining_time(timing),
    ]  # fmt: skip
    return f"  epoch {row['epoch']}/{num_epochs}  {row['phase']}: {', '.join(metrics)}  ({', '.join(times)})"


def _remaining_time(timing: dict[str, Any]) -> Iterator[str]:
    if timing["seconds_left"] > 0:
        at_most = "at most " if timing["at_most"] else ""
        yield f"{at_most}{format_duration(timing['seconds_left'])} left"
    if timing["untimed"]:
        first, *others = timing["untimed"]
        yield f"then {first}" + (f" and {pluralize(len(others), 'more phase')}" if others else "")
