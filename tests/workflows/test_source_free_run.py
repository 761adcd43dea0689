"""A model of hospital A is adapted at hospital B without images of A."""

import importlib
import json
import shutil

import numpy as np
import pytest
from make_runs import RECIPE, call, draw, kill_run_when, rows_of, run, same_bytes

from kerastl.evaluation import load_trained

FREE = """
format: 1
seed: 3
source: {{model: {model}}}
data: {{batch_size: 8}}
phases:
  - {{name: adapt, domain: target, epochs: 2, learning_rate: 1e-4, trainable: all, batch_norm: statistics, keep: last}}
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
INNER = [f"runs/{method}/{name}" for method in METHODS for name in SAME]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("source_free")]


@pytest.fixture(scope="module")
def at_a(tmp_path_factory):
    """Hospital A: a finished run, and the export that may leave the hospital."""
    folder = tmp_path_factory.mktemp("a")
    draw(folder / "a" / "dark", 20, 1, light=False)
    draw(folder / "a" / "light", 20, 2, light=True)
    recipe = folder / "a.yaml"
    recipe.write_text(RECIPE.format(path=folder / "a"))
    run(recipe, folder / "run", "--set", "phases[0].epochs=1")
    export = call("export", folder / "run", "--format", "keras", "--out", folder / "out")
    assert export.code == 0, export.err
    shutil.rmtree(folder / "a")  # the images of A stay at A
    return folder


@pytest.fixture(scope="module")
def b(tmp_path_factory):
    """Hospital B: its table puts the first six patients of each class into the test set."""
    folder = tmp_path_factory.mktemp("b")
    for name, light in (("dark", False), ("light", True)):
        draw(folder / name, 16, 7 + light, light=light)
    return folder


def table_of(b, name, *, flipped=False, labeled=True):
    rows = ["path,label,patient_id,split"]
    other = {"dark": "light", "light": "dark"}
    for label in ("dark", "light"):
        for number in range(16):
            is_test = number < 6
            assigned = label if is_test or not flipped else other[label]
            split = "test" if is_test else "train"
            rows.append(f"{label}/{number}.png,{assigned if labeled else ''},{label}{number},{split}")
    file = b / f"{name}.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def recipe_of(at_a, b, tmp_path_factory):
    """Write a recipe, and return it with the run folder to use."""

    def write(name, *, model=None, **table):
        folder = tmp_path_factory.mktemp(name)
        recipe = folder / "free.yaml"
        recipe.write_text(FREE.format(model=model or at_a / "out", table=table_of(b, name, **table)))
        return recipe, folder / "run"

    return write


@pytest.fixture(scope="module")
def free(recipe_of):
    return run(*recipe_of("free"), "--oracle")


def weights_of(folder):
    return {weight.path: weight.numpy() for weight in load_trained(folder).model.weights}


def test_candidates_start_from_the_model_of_a(free, at_a):
    adaptation = free.json("adaptation.json")
    assert set(adaptation["candidates"]) == set(adaptation["oracle"]) == set(METHODS)
    initial, kept = weights_of(at_a / "run"), weights_of(free.path / "runs" / "source_only")
    assert initial.keys() == kept.keys()
    assert all(np.array_equal(value, kept[path]) for path, value in initial.items())
    changed = {
        path for path, value in weights_of(free.path / "runs" / "adabn").items()
        if not np.array_equal(value, initial[path])
    }  # fmt: skip
    assert changed
    assert all(path.endswith(("moving_mean", "moving_variance")) for path in changed)
    for name in METHODS[1:]:
        (check,) = free.json(f"runs/{name}/freeze.json")["phases"]
        assert (check["faults"], check["warnings"]) == ([], []), name
        assert (free.path / "runs" / name / "finished.json").is_file()


def test_the_choice_reports_that_no_guard_could_be_evaluated(free):
    adaptation = free.json("adaptation.json")
    assert {guard["fired"] for guard in adaptation["guards"].values()} == {None}
    assert adaptation["verdict"] in ("adapt", "do_not_adapt")
    agreement = adaptation["ranking"]["prediction_agreement"]
    assert set(agreement) == {"adabn", "tent", "shot"}
    # It changes nothing but statistics: its final predictions are its initial ones.
    assert agreement["adabn"] == 1.0


def test_scores_are_of_b_and_thresholds_of_a(free, at_a):
    rows = free.rows("split.csv")
    assert {row["split"] for row in rows} == {"target_unlabelled", "target_test"}
    assert all((row["label"] == "") == (row["split"] == "target_unlabelled") for row in rows)
    scores = free.json("scores.json")
    scores_of_a = json.loads((at_a / "run" / "scores.json").read_text())["val"]
    assert set(scores) == {"target_test", "interval"}
    points = scores["target_test"]["operating_points"]["points"]
    assert [point["threshold"] for point in points] == [
        point["threshold"] for point in scores_of_a["operating_points"]["points"]
    ]
    temperature = scores_of_a["calibration"]["temperature"]["value"]
    assert scores["target_test"]["calibration"]["temperature"]["value"] == temperature
    assert free.json("freeze.json")["determinism"]["differ"] == 0
    assert "at A" not in (free.path / "recipe.resolved.yaml").read_text()


def test_the_commands_after_a_run_work(free, b, tmp_path):
    export = free.path / "export" / "saved_model"
    for words in (
        ("verify", export),
        ("predict", free.path, b / "dark", "--out", tmp_path / "a.csv"),
        ("report", free.path),
        ("check", free.path / "recipe.resolved.yaml"),
        ("export", free.path, "--format", "keras", "--out", tmp_path / "export"),
        ("verify", tmp_path / "export" / "1", "--run", free.path),
    ):
        answer = call(*words)
        assert answer.code == 0, answer.err
    assert len(rows_of(tmp_path / "a.csv")) == 16


def test_neither_labels_of_b_nor_the_form_of_the_model_nor_a_kill_change_a_byte(free, recipe_of, at_a):
    """The labels of B are exchanged, the model comes from the run folder of A, not from its export, and the run is
    killed in a candidate and resumed. `drawing` has this of methods with source images."""
    recipe, out = recipe_of("flipped", flipped=True, model=at_a / "run")
    kill_run_when(out / "runs/shot/checkpoints/epoch-00001.npz", recipe, out, "--oracle")
    run(recipe, out, "--resume", "--oracle")
    same_bytes(free.path, out, [*SAME, "adaptation.json", *INNER])


def test_without_batch_norm_and_without_labels_there_is_a_model_and_no_score(recipe_of, monkeypatch):
    """The initial predictions are then those of the model of A, although the phases have batch_norm: statistics."""
    adapt_module = importlib.import_module("kerastl.workflows.adapt")
    monkeypatch.setattr(adapt_module, "collect_renormalized_evidence", lambda *_: None)
    finished = run(*recipe_of("unlabelled", labeled=False), "--set", "export.formats=[]")
    adaptation = finished.json("adaptation.json")
    assert set(adaptation["ranking"]["prediction_agreement"]) == {"adabn", "tent", "shot"}
    assert adaptation["target_test"] is None
    assert set(finished.json("scores.json")) == {"interval"}
    assert (finished.path / "report.html").is_file()
