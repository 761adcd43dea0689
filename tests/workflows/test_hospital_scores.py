"""Two hospitals in tables: prevalence at the target, differences between sites, and subgroups, from a run's own files."""

import numpy as np
import pytest

in_group_of_few = pytest.mark.xdist_group("few")
in_group_of_unlabelled = pytest.mark.xdist_group("unlabelled")


def check_subgroups(finished):
    """Compare the accuracy of each subgroup with a count of the rows of predictions.csv."""
    rows = [row for row in finished.rows("predictions.csv") if row["split"] == "target_test"]
    subgroups = finished.json("scores.json")["target_test"]["subgroups"]
    assert set(subgroups) == {"sex", "age"}
    for column, values in subgroups.items():
        assert set(values) == {row[f"subgroup_{column}"] for row in rows}
        for value, figures in values.items():
            members = [row for row in rows if row[f"subgroup_{column}"] == value]
            accuracy = np.mean([row["label"] == row["predicted"] for row in members])
            assert figures["accuracy"]["value"] == pytest.approx(accuracy)
            assert figures["images"]["value"] == figures["groups"]["value"] == len(members)
    assert all(value.startswith("Q") for value in subgroups["age"])


def check_shift(finished, splits):
    scores = finished.json("scores.json")
    shift = scores["label_shift"]
    assert shift["target"]["splits"] == splits
    rows = finished.rows("predictions.csv")
    assert shift["target"]["images"] == sum(row["split"] in splits for row in rows)
    light = [row["label"] == "light" for row in rows if row["split"] == "target_test"]
    estimates = shift["classes"]["light"]
    assert estimates["true"]["value"] == pytest.approx(np.mean(light))
    assert estimates["true"]["value"] == pytest.approx(0.25, abs=0.05)
    assert estimates["train"]["value"] == pytest.approx(0.5, abs=0.05)
    for method in ("em", "bbse"):
        assert estimates[method]["value"] is None or 0 <= estimates[method]["value"] <= 1
    uncorrected = shift["correction"]["uncalibrated"]["brier"]
    assert uncorrected == scores["target_test"]["overall"]["brier"]
    assert {"explained", "rest"} <= set(shift)


@in_group_of_few
def test_a_run_with_few_labels_reports_prevalence_sites_and_subgroups(few):
    check_subgroups(few)
    # Labeled patients were picked by class: the remaining patients are no sample of the hospital.
    check_shift(few, ["target_test"])
    scores = few.json("scores.json")
    sites = scores["sites"]
    for when in ("before", "after"):
        assert 0 <= sites["target"][when]["value"] <= 1
    assert set(sites["domains"]) == {"north", "south"}
    assert sites["label"]["value"] == pytest.approx(5 / 6, abs=0.1)
    assert sites["label"]["shortcut"] is True
    assert "Warning: " in few.answer.out
    inner = few.json("runs/source_only/scores.json")
    assert inner["sites"]["target"] == sites["target"] | {"after": None}
    assert inner["label_shift"]["target"] == scores["label_shift"]["target"]
    page = (few.path / "report.html").read_text()
    assert "target_test" in page
    assert "north" in page
    assert not any("subgroup" in name for name in few.rows("split.csv")[0])


@pytest.mark.slow
@in_group_of_unlabelled
def test_a_run_without_target_labels_predicts_the_unlabeled_images(unlabelled):
    check_subgroups(unlabelled)
    check_shift(unlabelled, ["target_test", "target_unlabelled"])
    adabn = unlabelled.json("runs/adabn/scores.json")
    assert adabn["sites"]["target"]["after"]["value"] is not None
    rows = [row for row in unlabelled.rows("predictions.csv") if row["split"] == "target_unlabelled"]
    assert len(rows) == 24
    assert {row["label"] for row in rows} == {""}
    assert "target_unlabelled" not in unlabelled.json("scores.json")


@pytest.mark.slow
@in_group_of_unlabelled
def test_target_labels_do_not_change_an_estimate_of_the_prevalence(unlabelled, drawing):
    """Both labels of the target are exchanged: estimates are the same, the true shares are not."""
    first, second = (
        finished.json("runs/source_only/scores.json")["label_shift"]["classes"]["light"]
        for finished in (unlabelled, drawing)
    )
    for estimate in ("em", "bbse", "source"):
        assert first[estimate] == second[estimate]
    before, same = (
        finished.json("runs/source_only/scores.json")["sites"]["target"]["before"]
        for finished in (unlabelled, drawing)
    )
    assert before == same
    assert first["true"]["value"] == pytest.approx(1 - second["true"]["value"])


@in_group_of_few
def test_a_column_of_names_makes_no_subgroups(kerastl, few, tmp_path):
    out = tmp_path / "run"
    sets = ("--set", "evaluation.subgroups=[patient_id]")
    answer = kerastl("run", few.recipe, "--out", out, *sets)
    assert answer.code == 1
    assert "patient_id" in answer.err
    assert "alight" not in answer.err, "names of patients are not printed"
    assert not out.exists()
