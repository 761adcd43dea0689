"""`kerastl predict` in processes of its own: stopped, killed, on a full disk, over many files, by several processes."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW, model, pictures

__all__ = ["model", "pictures"]

pytestmark = pytest.mark.slow
ROUNDS = 150
BATCH = ("--batch-size", "4")


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "kerastl", "predict", *map(str, words)]


def predict(*words: Any, code: int = 0, **options: Any) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def run_folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    told = {"class_names": CLASS_NAMES, "image_size_px": SIZE, "window": WINDOW}
    (folder / "model.json").write_text(json.dumps({**told, "max_pixels": MAX_PIXELS}))
    return folder


@pytest.fixture(scope="module")
def names(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 1,200 files, three of which are no pictures."""
    folder = tmp_path_factory.mktemp("names")
    bad = folder / "=bad.png"
    bad.write_bytes(b"no picture")
    lines = [str(path) for path in pictures] * ROUNDS
    lines[50::401] = [str(bad)] * len(lines[50::401])
    file = folder / "names.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def whole(run_folder: Path, names: Path) -> Path:
    """The table of a command that was never stopped."""
    out = names.with_name("whole.csv")
    told = predict(run_folder, "--list", names, "--out", out, *BATCH)
    assert "3 of 1200 files could not be read." in told.stderr
    return out


def started(*words: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*words), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_answers(process: "subprocess.Popen[str]", out: Path) -> None:
    """Wait until some batches are whole, and the command still has much to do."""
    progress = out.with_name(f"{out.name}.part") / "progress"
    while not (progress.exists() and progress.read_bytes().count(b"\n") > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until_gone(pids: list[int]) -> None:
    for pid in pids:
        while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _status(pid):
            time.sleep(0.01)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_command_goes_on_and_writes_the_same_bytes(
    run_folder: Path, names: Path, whole: Path, tmp_path: Path, processes: int
) -> None:
    out = tmp_path / "killed.csv"
    words = (run_folder, "--list", names, "--out", out, *BATCH, "--processes", processes)
    process = started(*words)
    wait_for_answers(process, out)
    children = children_of(process.pid)
    assert len(children) >= processes or processes == 1
    process.kill()
    process.communicate()
    until_gone(children)
    assert not out.exists()
    assert "holds answers" in predict(*words, code=1).stderr
    more = tmp_path / "more.txt"
    more.write_text(names.read_text() + "one more.png\n")
    of_more = (run_folder, "--list", more, *words[3:], "--resume")
    assert "1,201 files now, 1,200 then" in predict(*of_more, code=1).stderr
    predict(*words, "--resume")
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name("killed.csv.part").exists()


def test_ctrl_c_stops_all_and_says_how_to_go_on(
    run_folder: Path, names: Path, whole: Path, tmp_path: Path
) -> None:
    for attempt in range(5):  # on a busy machine it may be through before the signal comes
        out = tmp_path / f"stopped-{attempt}.csv"
        words = (run_folder, "--list", names, "--out", out, *BATCH, "--processes", 2)
        process = started(*words)
        wait_for_answers(process, out)
        os.killpg(process.pid, signal.SIGSTOP)
        children = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGCONT)
        _, told = process.communicate()
        if process.returncode != 0 or out.read_bytes() != whole.read_bytes():
            break
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "the same command with --resume goes on" in told
    until_gone(children)
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
def test_a_full_disk_is_told_and_the_table_can_be_gone_on_with(
    run_folder: Path, pictures: list[Path], tmp_path: Path, suffix: str
) -> None:
    """Files may not grow beyond 20 kB: the list of names fits, the table does not."""
    names, out = tmp_path / "names.txt", tmp_path / f"full.{suffix}"
    names.write_text("".join(f"{path.name}\n" for path in pictures * 60))
    asked = [run_folder, "--list", names, "--out", out, *BATCH]
    words = [sys.executable, "-c", FULL, "20000", "predict", *map(str, asked)]
    place = pictures[0].parent
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"full.{suffix}.part cannot be written: File too large" in done.stderr
    assert "--resume" in done.stderr
    assert not out.exists()
    predict(*asked, "--resume", cwd=place)
    again = [*asked[:4], tmp_path / f"whole.{suffix}", *BATCH]
    predict(*again, cwd=place)
    assert out.read_bytes() == again[4].read_bytes()


def test_answers_do_not_depend_on_processes_and_hardly_on_batches(
    run_folder: Path, names: Path, whole: Path, tmp_path: Path
) -> None:
    words = (run_folder, "--list", names)
    assert predict(*words, *BATCH, "--processes", 3).stdout == whole.read_text()
    by_json = predict(*words, "--batch-size", 7, "--json").stdout
    told = [json.loads(line) for line in by_json.splitlines()]
    rows = list(csv.DictReader(io.StringIO(whole.read_text())))
    assert [one.get("predicted", "") for one in told] == [row["predicted"] for row in rows]
    assert sum(row["problem"] != "" for row in rows) == 3
    for one, row in zip(told, rows, strict=True):
        if not row["problem"]:
            numbers = [float(row[f"prob_{name}"]) for name in CLASS_NAMES]
            assert list(one["probabilities"].values()) == pytest.approx(numbers, abs=2e-6)


PARENT = """
import sys
from kerastl.cli import main
try:
    main(sys.argv[1:])
finally:
    if "--processes" in sys.argv:
        assert "tensorflow" not in sys.modules
    status = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


def peak_kb(*words: Any) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, "predict", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def test_memory_does_not_grow_with_the_number_of_files(run_folder: Path, tmp_path: Path) -> None:
    """Each file has 100 kB, 1,000 of them 100 MB: to hold them, or their pixels, would show."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(1000):
        drawn = noise.integers(0, 256, (180, 190, 3), dtype=np.uint8)
        Image.fromarray(drawn).save(folder / f"{number}.bmp")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{folder / str(number)}.bmp\n" for number in range(100)))
    of_few = peak_kb(run_folder, "--list", few, "--out", tmp_path / "few.csv")
    of_many = peak_kb(run_folder, folder, "--out", tmp_path / "many.csv")
    assert of_many - of_few < 40_000
    of_parent = peak_kb(run_folder, folder, "--out", tmp_path / "two.csv", "--processes", 2)
    assert of_parent < of_few / 2
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()


def test_problems_on_the_screen_are_bounded(
    run_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.png").write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.png")
    done = predict(run_folder, folder, pictures[0])
    assert done.stderr.count("Cannot read") == 20
    assert "61 of 62 files could not be read. The table names all" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sum(row["problem"] != "" for row in rows) == 61
    assert "not a file" in rows[-2]["problem"]
    assert predict(run_folder, "/dev/zero", code=1).stdout.count("not a file") == 1
