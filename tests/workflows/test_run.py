"""A plain run: its files, the same bytes again, what it refuses, and what survives a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from make_runs import RECIPE, draw, kill_run_when, rows_of, run, same_bytes

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
in_group_of_plain = pytest.mark.xdist_group("plain")


@in_group_of_plain
def test_a_run_writes_every_file_and_a_model_that_plain_keras_loads(plain):
    import keras

    assert [name for name in FILES if not (plain.path / name).exists()] == []
    assert "report.html" in plain.answer.out
    model = keras.saving.load_model(plain.path / "model.keras", safe_mode=True)
    assert model.output_shape == (None, 2)
    assert len(plain.rows("predictions.csv")) == 16


@in_group_of_plain
def test_unreadable_files_are_reported_and_left_out(plain):
    rows = {row["path"].rpartition("/")[2]: row["reason"] for row in plain.rows("quarantine.csv")}
    assert set(rows) == {"0.png", "bomb.png"}
    assert rows["0.png"]
    assert "30" in rows["bomb.png"]
    assert "/0.png" in plain.answer.err
    used = {row["path"].rpartition("/")[2] for row in plain.rows("split.csv")}
    assert "bomb.png" not in used


@in_group_of_plain
def test_hostile_class_names_are_text(plain):
    assert "<script>alert" not in (plain.path / "report.html").read_text()


def arrays(folder):
    """Return the bytes of every array in `model.keras`; its zip contains a date."""
    import keras

    model = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]


@pytest.mark.slow
@in_group_of_plain
def test_the_resolved_recipe_repeats_the_run_to_the_byte(plain, tmp_path):
    again = run(plain.path / "recipe.resolved.yaml", tmp_path / "again")
    same_bytes(plain.path, again.path, REPEATABLE)
    assert arrays(plain.path) == arrays(again.path)


@pytest.mark.slow
@in_group_of_plain
def test_another_seed_gives_another_run(plain, tmp_path):
    other = run(plain.recipe, tmp_path / "other", "--set", "seed=6")
    for name in REPEATABLE:
        assert (plain.path / name).read_bytes() != (other.path / name).read_bytes(), name
    assert arrays(plain.path) != arrays(other.path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A recipe that is never run to its end."""
    folder = tmp_path_factory.mktemp("small")
    draw(folder / "images" / "dark", 5, 1, light=False)
    draw(folder / "images" / "light", 5, 2, light=True)
    (folder / "wrong.weights.h5").write_bytes(b"not weights")
    (folder / "file").write_text("")
    file = folder / "small.yaml"
    file.write_text(RECIPE.format(path=folder / "images"))
    return file


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("evaluation.positive=ill", "evaluation.positive"),
        ("backbone.weights={folder}/wrong.weights.h5", "wrong.weights.h5"),
        ("phases[1].trainable={{names: block}}", "phase"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(kerastl, small, tmp_path, wrong, key):
    wrong = wrong.format(folder=small.parent)
    answer = kerastl("run", small, "--set", wrong, "--out", tmp_path / "run")
    assert answer.code == 1
    assert key in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(kerastl, small, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    answer = kerastl("run", small, "--out", locked / "run")
    assert answer.code == 1
    assert str(locked) in answer.err


def test_a_run_folder_below_a_file_is_refused(kerastl, small):
    answer = kerastl("run", small, "--out", small.parent / "file" / "run")
    assert answer.code == 1
    assert "--out" in answer.err


@in_group_of_plain
def test_only_an_unfinished_run_can_be_resumed(kerastl, plain, tmp_path):
    before = (plain.path / "report.html").stat().st_mtime_ns
    again = kerastl("run", plain.recipe, "--out", plain.path, "--resume")
    assert again.code == 1
    assert str(plain.path) in again.err
    (tmp_path / "note.txt").write_text("mine")
    foreign = kerastl("run", plain.recipe, "--out", tmp_path, "--resume")
    assert foreign.code == 1
    assert str(tmp_path) in foreign.err
    assert (plain.path / "report.html").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.slow
def test_divergence_keeps_the_last_good_weights_and_another_run_starts_from_them(kerastl, recipe, tmp_path):
    out = tmp_path / "run"
    wild = ["phases[1].learning_rate=10", "phases[1].optimizer=sgd", "phases[1].epochs=60"]
    wild += ["phases[1].trainable=all", "phases[1].weight_decay=0", "phases[1].batch_norm=frozen"]
    wild += ["phases[0].learning_rate=10"]
    sets = [word for setting in wild for word in ("--set", setting)]
    answer = kerastl("run", recipe, *sets, "--out", out)
    assert answer.code == 3, answer.err
    assert "--resume" not in answer.err
    assert [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    weights = out / "last_good.keras"
    assert str(weights) in answer.err
    again = run(recipe, tmp_path / "on", "--set", f"backbone.weights={weights}")
    assert again.path.joinpath("finished.json").is_file()


@pytest.mark.slow
@in_group_of_plain
def test_a_run_starts_from_another_run_and_keeps_its_head(plain, tmp_path):
    sets = ("--set", f"backbone.weights={plain.path}", "--set", "phases[0].epochs=1")
    second = run(plain.recipe, tmp_path / "second", *sets)
    assert second.json("versions.json")["head"]["outcome"] == "kept"


START = [sys.executable, "-m", "kerastl", "run"]


def _accept_ctrl_c():
    """A shell lets background processes ignore Ctrl-C, and so would the processes that a test starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@in_group_of_plain
def test_a_run_stopped_by_ctrl_c_and_then_killed_resumes_to_the_same_bytes(kerastl, plain, tmp_path):
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        [*START, plain.recipe, "--out", out], stderr=subprocess.PIPE, text=True,
        preexec_fn=_accept_ctrl_c,
    )  # fmt: skip
    while not list(out.glob("checkpoints/epoch-*.npz")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert not (out / "report.html").exists(), "it ended before it could be stopped"
    assert process.returncode == 130
    assert "--resume" in error
    assert "Traceback" not in error
    other = kerastl("run", plain.recipe, "--set", "phases[0].epochs=7", "--out", out, "--resume")
    assert other.code == 1
    assert "phases[0].epochs" in other.err
    kill_run_when(out / "checkpoints" / "epoch-00002.npz", plain.recipe, out, "--resume")
    same_bytes(plain.path, run(plain.recipe, out, "--resume").path, REPEATABLE)


FULL = """
import resource, signal, sys
from kerastl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


@pytest.mark.slow
@in_group_of_plain
def test_a_full_disk_is_reported_and_the_run_resumes(plain, tmp_path):
    """Files may not grow beyond 100 kB: split.csv fits, a checkpoint does not."""
    out = tmp_path / "run"
    words = [sys.executable, "-c", FULL, "100000", "run", str(plain.recipe), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert rows_of(out / "split.csv")
    assert not [path for path in out.rglob("*") if path.name.startswith((".epoch", ".model"))]
    run(plain.recipe, out, "--resume")


def test_light_commands_do_not_import_tensorflow(small):
    """In a new process, because `check` reads the options of every plug-in."""
    script = (
        "import sys\nfrom kerastl.cli import main\n"
        "for words in (['--help'], ['ls'], ['run', '--help'], ['check', sys.argv[1]]):\n"
        "    try:\n        main(words)\n    except SystemExit as left:\n        assert not left.code, left\n"
        "    heavy = {'tensorflow', 'keras', 'keras_cv', 'sklearn', 'matplotlib'}\n"
        "    # check divides the images into splits.\n"
        "    heavy |= set() if words[0] == 'check' else {'numpy'}\n"
        "    assert not heavy & set(sys.modules), (words, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(small)], check=True, capture_output=True)


def test_wrong_requests_are_refused_without_tensorflow(small):
    """In a new process, because this one has imported TensorFlow."""
    script = (
        "import sys\nfrom kerastl.cli import main\n"
        "recipe, folder, gone = sys.argv[1:]\n"
        "weights = f'backbone.weights={gone}'\n"
        "for words in (['run', recipe, '--out', folder, '--set', weights], ['quickstart', '--out', folder],\n"
        "    ['run', recipe, '--resume'], ['lr', recipe, '--set', weights], ['verify', gone], ['verify', folder],\n"
        "    ['augment', 'audit', recipe, '--set', weights], ['export', gone], ['predict', gone, folder]):\n"
        "    try:\n        main(words)\n    except SystemExit as left:\n        assert left.code == 1, (words, left)\n"
        "    assert 'tensorflow' not in sys.modules, words\n"
    )
    words = [sys.executable, "-c", script, str(small), str(small.parent), str(small.parent / "gone.h5")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=small.parent)
    assert "already exists" in done.stderr
    assert done.stderr.count("gone.h5 does not exist.") == 3


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


def test_the_script_of_a_checkout_works():
    root = Path(__file__).parent.parent.parent
    words = [sys.executable, "cli.py", "ls"]
    done = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True)
    assert "folder-classifier" in done.stdout
