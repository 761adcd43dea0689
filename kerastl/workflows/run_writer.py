"""Write down what a run was asked, what it was given, and the model it ends with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from kerastl import recipe as recipes
from kerastl.console import format_duration, print_status
from kerastl.errors import PermanentFailure, RequestError
from kerastl.recipe import Recipe, read_plain, to_yaml
from kerastl.report.tables import rounded_lines
from kerastl.runs import (
    RESOLVED_RECIPE,
    Run,
    append_line,
    atomic_path,
    create_run,
    find_unfinished_run,
    machine_info,
    package_versions,
    remove_partial_files,
    write_atomic,
    write_csv,
)
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.model import InitialModel

LONGEST = 80


def differences(began: str, now: str) -> list[str]:
    """Return a line for each thing that differs, by its dotted key; none where the first is no YAML.

    Args:
        began, now: resolved recipes, as they are written down.
    """
    try:
        old = read_plain(began)
    except ValueError:
        return []
    return list(_of("", old, read_plain(now)))


def _of(key: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            below = f"{key}.{name}" if key else str(name)
            if name not in old:
                yield f"{below}: it began without, now it is {_short(new[name])}"
            elif name not in new:
                yield f"{below}: it began with {_short(old[name])}, now it has none"
            else:
                yield from _of(below, old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(key, old, new)
    else:
        yield f"{key}: it began with {_short(old)}, now it is {_short(new)}"


def _of_lists(key: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Tell which items were put in, taken out or changed: those behind them are the same, at other places."""
    was, is_now = ([json.dumps(one, default=str) for one in items] for items in (old, new))
    parts = SequenceMatcher(None, was, is_now, autojunk=False).get_opcodes()
    for _, first, last, new_first, new_last in parts:
        before, after = old[first:last], new[new_first:new_last]
        if len(before) == len(after):
            for place, pair in enumerate(zip(before, after, strict=True), first):
                yield from _of(f"{key}[{place}]", *pair)
            continue
        for place, one in enumerate(before, first):
            yield f"{key}[{place}]: it began with {_short(one)}, now that is not there"
        for place, one in enumerate(after, new_first):
            yield f"{key}[{place}]: it began without {_short(one)}"


def _short(value: Any) -> str:
    text = to_yaml(value, in_one_line=True)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


