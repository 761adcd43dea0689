"""Synthetic images of one or two hospitals, recipes for them, and functions that run the command line in or outside this process."""

import contextlib
import csv
import io
import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl.cli import main


def draw(folder: Path, count: int, seed: int, *, light: bool) -> None:
    """Write noisy PNGs; the light ones are brighter in their upper half."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.uniform(0, 150, (40, 36, 3))
        pixels[:20] += 90 * light
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def draw_hospitals(folder: Path, count: int) -> None:
    """Write images of two hospitals, `a` and `b`, `count` of each class."""
    for name, seed in (("a", 1), ("b", 7)):
        draw(folder / name / "dark", count, seed, light=False)
        draw(folder / name / "light", count, seed + 1, light=True)


RECIPE = """
format: 1
seed: 5
data:
  reader: {{name: folder, path: {path}}}
  split: {{val_fraction: 0.2, test_fraction: 0.2}}
  image_size_px: 32
  batch_size: 8
# Exact operations need no compilation, so that a run takes seconds; test_augmented_run.py has compiled ones.
augment:
  exact: true
  operations: [{{name: random_flip}}, {{name: random_brightness, max_fraction: 0.1}}]
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: all, epochs: 2, learning_rate: 1e-3, trainable: all}}
  - {{name: head, epochs: 1, learning_rate: 1e-3, trainable: none}}
export: {{formats: []}}
evaluation: {{resamples: 100}}
"""
TWO_HOSPITALS = """
format: 1
seed: 5
data:
  reader: {{name: folder, path: {source}, group_pattern: '([a-z]+/\\d+)'}}
  split: {{val_fraction: 0.3, test_fraction: 0.2}}
  image_size_px: 32
  batch_size: 8
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: {source_epochs}, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: {epochs}, {adapt}, keep: last}}
target:
  reader: {{name: folder, path: {target}, group_pattern: '([a-z]+/\\d+)'}}
  labels: none
  split: {{val_fraction: 0.0, test_fraction: 0.4}}
adaptation: {{methods: {methods}}}
export: {{formats: []}}
evaluation: {{resamples: 100}}
"""


def two_hospitals_recipe(folder: Path, **values: object) -> str:
    """Return a recipe for the hospitals that `draw_hospitals` draws; it uses no label of `b`.

    Args:
        folder: The folder of the images.
        values: `source_epochs`, `epochs`, `adapt` (options of the target phase) and `methods`.
    """
    return TWO_HOSPITALS.format(source=folder / "a", target=folder / "b", **values)


@dataclass
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def call(*words: object) -> Answer:
    """Call the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert "Traceback" not in err.getvalue()
    return Answer(int(left.value.code or 0), out.getvalue(), err.getvalue())


@dataclass
class Finished:
    """A finished run, its recipe, and what the command printed."""

    path: Path
    recipe: Path
    answer: Answer

    def json(self, name: str) -> dict:
        """Return the content of a JSON file of the run."""
        return json.loads((self.path / name).read_text())

    def rows(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV file of the run."""
        return rows_of(self.path / name)


def run(recipe: Path, out: Path, *words: object) -> Finished:
    """Run a recipe to its end."""
    answer = call("run", recipe, "--out", out, *words)
    assert answer.code == 0, answer.err
    return Finished(out, recipe, answer)


def stop_at(
    monkeypatch: pytest.MonkeyPatch, step: tuple[object, str], *words: object, call_number: int = 1
) -> list[str]:
    """Interrupt a run at the start of `step` as Ctrl-C does, and return the words of the printed command after `kerastl`.

    Args:
        monkeypatch: The fixture.
        step: The object and the name of its function.
        words: The command after `kerastl run`.
        call_number: The call of this function that is interrupted; earlier calls run.
    """
    function, calls = getattr(*step), iter(range(1, call_number))

    def interrupt(*args: object, **kwargs: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(*step, interrupt)
        answer = call("run", *words)
    assert answer.code == 130, answer.err
    (line,) = [line for line in answer.err.splitlines() if " --resume" in line]
    return shlex.split(line[line.index("kerastl run") :])[1:]


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def same_bytes(first: Path, second: Path, names: list[str]) -> None:
    """Assert that files of two folders are equal to the byte."""
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def kill_run_when(checkpoint: Path, recipe: Path, out: Path, *words: str) -> None:
    """Run a recipe in its own process, and kill the process once this checkpoint or a later one exists."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kerastl", "run", str(recipe), "--out", str(out), *words],
        stderr=subprocess.DEVNULL,
    )

    def is_reached() -> bool:
        names = (file.name for file in checkpoint.parent.glob("epoch-*.npz"))
        return any(name >= checkpoint.name for name in names)

    while not is_reached() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists(), "the run ended before it could be killed"
