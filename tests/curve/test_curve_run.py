"""`kerastl adapt-curve`: what is refused before anything is written, and a curve that is killed and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from kerastl.cli import main
from kerastl.evaluation import load_trained
from kerastl.runs import read_csv

SIZE = "patients: 14, slices_per_patient: 2, image_size_px: 32"
PHASES = (
    "phases=[{name: source, epochs: 2, learning_rate: 1e-3, trainable: all}, {name: adapt, domain: target, "
    "epochs: 3, learning_rate: 1e-3, trainable: none, batch_norm: statistics, keep: last}]"
)
SETS = (
    "adaptation=null",
    f"data.reader={{name: phantom, hospital: a, {SIZE}}}", f"target.reader={{name: phantom, hospital: b, {SIZE}}}",
    "data.image_size_px=32", "data.batch_size=8", "backbone={name: small_cnn, weights: none}", "augment=none",
    "evaluation.resamples=100", PHASES,
)  # fmt: skip


def words_of(*sets, recipe="hospital-adaptation"):
    return [recipe, *(word for setting in (*SETS, *sets) for word in ("--set", setting))]


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def called(*words):
        with pytest.raises(SystemExit) as left:
            main(["adapt-curve", *map(str, words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return left.value.code, out, err

    return called


def problems(err):
    """Return the lines of a list of problems."""
    match = re.search(r"(\d+) problems?\.\n((?:  .+\n)+)", err)
    assert match, err
    lines = match[2].splitlines()
    assert len(lines) == int(match[1])
    return lines


def test_invalid_labels_are_reported_together_with_the_problems_of_the_recipe(call, tmp_path):
    code, _, err = call("hospital-adaptation", "--labels", "1,x", "--set", "data.batch_size=0")
    assert code == 1
    lines = problems(err)
    assert "--labels" in lines[0]
    assert any("data.batch_size" in line for line in lines)
    assert any("--target TABLE.csv" in line for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["--labels", "0", "--seeds", "0", "--scratch-epochs", "0", "--set", "backbone.weights=gone.keras"], ["--labels", "--seeds", "--scratch-epochs", "gone.keras"]),
        (["--labels", "1,50", "--seeds", "2"], ["'benign'", "'malignant'"]),
        (["--labels", "x", "--out", ".", "--set", "seed=2147483647", "--seeds", "2"], ["--labels", "--out", "seed"]),
        (["--labels", "1", "--set", "target.split.test_fraction=0"], ["target"]),
        (["--labels", "1", "--set", "data.split.val_fraction=0"], ["adapted.*validation"]),
        (["--labels", "0,3,3", "--set", "budget={minutes: 1}"], ["--labels", "budget"]),
        (["--labels", "1", "--set", "target=null", "--set", "phases[1].domain=source"], ["target", "phases"]),
        (["--labels", "1", "--set", "phases[0].domain=target"], ["phases.*domain: source"]),
    ],
)  # fmt: skip
def test_all_problems_are_reported_together_and_nothing_is_written(call, tmp_path, words, keys):
    (tmp_path / "here").write_text("")
    code, out, err = call(*words_of(), *words)
    assert (code, out) == (1, "")
    lines = problems(err)
    assert len(lines) == len(keys), lines
    for key in keys:
        assert any(re.search(key, line) for line in lines), (key, lines)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.slow
def test_a_curve_needs_labels_at_the_target(call, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(SystemExit):
        main(["data", "phantom", "data/b", "--hospital", "b", "--patients", "12", "--slices", "1"])
    rows = read_csv(data / "b" / "labels.csv")
    lines = ["path,label,patient_id", *(f"{row['path']},,{row['patient_id']}" for row in rows)]
    (data / "b" / "none.csv").write_text("\n".join(lines) + "\n")
    reader = "target.reader={name: table, path: data/b/none.csv}"
    code, _, err = call(*words_of(reader), "--labels", "1", "--out", "curve")
    assert code == 1
    lines = problems(err)
    assert len(lines) == 2
    assert all("target" in line for line in lines)
    assert not (tmp_path / "curve").exists()


def test_resume_without_an_unfinished_curve_is_refused_before_any_image_is_opened(call, tmp_path):
    note = tmp_path / "mine" / "note.txt"
    note.parent.mkdir()
    note.write_text("")
    for words in (("--out", "mine"), ()):
        code, _, err = call(*words_of(), "--labels", "1", "--resume", *words)
        assert code == 1
        assert "Checking the images" not in err
    assert [*tmp_path.rglob("*")] == [note.parent, note]


ASKED = ["--labels", "0,1,2", "--seeds", "1", "--scratch-epochs", "2"]
FILES = ("curve.json", "curve.csv", "curve.png", "summary.json", "report.html", "request.json")


def kill_when(file: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "kerastl", "adapt-curve", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_curve_resumes_without_training_a_run_twice(call, tmp_path):
    """That a resumed curve equals an uninterrupted one is in test_curve_orchestra.py, for its runs in tests/workflows."""
    folder = tmp_path / "curve"
    words = words_of() + ASKED
    kill_when(folder / "runs" / "seed_7_fine_tune_2" / "history.jsonl", [*words, "--out", str(folder)])
    done = sorted(path.parent for path in folder.glob("runs/*/finished.json"))
    assert [path.name for path in done] == ["seed_7_adapted", "seed_7_fine_tune_1", "seed_7_source"]
    before = {path: (path / "model.keras").stat().st_mtime_ns for path in done}
    # Killed before its first file: such a run starts again.
    (folder / "runs" / "seed_7_scratch_1").mkdir()
    (folder / "runs" / "seed_7_scratch_1" / ".lock").write_text("")
    code, _, err = call(*words[:-4], "--seeds", "2", "--out", folder, "--resume")
    assert (code, "--seeds" in err) == (1, True)
    code, out, err = call(folder / "recipe.yaml", *ASKED, "--out", folder, "--resume")
    assert code == 0, err
    assert "curve/curve.png" in out
    assert before == {path: (path / "model.keras").stat().st_mtime_ns for path in done}
    assert [name for name in FILES if not (folder / name).is_file()] == []
    for again in (("--resume",), ()):
        code, _, err = call(*words, "--out", folder, *again)
        assert (code, str(folder) in err) == (1, True)
    _check_promises(folder)


def _check_promises(folder: Path) -> None:
    """One test set for all runs, nested labels, points equal to the scores of the runs, and no path of the data in the report."""
    members = defaultdict(dict)
    for run in (folder / "runs").iterdir():
        for row in read_csv(run / "split.csv"):
            members[row["split"]].setdefault(run.name, set()).add(row["group"])
    tests = list(members["target_test"].values())
    assert len(tests) == 8
    assert all(split == tests[0] for split in tests)
    labeled = members["target_train"]
    for strategy in ("fine_tune", "adapt_then_fine_tune", "scratch"):
        with_one, with_two = (labeled[f"seed_7_{strategy}_{number}"] for number in (1, 2))
        assert with_one < with_two
        assert (len(with_one), len(with_two)) == (2, 4)
        assert with_two == labeled["seed_7_fine_tune_2"]
    points = json.loads((folder / "curve.json").read_text())["points"]
    assert len(points) == 8
    for point in points:
        scores = json.loads((folder / point["run"] / "scores.json").read_text())
        assert point["value"] == scores["target_test"]["overall"]["group_auc"]["value"]
    free = [point["run"] for point in points if point["groups_per_class"] == 0]
    assert free == ["runs/seed_7_source", "runs/seed_7_adapted/runs/adabn"]
    # The candidate without adaptation is A's model, independent of the target phases.
    source, adapted = (folder / "runs" / f"seed_7_{name}" for name in ("source", "adapted"))
    before, kept = (
        load_trained(folder).model.get_weights() for folder in (source, adapted / "runs" / "source_only")
    )
    assert all(np.array_equal(weight, kept_weight) for weight, kept_weight in zip(before, kept, strict=True))
    assert "slices" not in (folder / "report.html").read_text()
    assert str(os.environ["KERASTL_CACHE"]) not in (folder / "report.html").read_text()
