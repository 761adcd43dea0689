"""Write down what a run was asked, what it was given, and the model it ends with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from kerastl import recipe as recipes
from kerastl.console import say
from kerastl.errors import RequestError, WouldFailAgain
from kerastl.recipe import Recipe
from kerastl.runs import (
    BEGUN,
    Run,
    machine,
    new_run,
    package_versions,
    sweep,
    unfinished_run,
    whole_file,
    write_atomic,
    write_csv,
)
from kerastl.stages.differences import differences
from kerastl.stages.model import Start
from kerastl.stages.pictures import Pictures

CONFIDENTIAL = (
    "This folder holds paths, groups and pictures of its data: it is as confidential as they are. "
    "What lies in export/ holds none of them.\n"
)


@contextmanager
def open_run(name: str, out: Path | None, *, resume: bool) -> Iterator[Run]:
    """Hold a new run folder, or the one to go on with, against other writers.

    Where nothing began in it, because the request turned out wrong, all that was made is taken away again.

    Raises:
        RequestError: the folder is taken, cannot be written, or there is nothing to resume.
    """
    made = _missing(out if out is not None else Path("runs"))
    run = unfinished_run(name, out) if resume else new_run(name, out)
    if out is None and not resume:
        made.insert(0, run.path)
    with run.locked():
        if run.finished:
            raise RequestError(f"{run.path} is finished: there is nothing to resume.")
        if resume:
            sweep(run.path, but_below=BEGUN)
        try:
            yield run
        except (RequestError, WouldFailAgain):
            raise  # to go on would end the same way
        except BaseException:
            if run.file(BEGUN).is_file():
                say(f"What was finished is kept. Go on with: {run.resume_command}")
            raise
        finally:
            # Inside the lock: what another process began in a folder of the same name is not ours.
            if not run.file(BEGUN).is_file():
                _take_away(run, made)


def _missing(path: Path) -> list[Path]:
    """Return a folder and those above it that do not exist yet, the deepest first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def _take_away(run: Run, made: list[Path]) -> None:
    """Empty a run folder, which was empty before, and remove the folders that were made for it."""
    for path in run.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in made:
        with suppress(OSError):  # another run lies in it by now
            folder.rmdir()


def make_repeatable(seed: int) -> None:
    """Make every operation deterministic, and seed the generators that first weights are drawn from."""
    keras.utils.set_random_seed(seed)
    # Some layers of keras-cv ask for the global generator, which TensorFlow does not make by itself once operations are deterministic.
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    tf.config.experimental.enable_op_determinism()


def resolved(recipe: Recipe, pictures: Pictures) -> Recipe:
    """Return the recipe with everything filled in that the data or the machine decided."""
    window: recipes.Window | Literal["full"] = "full"
    if pictures.window:
        low, high = pictures.window
        window = recipes.Window(center=(low + high) / 2, width=high - low)
    data = recipe.data.model_copy(
        update={
            "window": window,
            "image_size_px": pictures.image_size_px,
            "cache": pictures.cache,
        }
    )
    return recipe.model_copy(update={"data": data})


def write_beginning(
    recipe: Recipe, start: Start, pictures: Pictures, run: Run, *, resume: bool
) -> None:
    """Write what is known before the first step; a resumed run must agree with what lies there.

    Raises:
        RequestError: the recipe, the data or the weights are not those that the run began with.
    """
    text = recipes.write(resolved(recipe, pictures))
    versions = _versions(recipe, start, pictures)
    if resume:
        _check_same(text, versions, run)
        return
    write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
    write_csv(run.file("split.csv"), SPLIT_HEADER, pictures.split_rows())
    write_csv(run.file("quarantine.csv"), ("path", "reason"), pictures.quarantined)
    run.write_json("versions.json", versions)
    run.write_json("notes.json", [*pictures.notes, *start.notes])
    write_atomic(run.file(BEGUN), text)


SHOWN = 10
SPLIT_HEADER = ("path", "label", "split", "group", "domain")


def _versions(recipe: Recipe, start: Start, pictures: Pictures) -> dict[str, Any]:
    return {
        "packages": package_versions(),
        "machine": machine(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "op_determinism": True,
        "seed": recipe.seed,
        "weights": start.weights,
        "head": {"outcome": start.head.outcome, "carried": list(start.head.carried)},
        "data_sha256": pictures.fingerprints,
    }


def _check_same(text: str, versions: dict[str, Any], run: Run) -> None:
    began = run.file(BEGUN).read_text(encoding="utf-8")
    wrong = [f"  {line}" for line in differences(began, text)] if began != text else []
    if not wrong and began != text:
        wrong = [f"  {run.file(BEGUN)} was edited by hand"]
    before = run.read_json("versions.json")
    for name, what in (("data_sha256", "the pictures"), ("weights", "the starting weights")):
        if before[name] != versions[name]:
            wrong.append(f"  {what} are not those it began with")
    if wrong:
        more = [f"  ... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise RequestError(
            f"{run.path} cannot be resumed:\n"
            + "\n".join([*wrong[:SHOWN], *more])
            + "\nStart a run of its own instead."
        )
    _warn_of_other_packages(before["packages"], versions["packages"])


def _warn_of_other_packages(before: dict[str, str], now: dict[str, str]) -> None:
    other = [
        f"{name} {before.get(name, 'not there')} -> {now.get(name, 'not there')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if other:
        say(
            f"Warning: the run began with other packages: {', '.join(other)}. "
            "Its numbers may differ from those of a run in one piece."
        )


def write_model(recipe: Recipe, model: keras.Model, pictures: Pictures, run: Run) -> None:
    """Write `model.keras` and `model.json`, each whole or not at all."""
    write_network(model, run.file("model.keras"))
    run.write_json(
        "model.json",
        {
            "class_names": list(pictures.class_names),
            "image_size_px": pictures.image_size_px,
            "window": list(pictures.window) if pictures.window else None,
            "max_pixels": recipe.data.max_pixels,
            "data_root": str(pictures.root) if pictures.root else None,
            "target_root": str(pictures.target_root) if pictures.target_root else None,
        },
    )


def write_network(model: keras.Model, file: Path) -> None:
    """Write layers and weights to one `.keras` file, without the optimizer: what is served needs none."""
    with whole_file(file) as part:
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(part)


def write_end(run: Run) -> None:
    """Mark a run whose files are all written, and the runs inside it that it made itself, as finished."""
    for path in sorted(run.file("runs").glob("*")):
        inner = Run(path)
        # One with a recipe was run for itself, and marks itself.
        if inner.path.is_dir() and not inner.file(BEGUN).is_file():
            inner.finish()
    run.finish()
