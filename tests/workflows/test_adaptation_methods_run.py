"""A recipe that names adaptation methods: candidates, the choice without labels, and what is reported afterwards."""

import html

import pytest
from make_runs import draw_hospitals, kill_run_when, run, same_bytes, two_hospitals_recipe

RUN_FILES = {
    "recipe.resolved.yaml", "versions.json", "split.csv", "quarantine.csv", "history.jsonl",
    "freeze.json", "predictions.csv", "scores.json", "model.keras", "model.json",
    "finished.json",
}  # fmt: skip
SAME = ["predictions.csv", "scores.json", "freeze.json", "history.jsonl"]
VALIDATORS = ["information_maximization", "mixval"]
in_group_of_unlabelled = pytest.mark.xdist_group("unlabelled")


@pytest.mark.slow
@in_group_of_unlabelled
def test_candidates_are_runs_and_one_is_chosen_without_labels(unlabelled):
    out, adaptation = unlabelled.path, unlabelled.json("adaptation.json")
    assert "fine_tune" in unlabelled.answer.err
    names = {"source_only", "adabn", "coral"}
    assert set(adaptation["candidates"]) == set(adaptation["oracle"]) == names
    assert adaptation["verdict"] in ("adapt", "do_not_adapt", "cannot_tell")
    for candidate in adaptation["candidates"].values():
        assert list(candidate["validators"]) == VALIDATORS
        assert 0 <= candidate["validators"]["mixval"] <= 1
    assert adaptation["chosen"] in unlabelled.answer.out
    assert adaptation["reason"] in unlabelled.answer.out
    for name in names:
        inner = out / "runs" / name
        present = {path.name for path in inner.iterdir()}
        assert present >= RUN_FILES, name
        assert ("report.html" in present) == (name == "source_only")
        scores = unlabelled.json(f"runs/{name}/scores.json")
        assert scores["target_test"]["overall"] == adaptation["oracle"][name]
    chosen = out / "runs" / adaptation["chosen"]
    assert (chosen / "scores.json").read_bytes() == (out / "scores.json").read_bytes()
    page = (out / "report.html").read_text()
    assert html.escape(adaptation["reason"]).replace("&#x27;", "&#39;") in page


@pytest.mark.slow
@in_group_of_unlabelled
def test_a_method_that_diverges_is_left_out(unlabelled):
    adaptation = unlabelled.json("adaptation.json")
    assert "mcc" in unlabelled.answer.err
    assert set(adaptation["diverged"]) == {"mcc"}
    assert "adapt" in adaptation["diverged"]["mcc"], "the phase"
    page = (unlabelled.path / "report.html").read_text()
    assert html.escape(adaptation["diverged"]["mcc"]) in page
    assert not (unlabelled.path / "runs" / "mcc" / "finished.json").exists()


@pytest.mark.slow
@in_group_of_unlabelled
def test_no_label_of_the_target_is_read_and_other_candidates_see_no_test_image(drawing):
    rows = [row for row in drawing.rows("split.csv") if row["split"].startswith("target")]
    assert {row["split"] for row in rows} == {"target_unlabelled", "target_test"}
    assert all((row["label"] == "") == (row["split"] == "target_unlabelled") for row in rows)
    adaptation = drawing.json("adaptation.json")
    assert adaptation["oracle"] is None
    others = {"fda", "fixmatch"} - {adaptation["chosen"]}
    assert others <= set(adaptation["candidates"])
    for name in others:
        assert not {"test", "target_test"} & set(drawing.json(f"runs/{name}/scores.json"))


@pytest.mark.slow
@in_group_of_unlabelled
def test_a_run_killed_in_a_candidate_resumes_to_the_same_bytes(drawing, tmp_path):
    """The candidate draws random numbers, and others are finished when the run is killed."""
    out = tmp_path / "killed"
    kill_run_when(out / "runs/fixmatch/checkpoints/epoch-00002.npz", drawing.recipe, out)
    run(drawing.recipe, out, "--resume")
    names = [*SAME, "adaptation.json", "summary.json"]
    for candidate in ("source_only", "fda", "fixmatch"):
        names += [f"runs/{candidate}/{name}" for name in SAME]
    same_bytes(drawing.path, out, names)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """A recipe that is never run to its end."""
    folder = tmp_path_factory.mktemp("refused")
    draw_hospitals(folder, 12)
    file = folder / "two.yaml"
    adapt = "learning_rate: 1e-4, trainable: all, batch_norm: statistics"
    values = {"source_epochs": 1, "epochs": 1, "adapt": adapt, "methods": "[adabn, coral]"}
    file.write_text(two_hospitals_recipe(folder, **values))
    return file


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (
            ["phases[1].batch_norm=frozen", "phases[1].keep=best", "data.split.val_fraction=0"],
            ["adabn", "to choose the best epoch", "val_fraction"],
        ),
        (["adaptation.methods=[fine_tune]"], ["source_only"]),
        (["target.split.test_fraction=1.0"], ["test_fraction"]),
    ],
)
def test_what_cannot_adapt_is_refused_before_anything_is_written(kerastl, refused, tmp_path, changes, keys):
    sets = [word for change in changes for word in ("--set", change)]
    answer = kerastl("run", refused, "--out", tmp_path / "run", *sets)
    assert answer.code == 1
    assert [key for key in keys if key not in answer.err] == []
    assert not (tmp_path / "run").exists()