CONFIDENTIAL = (
    "This folder holds paths, groups and images of its data: it is as confidential as they are. "
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
    run = find_unfinished_run(name, out) if resume else create_run(name, out)
    if out is None and not resume:
        made.insert(0, run.path)
    with run.locked():
        if run.finished:
            raise RequestError(f"{run.path} is finished: there is nothing to resume.")
        if resume:
            remove_partial_files(run.path, skip_folders_with=RESOLVED_RECIPE)
        try:
            yield run
        except (RequestError, PermanentFailure):
            raise  # to go on would end the same way
        except BaseException:
            if run.file(RESOLVED_RECIPE).is_file():
                print_status(f"What was finished is kept. Go on with: {run.resume_command}")
            raise
        finally:
            # Inside the lock: what another process began in a folder of the same name is not ours.
            if not run.file(RESOLVED_RECIPE).is_file():
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


def set_determinism(seed: int) -> None:
    """Make every operation deterministic, and seed the generators that first weights are drawn from."""
    keras.utils.set_random_seed(seed)
    # Some layers of keras-cv ask for the global generator, which TensorFlow does not make by itself once operations are deterministic.
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    tf.config.experimental.enable_op_determinism()


def resolved(recipe: Recipe, images: Datasets) -> Recipe:
    """Return the recipe with everything filled in that the data or the machine decided."""
    window: recipes.Window | Literal["full"] = "full"
    if images.window:
        low, high = images.window
        window = recipes.Window(center=(low + high) / 2, width=high - low)
    data = recipe.data.model_copy(
        update={"window": window, "image_size_px": images.image_size_px, "cache": images.cache}
    )
    return recipe.model_copy(update={"data": data})


def write_start(recipe: Recipe, start: InitialModel, images: Datasets, run: Run, *, resume: bool) -> None:
    """Write what is known before the first step; a resumed run must agree with what lies there.

    Raises:
        RequestError: the recipe, the data or the weights are not those that the run began with.
    """
    text = recipes.write(resolved(recipe, images))
    versions = _versions(recipe, start, images)
    if resume:
        _check_same(text, versions, run)
        return
    write_atomic(run.file("CONFIDENTIAL.txt"), CONFIDENTIAL)
    write_csv(run.file("split.csv"), SPLIT_HEADER, images.split_rows())
    write_csv(run.file("quarantine.csv"), ("path", "reason"), images.quarantined)
    run.write_json("versions.json", versions)
    run.write_json("notes.json", [*images.notes, *start.notes])
    write_atomic(run.file(RESOLVED_RECIPE), text)


SHOWN = 10
SPLIT_HEADER = ("path", "label", "split", "group", "domain")


def _versions(recipe: Recipe, start: InitialModel, images: Datasets) -> dict[str, Any]:
    return {
        "packages": package_versions(),
        "machine": machine_info(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "op_determinism": True,
        "seed": recipe.seed,
        "weights": start.weights,
        "head": {"outcome": start.head.outcome, "carried": list(start.head.carried)},
        "data_sha256": images.fingerprints,
    }


def _check_same(text: str, versions: dict[str, Any], run: Run) -> None:
    began = run.file(RESOLVED_RECIPE).read_text(encoding="utf-8")
    wrong = [f"  {line}" for line in differences(began, text)] if began != text else []
    if not wrong and began != text:
        wrong = [f"  {run.file(RESOLVED_RECIPE)} was edited by hand"]
    before = run.read_json("versions.json")
    for name, what in (("data_sha256", "the images"), ("weights", "the starting weights")):
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
        print_status(
            f"Warning: the run began with other packages: {', '.join(other)}. "
            "Its numbers may differ from those of a run in one piece."
        )


def write_model(recipe: Recipe, model: keras.Model, images: Datasets, run: Run) -> None:
    """Write `model.keras` and `model.json`, each whole or not at all."""
    write_network(model, run.file("model.keras"))
    run.write_json(
        "model.json",
        {
            "class_names": list(images.class_names),
            "image_size_px": images.image_size_px,
            "window": list(images.window) if images.window else None,
            "max_pixels": recipe.data.max_pixels,
            "data_root": str(images.root) if images.root else None,
            "target_root": str(images.target_root) if images.target_root else None,
        },
    )


def write_network(model: keras.Model, file: Path) -> None:
    """Write layers and weights to one `.keras` file, without the optimizer: what is served needs none."""
    with atomic_path(file) as part:
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(part)


def finish_run(run: Run) -> None:
    """Mark a run whose files are all written, and the runs inside it that it made itself, as finished."""
    for path in sorted(run.file("runs").glob("*")):
        inner = Run(path)
        # One with a recipe was run for itself, and marks itself.
        if inner.path.is_dir() and not inner.file(RESOLVED_RECIPE).is_file():
            inner.finish()
    run.finish()


class Diary:
    """Writes down the epochs and proofs of a training as they come.

    Args:
        run: where the files go.
        total: epochs in all.
    """

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total = run, total

    def on_epoch(self, rows: Sequence[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Take in the history so far, the new epoch last, and how long that took."""
        told = {"epoch": rows[-1]["epoch"], **timing}
        append_line(self._run.file("timings.jsonl"), json.dumps(told))
        write_history(self._run, rows)
        print_status(epoch_line(rows[-1], timing, self._total))

    def on_freeze_report(self, freeze_reports: Sequence[dict[str, Any]]) -> None:
        """Take in the proofs so far, the new one last."""
        write_freeze_reports(self._run, freeze_reports)
        for line in rounded_lines({"phases": freeze_reports[-1:]}):
            print_status(line)
        for warning in freeze_reports[-1]["warnings"]:
            print_status(f"Warning: {warning}")


def write_history(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write `history.jsonl`, one epoch a line."""
    lines = (json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
    write_atomic(run.file("history.jsonl"), "".join(lines))


def write_freeze_reports(run: Run, freeze_reports: Sequence[dict[str, Any]]) -> None:
    """Write `freeze.json`, one entry a phase."""
    run.write_json("freeze.json", {"phases": list(freeze_reports)})


def epoch_line(row: dict[str, Any], timing: dict[str, Any], total: int) -> str:
    """Return one line for people: where training stands."""
    shown = [
        f"{name} {row[name]:.3f}"
        for name in ("loss", "val_loss", "val_balanced_accuracy", "val_auc")
        if row.get(name) is not None
    ]
    times = [f"{timing['seconds']:.1f} s", f"{timing['images_per_s']:.0f} images/s", *_left(timing)]
    return f"  epoch {row['epoch']}/{total}  {row['phase']}: {', '.join(shown)}  ({', '.join(times)})"


def _left(timing: dict[str, Any]) -> Iterator[str]:
    """Yield what is left, in words."""
    if timing["seconds_left"] > 0:
        most = "at most " if timing["at_most"] else ""
        yield f"{most}{format_duration(timing['seconds_left'])} left"
    if timing["untimed"]:
        first, *others = timing["untimed"]
        yield f"then {first}" + (f" and {len(others)} more phases" if others else "")
