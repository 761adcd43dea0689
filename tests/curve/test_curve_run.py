"""`kerastl adapt-curve`: what is refused before anything is written, and a curve that is killed and goes on."""

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
    return [recipe, *(word for one in (*SETS, *sets) for word in ("--set", one))]


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
    told = re.search(r"has (\d+) problems?\.\n((?:  .+\n)+)", err)
    assert told, err
    lines = told[2].splitlines()
    assert len(lines) == int(told[1])
    return lines


@pytest.mark.parametrize("labels", ["1,x", "", "0,-1", "1.5", "²", "1;2", "99999999999"])
def test_what_is_no_number_is_told_beside_what_is_wrong_with_the_recipe(call, tmp_path, labels):
    code, _, err = call("hospital-adaptation", "--labels", labels, "--set", "data.batch_size=0")
    assert code == 1
    told = problems(err)
    assert "--labels" in told[0]
    assert any("data.batch_size" in line for line in told)
    assert any("target.reader.path" in line for line in told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "5,2", "--seeds", "0"], ["--labels: 2 stands behind 5", "--seeds: is from 1"]),
        (["--labels", "0", "--scratch-epochs", "0"], ["none is above 0", "--scratch-epochs: is from 1"]),
        (["--labels", "1,50", "--out", "."], ["'benign': has", "'malignant': has", "--out"]),
        (["--labels", "1", "--set", "target.split.test_fraction=0"], ["no labelled image"]),
        (["--labels", "50", "--set", "target.split.test_fraction=0"], ["'benign'", "'malignant'", "no labelled"]),
        (["--labels", "1", "--set", "data.split.val_fraction=0"], ["adapted: .*no validation image"]),
        (["--labels", "0,3,3", "--set", "budget={minutes: 1}"], ["--labels: 3 stands behind 3", "budget"]),
        (["--labels", "1", "--set", "target=null", "--set", "phases[1].domain=source"], ["target: ", "phases: "]),
        (["--labels", "1", "--set", "phases[0].domain=target"], ["phases: none is of domain source"]),
        (["--labels", "1", "--set", "backbone.weights=gone.keras", "--seeds", "99999999"], ["--seeds: is from 1", "gone.keras"]),
        (["--labels", "1", "--set", "seed=2147483647", "--seeds", "2"], ["seed: "]),
    ],
)  # fmt: skip
def test_everything_wrong_is_told_together_and_nothing_is_written(call, tmp_path, words, said):
    (tmp_path / "here").write_text("")
    code, out, err = call(*words_of(), *words)
    assert (code, out) == (1, "")
    told = problems(err)
    assert len(told) == len(said), told
    for one in said:
        assert any(re.search(one, line) for line in told), (one, told)
    assert "nothing was written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_without_a_label_at_b_there_is_no_curve(call, tmp_path):
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
    told = problems(err)
    assert len(told) == 2
    assert "no image has a label" in told[0]
    assert "target: its test has no labelled image" in told[1]
    assert not (tmp_path / "curve").exists()


def test_there_is_something_to_resume_or_it_is_refused_before_any_image_is_opened(call, tmp_path):
    for words in (("--out", "nowhere"), ()):
        code, _, err = call(*words_of(), "--labels", "1", "--resume", *words)
        assert code == 1
        assert "resumed" in err or "no unfinished run" in err
        assert "Looking" not in err
    assert not list(tmp_path.iterdir())


ASKED = ["--labels", "0,1,2", "--seeds", "1", "--scratch-epochs", "4"]
SAME = ("scores.json", "predictions.csv", "split.csv", "history.jsonl", "freeze.json")
TOLD = ("curve.json", "curve.csv", "curve.png", "summary.json", "report.html", "request.json")


def kill_when(file: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "kerastl", "adapt-curve", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_curve_goes_on_to_the_same_bytes_and_trains_nothing_twice(call, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = words_of() + ASKED
    code, out, err = call(*words, "--out", whole)
    assert code == 0, err
    assert "Run 8 of 8: seed 7, scratch, 2 patients a class" in err
    assert "whole/curve.png" in out
    kill_when(killed / "runs" / "seed_7_fine_tune_2" / "history.jsonl", [*words, "--out", str(killed)])
    done = sorted(path.parent for path in killed.glob("runs/*/finished.json"))
    assert [path.name for path in done] == ["seed_7_adapted", "seed_7_fine_tune_1", "seed_7_source"]
    before = {path: (path / "model.keras").stat().st_mtime_ns for path in done}
    # Killed before its first step: such a folder cannot be resumed, and is begun again.
    (killed / "runs" / "seed_7_scratch_1").mkdir()
    (killed / "runs" / "seed_7_scratch_1" / "notes.json").write_text("{")
    code, _, err = call(*words[:-4], "--seeds", "2", "--out", killed, "--resume")
    assert (code, "--seeds" in err) == (1, True)
    recipe = killed / "recipe.yaml"
    code, _, err = call(recipe, *ASKED, "--out", killed, "--resume")
    assert code == 0, err
    assert before == {path: (path / "model.keras").stat().st_mtime_ns for path in done}
    runs = sorted(path.name for path in (whole / "runs").iterdir())
    assert runs == sorted(path.name for path in (killed / "runs").iterdir())
    files = [*TOLD, *(f"runs/{run}/{file}" for run in runs for file in SAME)]
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    code, _, err = call(*words, "--out", whole, "--resume")
    assert (code, "is finished" in err) == (1, True)
    code, _, err = call(*words, "--out", whole)
    assert (code, "exists already" in err) == (1, True)
    _check_promises(whole)


def _check_promises(folder: Path) -> None:
    """Same test for all, nested labels, points that are those of the runs, and no path of the data in what is told."""
    members = defaultdict(dict)
    for run in (folder / "runs").iterdir():
        for row in read_csv(run / "split.csv"):
            members[row["split"]].setdefault(run.name, set()).add(row["group"])
    tests = list(members["target_test"].values())
    assert len(tests) == 8
    assert all(one == tests[0] for one in tests)
    labelled = members["target_train"]
    for way in ("fine_tune", "adapt_then_fine_tune", "scratch"):
        one, two = (labelled[f"seed_7_{way}_{number}"] for number in (1, 2))
        assert one < two
        assert (len(one), len(two)) == (2, 4)
        assert two == labelled["seed_7_fine_tune_2"]
    told = json.loads((folder / "curve.json").read_text())
    assert len(told["points"]) == 8
    for point in told["points"]:
        scores = json.loads((folder / point["run"] / "scores.json").read_text())
        assert point["value"] == scores["target_test"]["overall"]["group_auc"]["value"]
    free = [one["run"] for one in told["points"] if one["groups_per_class"] == 0]
    assert free == ["runs/seed_7_source", "runs/seed_7_adapted/runs/adabn"]
    # What was not adapted is A's model as it stands, whatever the phases at B say.
    source, adapted = (folder / "runs" / f"seed_7_{name}" for name in ("source", "adapted"))
    before, kept = (
        load_trained(one).model.get_weights() for one in (source, adapted / "runs" / "source_only")
    )
    assert all(np.array_equal(one, other) for one, other in zip(before, kept, strict=True))
    # What an unlabelled model answers at B differs from A's own: BatchNorm follows B.
    assert "slices" not in (folder / "report.html").read_text()
    assert str(os.environ["KERASTL_CACHE"]) not in (folder / "report.html").read_text()
