import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPEATABLE = ["split.csv", "predictions.csv", "scores.json", "freeze.json", "history.jsonl"]
FILES = [
    *REPEATABLE,
    "recipe.resolved.yaml",
    "versions.json",
    "quarantine.csv",
    "timings.jsonl",
    "model.keras",
    "model.json",
    "report.html",
    "checkpoints",
]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_every_file_and_a_model_that_plain_keras_opens(kerastl, recipe, tmp_path):
    import keras

    out = tmp_path / "run"
    answer = kerastl("run", recipe, "--out", out)
    assert answer.code == 0, answer.err
    assert [name for name in FILES if not (out / name).exists()] == []
    assert "report.html" in answer.out
    model = keras.saving.load_model(out / "model.keras", safe_mode=True)
    assert model.output_shape == (None, 2)
    assert len(rows(out / "predictions.csv")) == 16


def test_a_positive_class_that_is_none_is_refused_before_training(kerastl, recipe, tmp_path):
    answer = kerastl("run", recipe, "--out", tmp_path / "run", "--set", "evaluation.positive=ill")
    assert answer.code == 1
    assert "evaluation.positive: there is no class 'ill'. Known:" in answer.err
    assert not (tmp_path / "run").exists()


def arrays(run):
    """Return the bytes of every array in `model.keras`; its zip holds a date."""
    import keras

    model = keras.saving.load_model(run / "model.keras", safe_mode=True)
    return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]


def test_two_runs_of_one_recipe_are_equal_to_the_byte_and_another_seed_is_not(kerastl, recipe, tmp_path):
    for name, sets in (("one", []), ("two", []), ("other", ["--set", "seed=6"])):
        assert kerastl("run", recipe, "--out", tmp_path / name, *sets).code == 0
    for file in REPEATABLE:
        first, second, other = ((tmp_path / name / file).read_bytes() for name in ("one", "two", "other"))
        assert first == second, file
        assert first != other, file
    first, second, other = (arrays(tmp_path / name) for name in ("one", "two", "other"))
    assert first == second
    assert first != other


@pytest.mark.slow
def test_the_resolved_recipe_repeats_the_run(kerastl, recipe, tmp_path):
    assert kerastl("run", recipe, "--out", tmp_path / "one").code == 0
    again = tmp_path / "one" / "recipe.resolved.yaml"
    assert kerastl("run", again, "--out", tmp_path / "two").code == 0
    one, two = (tmp_path / name / "predictions.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_run_is_never_overwritten(kerastl, recipe, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    answer = kerastl("run", recipe, "--out", out)
    assert answer.code == 1
    assert "never overwrites" in answer.err
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_unreadable_images_are_named_and_left_out(kerastl, recipe, images, tmp_path):
    good = (images / "dark" / "0.png").read_bytes()
    (images / "dark" / "0.png").write_bytes(good[:200])
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "dark/0.png" in answer.err
    (row,) = rows(tmp_path / "run" / "quarantine.csv")
    assert row["path"] == "dark/0.png"
    assert row["reason"]


def test_too_many_unreadable_images_stop_before_anything_is_written(kerastl, recipe, images, tmp_path):
    for number in range(5):
        (images / "light" / f"{number}.png").write_bytes(b"")
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 1
    assert all(f"light/{number}.png" in answer.err for number in range(5))
    assert not (tmp_path / "run").exists()


def test_a_header_of_thirty_thousand_pixels_square_is_quarantined(kerastl, recipe, images, tmp_path):
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    lie = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (images / "dark" / "bomb.png").write_bytes(lie + b"\0" * 100)
    assert kerastl("run", recipe, "--out", tmp_path / "run").code == 0
    (row,) = rows(tmp_path / "run" / "quarantine.csv")
    assert "30" in row["reason"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: (root / "empty").mkdir(), "empty"),
        (lambda root: (root / "Dark").mkdir() or _copy(root, "dark", "Dark"), "Dark"),
        (lambda root: _remove(root / "light"), "one class|two classes|only the class"),
    ],
    ids=["empty class", "equal by case", "one class"],
)
def test_a_folder_that_will_not_do_is_refused_in_words(kerastl, recipe, images, tmp_path, make, words):
    import re

    make(images)
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 1
    assert re.search(words, answer.err)
    assert not (tmp_path / "run").exists()


def _copy(root, source, target):
    (root / target / "0.png").write_bytes((root / source / "0.png").read_bytes())


def _remove(folder):
    import shutil

    shutil.rmtree(folder)


def test_hostile_class_names_are_text(kerastl, recipe, images, tmp_path):
    (images / "dark").rename(images / "<script>alert(1)<")
    (images / "light").rename(images / "=1+1 ..")
    out = tmp_path / "run"
    answer = kerastl("run", recipe, "--out", out)
    assert answer.code == 0, answer.err
    assert "<script>alert" not in (out / "report.html").read_text()


