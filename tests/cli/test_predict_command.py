"""`kerastl predict`: interrupted, killed and on a full disk in its own process, and with many files."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW, images, model
from tests.workflows.make_runs import Answer, call

__all__ = ["model", "images"]

pytestmark = pytest.mark.slow
ROUNDS = 150
BATCH = ("--batch-size", "4")


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "kerastl", "predict", *map(str, words)]


def predict(*words: Any, code: int = 0) -> Answer:
    """Call the command in this process."""
    answer = call("predict", *words)
    assert answer.code == code, answer.err
    return answer


@pytest.fixture(scope="module")
def run_folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    description = {"class_names": CLASS_NAMES, "image_size_px": SIZE, "window": WINDOW}
    (folder / "model.json").write_text(json.dumps({**description, "max_pixels": MAX_PIXELS}))
    return folder


@pytest.fixture(scope="module")
def names(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 1,200 files, three of which are not images."""
    folder = tmp_path_factory.mktemp("names")
    bad = folder / "=bad.png"
    bad.write_bytes(b"not an image")
    lines = [str(path) for path in images] * ROUNDS
    lines[50::401] = [str(bad)] * len(lines[50::401])
    file = folder / "names.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def whole(run_folder: Path, names: Path) -> Path:
    """The table of a command that was not interrupted."""
    out = names.with_name("whole.csv")
    done = predict(run_folder, "--list", names, "--out", out, *BATCH)
    assert "3 of 1,200 files could not be read." in done.err
    return out


def accept_ctrl_c() -> None:
    """A shell lets background processes ignore Ctrl-C, and so would the processes that a test starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(*words: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True, preexec_fn=accept_ctrl_c)


def wait_for_rows(process: "subprocess.Popen[str]", out: Path) -> None:
    """Wait until some batches are written."""
    rows = out.with_name(f"{out.name}.part") / "rows"
    while not (rows.exists() and rows.read_bytes().count(b"\n") > 12):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_a_killed_command_resumes_to_the_same_bytes(
    run_folder: Path, names: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed.csv"
    words = (run_folder, "--list", names, "--out", out, *BATCH)
    process = started(*words)
    wait_for_rows(process, out)
    process.kill()
    process.communicate()
    assert not out.exists()
    assert "--resume" in predict(*words, code=1).err
    more = tmp_path / "more.txt"
    more.write_text(names.read_text() + "one more.png\n")
    longer = (run_folder, "--list", more, *words[3:], "--resume")
    assert "1,201 files now, 1,200 before" in predict(*longer, code=1).err
    *_, counts, path = predict(*words, "--resume").out.splitlines()
    assert path == f"Wrote {out}"
    with whole.open() as file:
        predicted = Counter(row["predicted"] for row in csv.DictReader(file))
    assert predicted.pop("") == 3
    assert counts.startswith("Predicted 1,197 of 1,200 files (3 could not be read): ")
    assert all(f" {count:,} {name}" in counts for name, count in predicted.items())
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name("killed.csv.part").exists()


def test_ctrl_c_keeps_finished_rows_and_prints_how_to_resume(
    run_folder: Path, names: Path, whole: Path, tmp_path: Path
) -> None:
    for attempt in range(5):  # on a busy machine the command can finish before the signal arrives
        out = tmp_path / f"stopped-{attempt}.csv"
        words = (run_folder, "--list", names, "--out", out, *BATCH)
        process = started(*words)
        wait_for_rows(process, out)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
        if process.returncode != 0 or out.read_bytes() != whole.read_bytes():
            break
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "Run the same command with --resume" in error
    predict(*words, "--resume")
    assert out.read_bytes() == whole.read_bytes()


FULL = """
import resource, signal, sys
from kerastl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_full_disk_is_reported_and_the_table_can_be_resumed(
    run_folder: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Files are limited to 20 kB: the list of names fits, the table does not."""
    names, out = tmp_path / "names.txt", tmp_path / f"full.{suffix}"
    names.write_text("".join(f"{path.name}\n" for path in images * 60))
    arguments = [run_folder, "--list", names, "--out", out, *BATCH]
    words = [sys.executable, "-c", FULL, "20000", "predict", *map(str, arguments)]
    monkeypatch.chdir(images[0].parent)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"full.{suffix}.part cannot be written: File too large" in done.stderr
    assert "--resume" in done.stderr
    assert not out.exists()
    predict(*arguments, "--resume")
    again = [*arguments[:4], tmp_path / f"whole.{suffix}", *BATCH]
    predict(*again)
    assert out.read_bytes() == again[4].read_bytes()


def test_stdout_json_and_other_batch_sizes_give_the_same_predictions(
    run_folder: Path, names: Path, whole: Path
) -> None:
    words = (run_folder, "--list", names)
    assert predict(*words, *BATCH).out == whole.read_text()
    json_lines = predict(*words, "--batch-size", 7, "--json").out
    objects = [json.loads(line) for line in json_lines.splitlines()]
    rows = list(csv.DictReader(io.StringIO(whole.read_text())))
    assert [item.get("predicted", "") for item in objects] == [row["predicted"] for row in rows]
    assert sum(row["problem"] != "" for row in rows) == 3
    for item, row in zip(objects, rows, strict=True):
        if not row["problem"]:
            numbers = [float(row[f"prob_{name}"]) for name in CLASS_NAMES]
            assert list(item["probabilities"].values()) == pytest.approx(numbers, abs=2e-6)
            assert float(row["confidence"]) == max(numbers)
            assert item["confidence"] == max(item["probabilities"].values())


PEAK_MEMORY = """
import sys
from kerastl.cli import main
try:
    main(sys.argv[1:])
finally:
    status = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


def peak_kb(*words: Any) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PEAK_MEMORY, "predict", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def test_memory_does_not_grow_with_the_number_of_files(run_folder: Path, tmp_path: Path) -> None:
    """Each file has 100 kB and all 1,000 have 100 MB: holding them, or their pixels, would be visible."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(1000):
        pixels = noise.integers(0, 256, (180, 190, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.bmp")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{folder / str(number)}.bmp\n" for number in range(100)))
    peak_few = peak_kb(run_folder, "--list", few, "--out", tmp_path / "few.csv")
    peak_many = peak_kb(run_folder, folder, "--out", tmp_path / "many.csv")
    assert peak_many - peak_few < 40_000


def test_at_most_20_unreadable_files_are_printed(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.png").write_bytes(b"not an image")
    os.mkfifo(folder / "pipe.png")
    done = predict(run_folder, folder, images[0])
    assert done.err.count("Cannot read") == 20
    assert "61 of 62 files could not be read. The table lists all" in done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert sum(row["problem"] != "" for row in rows) == 61
    assert "not a regular file" in rows[-2]["problem"]
    assert "/dev/zero (not a regular file)" in predict(run_folder, "/dev/zero", code=1).err
