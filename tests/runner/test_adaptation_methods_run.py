"""A recipe that names ways to adapt: candidates, the choice without labels, and what is told afterwards."""

import csv
import json
import math

import pytest
import tensorflow as tf
from runs_drawn import draw_hospitals, kill_run_when, two_hospitals_recipe

from kerastl.adaptation import alignment_losses

RUN_FILES = {
    "recipe.resolved.yaml", "versions.json", "split.csv", "quarantine.csv", "history.jsonl",
    "freeze.json", "predictions.csv", "scores.json", "model.keras", "model.json", "report.html",
    "finished.json",
}  # fmt: skip
SAME = ["predictions.csv", "scores.json", "freeze.json", "history.jsonl"]


@pytest.fixture
def two_hospitals(tmp_path):
    draw_hospitals(tmp_path, 24)

    def write(epochs=1):
        file = tmp_path / "two.yaml"
        adapt = "learning_rate: 1e-4, trainable: all, batch_norm: statistics"
        text = two_hospitals_recipe(
            tmp_path, source_epochs=2, epochs=epochs, adapt=adapt, methods="[adabn, coral, fine_tune]"
        )
        file.write_text(text)
        return file

    return write


def test_candidates_are_runs_and_one_is_chosen_without_labels(kerastl, two_hospitals, tmp_path):
    out = tmp_path / "run"
    judges = ["information_maximization", "mixval"]
    judged_by = f"adaptation.select_by=[{', '.join(judges)}]"
    answer = kerastl("run", two_hospitals(), "--out", out, "--oracle", "--set", judged_by)
    assert answer.code == 0, answer.err
    assert "fine_tune learns from labels of the target, and there are none" in answer.err
    told = json.loads((out / "adaptation.json").read_text())
    names = {"source_only", "adabn", "coral"}
    assert set(told["candidates"]) == set(told["oracle"]) == names
    assert told["verdict"] in ("adapt", "do_not_adapt", "cannot_tell")
    for one in told["candidates"].values():
        assert list(one["validators"]) == judges
        assert 0 <= one["validators"]["mixval"] <= 1
    assert f"{told['chosen']}, {told['verdict'].replace('_', ' ')}: {told['reason']}" in answer.out
    for name in names:
        inner = out / "runs" / name
        assert {path.name for path in inner.iterdir()} >= RUN_FILES, name
        scores = json.loads((inner / "scores.json").read_text())
        assert scores["target_test"]["overall"] == told["oracle"][name]
    chosen = out / "runs" / told["chosen"]
    assert (chosen / "scores.json").read_bytes() == (out / "scores.json").read_bytes()
    page = (out / "report.html").read_text()
    assert told["reason"].replace("'", "&#39;") in page
    assert "chosen without the target&#39;s labels" in page or "chosen without the target's" in page


@pytest.mark.slow
def test_images_that_candidates_learn_from_carry_no_label(kerastl, two_hospitals, tmp_path):
    answer = kerastl("run", two_hospitals(), "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    with (tmp_path / "run" / "split.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "target"]
    assert {row["split"] for row in rows} == {"target_unlabelled", "target_test"}
    assert all((row["label"] == "") == (row["split"] == "target_unlabelled") for row in rows)
    told = json.loads((tmp_path / "run" / "adaptation.json").read_text())
    assert told["oracle"] is None
    # A candidate that was not chosen has not seen a test image.
    (other,) = {"adabn", "coral"} - {told["chosen"]} if told["chosen"] != "source_only" else {"coral"}
    judged = json.loads((tmp_path / "run" / "runs" / other / "scores.json").read_text())
    assert "target_test" not in judged
    assert "test" not in judged


@pytest.mark.slow
def test_a_method_whose_training_breaks_down_is_left_out(kerastl, two_hospitals, tmp_path, monkeypatch):
    monkeypatch.setattr(alignment_losses, "coral_loss", lambda source, _: tf.reduce_sum(source) * math.nan)
    out = tmp_path / "run"
    answer = kerastl("run", two_hospitals(), "--out", out, "--set", "adaptation.methods=[coral]")
    assert answer.code == 0, answer.err
    assert "Warning: coral is no candidate: " in answer.err
    told = json.loads((out / "adaptation.json").read_text())
    assert set(told["candidates"]) == {"source_only"}
    assert "in phase adapt, epoch 1" in told["left_out"]["coral"]
    assert told["chosen"] == "source_only"
    assert "coral is no candidate" in (out / "report.html").read_text()
    assert not (out / "runs" / "coral" / "finished.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("phases[1].batch_norm=frozen", "works by the statistics of BatchNorm, and all are frozen"),
        ("phases[1].keep=best", "the target has no labelled validation images"),
        ("adaptation.methods=[fine_tune]", "source_only alone is left"),
        ("data.split.val_fraction=0", "has no validation image at the source"),
        ("target.split.test_fraction=1.0", "test_fraction"),
    ],
)  # fmt: skip
def test_what_cannot_adapt_is_refused_before_anything_is_written(
    kerastl, two_hospitals, tmp_path, change, said
):
    answer = kerastl("run", two_hospitals(), "--out", tmp_path / "run", "--set", change)
    assert answer.code == 1
    assert said in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["adabn", "coral"])
def test_a_run_killed_in_a_candidate_goes_on_to_the_same_bytes(kerastl, two_hospitals, tmp_path, at):
    recipe = two_hospitals(epochs=12)
    assert kerastl("run", recipe, "--out", tmp_path / "whole").code == 0
    out = tmp_path / "killed"
    kill_run_when(out / "runs" / at / "checkpoints" / "epoch-00002.npz", recipe, out)
    answer = kerastl("run", recipe, "--out", out, "--resume")
    assert answer.code == 0, answer.err
    files = [*SAME, "adaptation.json", "summary.json"]
    files += [f"runs/{one}/{name}" for one in ("source_only", "adabn", "coral") for name in SAME]
    for name in files:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