def test_a_weights_file_that_is_not_one_is_refused(kerastl, recipe, tmp_path):
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_bytes(b"not weights")
    answer = kerastl("run", recipe, "--set", f"backbone.weights={wrong}", "--out", tmp_path / "run")
    assert answer.code == 1
    assert "wrong.weights.h5" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_starts_from_another_run_and_keeps_its_head(kerastl, recipe, tmp_path):
    assert kerastl("run", recipe, "--out", tmp_path / "first").code == 0
    answer = kerastl(
        "run", recipe, "--set", f"backbone.weights={tmp_path / 'first'}", "--out", tmp_path / "next"
    )
    assert answer.code == 0, answer.err
    versions = json.loads((tmp_path / "next" / "versions.json").read_text())
    assert versions["head"]["outcome"] == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(kerastl, recipe, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    answer = kerastl("run", recipe, "--out", locked / "run")
    assert answer.code == 1
    assert "Cannot create" in answer.err


def test_a_run_folder_below_a_file_is_told(kerastl, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    answer = kerastl("run", recipe, "--out", tmp_path / "file" / "run")
    assert answer.code == 1
    assert "--out" in answer.err


def test_resuming_a_finished_run_or_none_is_refused(kerastl, recipe, tmp_path):
    assert kerastl("run", recipe, "--out", tmp_path / "run").code == 0
    again = kerastl("run", recipe, "--out", tmp_path / "run", "--resume")
    assert (again.code, "is finished" in again.err) == (1, True)
    none = kerastl("run", recipe, "--out", tmp_path / "nothing", "--resume")
    assert (none.code, "has no recipe.resolved.yaml" in none.err) == (1, True)
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "wrong",
    ["phases[1].trainable={names: block}", "phases[0].early_stopping=1 --set data.split.val_fraction=0"],
)
def test_phases_that_cannot_be_run_are_refused_before_anything_is_written(kerastl, recipe, tmp_path, wrong):
    sets = [word for part in wrong.split(" --set ") for word in ("--set", part)]
    answer = kerastl("run", recipe, *sets, "--out", tmp_path / "run")
    assert answer.code == 1, answer.err
    assert "phase" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_breakdown_keeps_the_last_good_weights_and_says_how_to_go_on(kerastl, recipe, tmp_path):
    out = tmp_path / "run"
    wild = ["phases[1].learning_rate=10", "phases[1].optimizer=sgd", "phases[1].epochs=60"]
    wild += ["phases[1].trainable=all", "phases[1].weight_decay=0", "phases[1].batch_norm=frozen"]
    answer = kerastl(
        "run", recipe, *(w for one in wild for w in ("--set", one)), "--out", out, "--set",
        "phases[0].learning_rate=10",
    )  # fmt: skip
    assert answer.code == 3, answer.err
    assert "put back" in answer.err
    assert "--resume" not in answer.err
    assert rows_of(out / "history.jsonl")
    weights = out / "last_good.keras"
    assert str(weights) in answer.err
    again = kerastl("run", recipe, "--set", f"backbone.weights={weights}", "--out", tmp_path / "on")
    assert again.code == 0, again.err


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


START = [sys.executable, "-m", "kerastl", "run"]


def _until(condition, process):
    """Wait for a condition, or for the process to end by itself."""
    while not condition() and process.poll() is None:
        time.sleep(0.02)


def _heed_ctrl_c():
    """A shell lets what it starts in the background ignore Ctrl-C, and so would what the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_a_stopped_run_goes_on_to_the_bytes_of_an_uninterrupted_one(kerastl, recipe, tmp_path, how):
    sets = ["--set", "phases[0].epochs=6"]
    assert kerastl("run", recipe, *sets, "--out", tmp_path / "whole").code == 0
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        [*START, recipe, *sets, "--out", out], stderr=subprocess.PIPE, text=True,
        preexec_fn=_heed_ctrl_c,
    )  # fmt: skip
    _until(lambda: list(out.glob("checkpoints/epoch-*.npz")), process)
    process.send_signal(how)
    _, said = process.communicate()
    assert not (out / "report.html").exists(), "it ended before it could be stopped"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in said
        assert "Traceback" not in said
    other = kerastl("run", recipe, "--set", "phases[0].epochs=7", "--out", out, "--resume")
    assert other.code == 1
    assert "cannot be resumed" in other.err
    resumed = kerastl("run", recipe, *sets, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err
    for file in REPEATABLE:
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


FULL = """
import resource, signal, sys
from kerastl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_was_finished_is_kept(kerastl, recipe, tmp_path):
    """Files may not grow beyond 100 kB: split.csv fits, a checkpoint does not."""
    out = tmp_path / "run"
    words = [sys.executable, "-c", FULL, "100000", "run", str(recipe), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert rows(out / "split.csv")
    assert not [path for path in out.rglob("*") if path.name.startswith((".epoch", ".model"))]
    assert kerastl("run", recipe, "--out", out, "--resume").code == 0


def test_importing_and_asking_loads_no_tensorflow(recipe):
    """In a process of its own; `check` goes through every plug-in's options."""
    script = (
        "import sys\nfrom kerastl.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as left:\n    assert not left.code, left\n"
        "heavy = {'tensorflow', 'keras', 'keras_cv', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for words in (["--help"], ["ls"], ["check", str(recipe)], ["run", "--help"]):
        subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)


def test_every_plug_in_is_imported_without_tensorflow():
    script = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'keras_cv', 'tensorflow_datasets'): sys.modules[name] = None\n"
        "from kerastl import registry\n"
        "count = 0\n"
        "for kind in registry.FOLDERS:\n"
        "    for name in registry.names(kind):\n"
        "        registry.options_of(kind, name); count += 1\n"
        "print(count)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 50


def test_the_door_of_a_checkout_works():
    root = Path(__file__).parent.parent.parent
    words = [sys.executable, "cli.py", "ls"]
    done = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True)
    assert "folder-classifier" in done.stdout
