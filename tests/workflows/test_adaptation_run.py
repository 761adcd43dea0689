"""A recipe with two hospitals and few target labels: the effect of fine-tuning is reported, and the run can be resumed."""

import pytest
from make_runs import kill_run_when, run, same_bytes

SAME = [
    "split.csv", "predictions.csv", "scores.json", "freeze.json", "history.jsonl",
    "adaptation.json", "summary.json", "runs/source_only/predictions.csv",
    "runs/source_only/scores.json", "runs/source_only/history.jsonl",
    "runs/source_only/freeze.json",
]  # fmt: skip
pytestmark = pytest.mark.xdist_group("few")


def test_the_model_before_adaptation_is_a_run_of_its_own_and_is_compared(kerastl, few):
    inner = few.path / "runs" / "source_only"
    present = {path.name for path in inner.iterdir()}
    assert present >= {
        "recipe.resolved.yaml", "versions.json", "split.csv", "quarantine.csv", "history.jsonl",
        "freeze.json", "predictions.csv", "scores.json", "model.keras", "model.json", "report.html",
        "finished.json",
    }  # fmt: skip
    adaptation = few.json("adaptation.json")
    assert set(adaptation) == {
        "candidates", "chosen", "verdict", "reason", "target_test", "oracle",
    }  # fmt: skip
    assert adaptation["chosen"] in adaptation["candidates"]
    before, after = (
        few.json(f"{folder}scores.json")["target_test"]["overall"] for folder in ("runs/source_only/", "")
    )
    assert adaptation["target_test"]["source_only"] == before
    assert adaptation["target_test"]["chosen"] == after
    difference = adaptation["target_test"]["difference"]
    assert difference["value"] == pytest.approx(after["group_auc"]["value"] - before["group_auc"]["value"])
    assert f"{difference['value']:.3f}" in few.answer.out
    summary = few.json("summary.json")["runs"]
    assert summary["source_only"]["target_test"] == before
    assert summary["."]["target_test"] == after
    determinism = few.json("runs/source_only/freeze.json")["determinism"]
    assert (determinism["images"] > 0, determinism["differ"]) == (True, 0)
    assert kerastl("report", inner).code == 0


@pytest.mark.slow
def test_neither_methods_for_unlabeled_targets_nor_a_kill_at_the_target_change_a_run_with_labels(
    few, tmp_path
):
    """The scenario `unlabelled` tests that these methods are used without labels."""
    out, methods = tmp_path / "waiting", ("--set", "adaptation={methods: [adabn, coral], when: no_labels}")
    kill_run_when(out / "checkpoints" / "epoch-00002.npz", few.recipe, out, *methods)
    waiting = run(few.recipe, out, "--resume", *methods)
    with_reason = ("adaptation.json", "summary.json")
    same_bytes(few.path, waiting.path, [name for name in SAME if name not in with_reason])
    first, second = few.json("adaptation.json"), waiting.json("adaptation.json")
    assert first.pop("reason") != second.pop("reason")
    assert first == second
    first, second = few.json("summary.json"), waiting.json("summary.json")
    assert first["kept"].pop("reason") != second["kept"].pop("reason")
    assert first == second
    assert "when: no_labels" in (waiting.path / "recipe.resolved.yaml").read_text()


@pytest.mark.slow
def test_the_inner_recipe_repeats_the_inner_run(few, tmp_path):
    inner = few.path / "runs" / "source_only"
    again = run(inner / "recipe.resolved.yaml", tmp_path / "again")
    same_bytes(inner, again.path, ["predictions.csv", "scores.json", "history.jsonl", "split.csv"])
