"""A model of hospital A goes on at hospital B without an image of A."""

import csv
import importlib
import json
import shutil

import numpy as np
import pytest
from runs_drawn import RECIPE, draw, kill_run_when

from kerastl.cli import main
from kerastl.evaluation import load_trained

FREE = """
format: 1
seed: 3
source: {{model: {model}}}
data: {{batch_size: 8}}
phases:
  - {{name: adapt, domain: target, epochs: {epochs}, learning_rate: 1e-4, trainable: all, batch_norm: statistics, keep: last}}
target:
  reader: {{name: table, path: {table}}}
  labels: none
  split: {{val_fraction: 0.0, test_fraction: 0.4}}
adaptation: {{methods: [tent, shot, adabn]}}
export: {{formats: [saved_model]}}
evaluation: {{resamples: 100}}
"""
METHODS = ("source_only", "tent", "shot", "adabn")
SAME = ["predictions.csv", "scores.json", "freeze.json", "history.jsonl"]

pytestmark = pytest.mark.slow


def called(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def at_a(tmp_path_factory):
    """Hospital A: a finished run, and what may travel of it."""
    folder = tmp_path_factory.mktemp("a")
    draw(folder / "a" / "dark", 20, 1, light=False)
    draw(folder / "a" / "light", 20, 2, light=True)
    recipe = folder / "a.yaml"
    recipe.write_text(RECIPE.format(path=folder / "a"))
    assert called("run", recipe, "--out", folder / "run") == 0
    assert called("export", folder / "run", "--format", "keras", "--out", folder / "out") == 0
    shutil.rmtree(folder / "a")  # the images of A stay at A
    return folder


@pytest.fixture(scope="module")
def b(tmp_path_factory):
    """Hospital B: the first six patients of each class are tested, by its own table."""
    folder = tmp_path_factory.mktemp("b")
    for name, light in (("dark", False), ("light", True)):
        draw(folder / name, 16, 7 + light, light=light)
    return folder


def table_of(b, name, *, flipped=False, labelled=True):
    rows = ["path,label,patient_id,split"]
    other = {"dark": "light", "light": "dark"}
    for label in ("dark", "light"):
        for number in range(16):
            tested = number < 6
            told = label if tested or not flipped else other[label]
            split = "test" if tested else "train"
            rows.append(f"{label}/{number}.png,{told if labelled else ''},{label}{number},{split}")
    file = b / f"{name}.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def run_b(at_a, b, tmp_path_factory):
    def run(name, *, model=None, epochs=2, **table):
        folder = tmp_path_factory.mktemp(name)
        recipe = folder / "free.yaml"
        text = FREE.format(model=model or at_a / "out", table=table_of(b, name, **table), epochs=epochs)
        recipe.write_text(text)
        return recipe, folder / "run"

    return run


@pytest.fixture(scope="module")
def free(run_b):
    recipe, out = run_b("free")
    assert called("run", recipe, "--out", out, "--oracle") == 0
    return out


def read(file):
    return json.loads(file.read_text())


def weights_of(folder):
    return {one.path: one.numpy() for one in load_trained(folder).model.weights}


def test_candidates_go_on_from_the_model_as_it_came(free, at_a):
    told = read(free / "adaptation.json")
    assert set(told["candidates"]) == set(told["oracle"]) == set(METHODS)
    came, kept = weights_of(at_a / "run"), weights_of(free / "runs" / "source_only")
    assert came.keys() == kept.keys()
    assert all(np.array_equal(value, kept[path]) for path, value in came.items())
    moved = {
        path for path, value in weights_of(free / "runs" / "adabn").items()
        if not np.array_equal(value, came[path])
    }  # fmt: skip
    assert moved
    assert all(path.endswith(("moving_mean", "moving_variance")) for path in moved)
    for name in METHODS[1:]:
        (proof,) = read(free / "runs" / name / "freeze.json")["phases"]
        assert (proof["faults"], proof["warnings"]) == ([], []), name
        assert (free / "runs" / name / "finished.json").is_file()


def test_the_choice_says_that_no_guard_could_be_asked(free):
    told = read(free / "adaptation.json")
    assert {guard["fired"] for guard in told["guards"].values()} == {None}
    assert told["verdict"] in ("adapt", "do_not_adapt")
    assert "the source's images are not at hand" in told["reason"]
    kept = told["ranking"]["kept"]
    assert set(kept) == {"adabn", "tent", "shot"}
    # It moves nothing but statistics: what it ends with is what it began with.
    assert kept["adabn"] == 1.0


def test_without_batch_norm_answers_are_compared_with_those_of_the_model_as_it_came(run_b, monkeypatch):
    # What a network without BatchNorm gives; the phases say batch_norm: statistics all the same.
    adapting = importlib.import_module("kerastl.workflows.adapt")
    monkeypatch.setattr(adapting, "observe_renormalised", lambda *_: None)
    recipe, out = run_b("plain", epochs=1)
    assert called("run", recipe, "--out", out) == 0
    assert set(read(out / "adaptation.json")["ranking"]["kept"]) == {"adabn", "tent", "shot"}


def test_no_image_of_a_is_told_and_figures_are_of_b_with_the_thresholds_of_a(free, at_a):
    with (free / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"target_unlabelled", "target_test"}
    assert all((row["label"] == "") == (row["split"] == "target_unlabelled") for row in rows)
    scores, at_source = read(free / "scores.json"), read(at_a / "run" / "scores.json")["val"]
    assert set(scores) == {"target_test", "interval"}
    points = scores["target_test"]["operating_points"]
    assert points["threshold_from"] == "the validation images of the model as it came"
    assert [one["threshold"] for one in points["points"]] == [
        one["threshold"] for one in at_source["operating_points"]["points"]
    ]
    wanted = at_source["calibration"]["temperature"]["value"]
    assert scores["target_test"]["calibration"]["temperature"]["value"] == wanted
    assert read(free / "freeze.json")["two_passes"]["differ"] == 0
    assert "o guard could be asked" in (free / "report.html").read_text()
    assert "at A" not in (free / "recipe.resolved.yaml").read_text()


def test_what_comes_after_a_run_works(free, b, tmp_path):
    export = free / "export" / "saved_model"
    assert called("verify", export) == 0
    assert called("predict", free, b / "dark", "--out", tmp_path / "a.csv") == 0
    assert called("report", free) == 0
    assert called("check", free / "recipe.resolved.yaml") == 0
    assert called("export", free, "--format", "keras", "--out", tmp_path / "on") == 0
    assert called("verify", tmp_path / "on" / "1", "--run", free) == 0


def test_labels_of_b_change_no_byte_of_what_is_learnt_and_chosen(free, run_b):
    recipe, out = run_b("flipped", flipped=True)
    assert called("run", recipe, "--out", out, "--oracle") == 0
    files = [*SAME, "adaptation.json"]
    files += [f"runs/{one}/{name}" for one in METHODS for name in SAME]
    for name in files:
        assert (out / name).read_bytes() == (free / name).read_bytes(), name


def test_a_run_folder_serves_as_well_as_what_was_exported_of_it(free, run_b, at_a):
    recipe, out = run_b("folder", model=at_a / "run")
    assert called("run", recipe, "--out", out, "--oracle") == 0
    for name in (*SAME, "adaptation.json"):
        assert (out / name).read_bytes() == (free / name).read_bytes(), name


def test_a_hospital_without_any_label_gets_a_model_and_no_figures(run_b):
    recipe, out = run_b("unlabelled", labelled=False)
    assert called("run", recipe, "--out", out) == 0
    assert set(read(out / "scores.json")) == {"interval"}
    assert read(out / "adaptation.json")["target_test"] is None
    assert (out / "report.html").is_file()


def test_a_run_killed_in_a_candidate_goes_on_to_the_same_bytes(run_b):
    recipe, whole = run_b("whole", epochs=8)
    assert called("run", recipe, "--out", whole) == 0
    out = whole.parent / "killed"
    kill_run_when(out / "runs" / "shot" / "checkpoints" / "epoch-00002.npz", recipe, out)
    assert called("run", recipe, "--out", out, "--resume") == 0
    files = [*SAME, "adaptation.json", "summary.json"]
    files += [f"runs/{one}/{name}" for one in METHODS for name in SAME]
    for name in files:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
