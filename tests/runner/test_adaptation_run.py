"""A recipe with two hospitals: what the target's labels changed is told, and can be taken up again."""

import json

import pytest
from runs_drawn import draw_hospitals, kill_run_when

RECIPE = """
format: 1
seed: 5
data:
  reader: {{name: folder, path: {source}, group_pattern: '([a-z]+/\\d)'}}
  split: {{val_fraction: 0.2, test_fraction: 0.2}}
  image_size_px: 32
  batch_size: 8
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: 2, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: {epochs}, learning_rate: 1e-3, trainable: none, batch_norm: statistics}}
target:
  reader: {{name: folder, path: {target}, group_pattern: '([a-z]+/\\d)'}}
  labels: few
  few: {{groups_per_class: 3}}
  split: {{val_fraction: 0.0, test_fraction: 0.6}}
export: {{formats: []}}
evaluation: {{resamples: 100}}
"""
SAME = [
    "split.csv", "predictions.csv", "scores.json", "freeze.json", "history.jsonl",
    "adaptation.json", "summary.json", "runs/source_only/predictions.csv",
    "runs/source_only/scores.json", "runs/source_only/history.jsonl",
    "runs/source_only/freeze.json",
]  # fmt: skip


@pytest.fixture
def two_hospitals(tmp_path):
    draw_hospitals(tmp_path, 20)

    def write(epochs=3):
        file = tmp_path / "two.yaml"
        text = RECIPE.format(source=tmp_path / "a", target=tmp_path / "b", epochs=epochs)
        file.write_text(text)
        return file

    return write


def test_the_model_before_adaptation_is_a_run_of_its_own_and_is_compared(kerastl, two_hospitals, tmp_path):
    out = tmp_path / "run"
    answer = kerastl("run", two_hospitals(), "--out", out)
    assert answer.code == 0, answer.err
    inner = out / "runs" / "source_only"
    present = {path.name for path in inner.iterdir()}
    assert present >= {
        "recipe.resolved.yaml", "versions.json", "split.csv", "quarantine.csv", "history.jsonl",
        "freeze.json", "predictions.csv", "scores.json", "model.keras", "model.json", "report.html",
    }  # fmt: skip
    told = json.loads((out / "adaptation.json").read_text())
    assert set(told) == {"candidates", "chosen", "verdict", "reason", "target_test", "oracle"}
    assert told["chosen"] in told["candidates"]
    before, after = (
        json.loads((folder / "scores.json").read_text())["target_test"]["overall"] for folder in (inner, out)
    )
    assert told["target_test"]["source_only"] == before
    assert told["target_test"]["chosen"] == after
    difference = told["target_test"]["difference"]
    assert difference["value"] == pytest.approx(after["group_auc"]["value"] - before["group_auc"]["value"])
    assert f"adapted minus unchanged: {difference['value']:.3f}" in answer.out
    summary = json.loads((out / "summary.json").read_text())["runs"]
    assert summary["source_only"]["target_test"] == before
    assert summary["."]["target_test"] == after
    proven = json.loads((inner / "freeze.json").read_text())["two_passes"]
    assert (proven["images"] > 0, proven["differ"]) == (True, 0)
    assert (inner / "finished.json").is_file()
    assert kerastl("report", inner).code == 0


@pytest.mark.slow
def test_methods_that_wait_for_no_labels_change_nothing_where_there_are_some(
    kerastl, two_hospitals, tmp_path
):
    waiting = "adaptation={methods: [adabn, coral], when: no_labels}"
    plain, out = tmp_path / "plain", tmp_path / "waiting"
    assert kerastl("run", two_hospitals(epochs=1), "--out", plain).code == 0
    answer = kerastl("run", two_hospitals(epochs=1), "--out", out, "--set", waiting)
    assert answer.code == 0, answer.err
    for name in (one for one in SAME if one != "adaptation.json"):
        assert (out / name).read_bytes() == (plain / name).read_bytes(), name
    told, before = (json.loads((one / "adaptation.json").read_text()) for one in (out, plain))
    assert told.pop("reason").startswith("Labels of the target may be used")
    before.pop("reason")
    assert told == before
    assert "when: no_labels" in (out / "recipe.resolved.yaml").read_text()
    unlabelled = kerastl(
        "run", two_hospitals(epochs=1), "--out", tmp_path / "none", "--set", waiting,
        "--set", "target.labels=none", "--set", "phases[1].keep=last",
        "--set", "phases[1].trainable=all",
    )  # fmt: skip
    assert unlabelled.code == 0, unlabelled.err
    told = json.loads((tmp_path / "none" / "adaptation.json").read_text())
    assert set(told["candidates"]) == {"source_only", "adabn", "coral"}


@pytest.mark.slow
def test_the_inner_recipe_gives_the_inner_run_again(kerastl, two_hospitals, tmp_path):
    assert kerastl("run", two_hospitals(), "--out", tmp_path / "run").code == 0
    inner = tmp_path / "run" / "runs" / "source_only"
    again = kerastl("run", inner / "recipe.resolved.yaml", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    for name in ("predictions.csv", "scores.json", "history.jsonl", "split.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (inner / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_killed_between_the_hospitals_goes_on_to_the_same_bytes(kerastl, two_hospitals, tmp_path):
    recipe = two_hospitals(epochs=30)
    assert kerastl("run", recipe, "--out", tmp_path / "whole").code == 0
    out = tmp_path / "killed"
    kill_run_when(out / "checkpoints" / "epoch-00003.npz", recipe, out)
    assert kerastl("run", recipe, "--out", out, "--resume").code == 0
    for name in SAME:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
