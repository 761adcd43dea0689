"""Two hospitals in tables: prevalence at the target, sites that are told apart, subgroups, from a run's own files."""

import csv
import json

import numpy as np
import pytest
from runs_drawn import draw

RECIPE = """
format: 1
seed: 5
data:
  reader: {{name: table, path: {source}}}
  split: {{val_fraction: 0.3, test_fraction: 0.15}}
  image_size_px: 32
  batch_size: 16
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: 2, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: 1, learning_rate: 1e-4, trainable: all, batch_norm: statistics, keep: last}}
target:
  reader: {{name: table, path: {target}}}
  labels: {labels}
  split: {{val_fraction: 0.0, test_fraction: 0.5}}
{adaptation}
export: {{formats: []}}
evaluation: {{resamples: 100, subgroups: [sex, age]}}
"""


@pytest.fixture
def hospitals(tmp_path):
    """At the source the site tells the label in five of six cases; at the target one in four is light. An image a patient."""
    for name, dark, light, seed in (("a", 36, 36, 1), ("b", 36, 12, 7)):
        draw(tmp_path / name / "dark", dark, seed, light=False)
        draw(tmp_path / name / "light", light, seed + 1, light=True)
        rows = [["path", "label", "patient_id", "site", "sex", "age"]]
        for label, count in (("dark", dark), ("light", light)):
            for number in range(count):
                own = number % 6 > 0
                site = "b" if name == "b" else "north" if own == (label == "light") else "south"
                patient = f"{name}{label}{number}"
                sex = "f" if number % 2 else "m"
                rows.append([f"{name}/{label}/{number}.png", label, patient, site, sex, 20 + number])
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def write(labels="few", adaptation=""):
        file = tmp_path / "hospitals.yaml"
        paths = {"source": tmp_path / "a.csv", "target": tmp_path / "b.csv"}
        file.write_text(RECIPE.format(labels=labels, adaptation=adaptation, **paths))
        return file

    return write


def rows_of(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def check_subgroups(out, scores):
    """Accuracy of each subgroup, counted from predictions.csv."""
    rows = [row for row in rows_of(out / "predictions.csv") if row["split"] == "target_test"]
    told = scores["target_test"]["subgroups"]
    assert set(told) == {"sex", "age"}
    for column, values in told.items():
        assert set(values) == {row[f"subgroup_{column}"] for row in rows}
        for value, figures in values.items():
            some = [row for row in rows if row[f"subgroup_{column}"] == value]
            right = np.mean([row["label"] == row["predicted"] for row in some])
            assert figures["accuracy"]["value"] == pytest.approx(right)
            assert figures["images"]["value"] == figures["groups"]["value"] == len(some)
    assert all(value.startswith("Q") for value in told["age"])


def check_shift(out, scores, splits):
    shift = scores["label_shift"]
    assert shift["target"]["splits"] == splits
    rows = rows_of(out / "predictions.csv")
    assert shift["target"]["images"] == sum(row["split"] in splits for row in rows)
    light = [row["label"] == "light" for row in rows if row["split"] == "target_test"]
    found = shift["classes"]["light"]
    assert found["true"]["value"] == pytest.approx(np.mean(light)) == pytest.approx(0.25, abs=0.05)
    assert found["train"]["value"] == pytest.approx(0.5, abs=0.05)
    for method in ("em", "bbse"):
        assert found[method]["value"] is None or 0 <= found[method]["value"] <= 1
    told = shift["correction"]["uncalibrated"]["brier"]
    assert told == scores["target_test"]["overall"]["brier"]
    assert {"explained", "rest"} <= set(shift)


@pytest.mark.slow
def test_a_run_with_few_labels_tells_prevalence_sites_and_subgroups(kerastl, hospitals, tmp_path):
    out = tmp_path / "run"
    answer = kerastl("run", hospitals(), "--out", out)
    assert answer.code == 0, answer.err
    scores = json.loads((out / "scores.json").read_text())
    check_subgroups(out, scores)
    # Who was labelled was picked by class: the patients left over are no sample of the hospital.
    check_shift(out, scores, ["target_test"])
    sites = scores["sites"]
    for when in ("before", "after"):
        assert 0 <= sites["target"][when]["value"] <= 1
    assert set(sites["domains"]) == {"north", "south"}
    assert sites["label"]["value"] == pytest.approx(5 / 6, abs=0.1)
    assert sites["label"]["shortcut"] is True
    assert "Warning: Among the training images the site alone predicts the label" in answer.out
    inner = json.loads((out / "runs" / "source_only" / "scores.json").read_text())
    assert inner["sites"]["target"] == sites["target"] | {"after": None}
    assert inner["label_shift"]["target"] == scores["label_shift"]["target"]
    page = (out / "report.html").read_text()
    assert "Sites told apart" in page
    assert "Subgroups, target_test" in page
    assert "cut at the quartiles of the training images" in answer.err
    assert "Q1: under" not in answer.err
    assert not any("subgroup" in name for name in rows_of(out / "split.csv")[0])


@pytest.mark.slow
def test_a_run_without_labels_repeats_to_the_byte_and_answers_the_unlabelled(kerastl, hospitals, tmp_path):
    recipe = hospitals("none", "adaptation: {methods: [adabn]}")
    for name in ("one", "two"):
        assert kerastl("run", recipe, "--out", tmp_path / name, "--oracle").code == 0
    out = tmp_path / "one"
    scores = json.loads((out / "scores.json").read_text())
    check_subgroups(out, scores)
    check_shift(out, scores, ["target_test", "target_unlabelled"])
    adabn = json.loads((out / "runs" / "adabn" / "scores.json").read_text())
    assert adabn["sites"]["target"]["after"]["value"] is not None
    unlabelled = [row for row in rows_of(out / "predictions.csv") if row["split"] == "target_unlabelled"]
    assert len(unlabelled) == 24
    assert {row["label"] for row in unlabelled} == {""}
    assert "target_unlabelled" not in scores
    for name in ("scores.json", "predictions.csv", "runs/adabn/scores.json"):
        assert (tmp_path / "two" / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.slow
def test_no_label_of_the_target_moves_an_estimate_of_its_prevalence(kerastl, hospitals, tmp_path):
    """Labels of the target turned about, in a run that reads none to learn: estimates are the same, the true shares are not."""
    recipe = hospitals("none", "adaptation: {methods: [adabn]}")
    table = tmp_path / "b.csv"
    rows = rows_of(table)
    fixed = ["train" if number % 2 else "test" for number in range(len(rows))]

    def run(name, swap):
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "split"])
            writer.writeheader()
            for row, split in zip(rows, fixed, strict=True):
                label = {"dark": "light", "light": "dark"}[row["label"]] if swap else row["label"]
                writer.writerow(row | {"label": label, "split": split})
        assert kerastl("run", recipe, "--out", tmp_path / name).code == 0
        scores = json.loads((tmp_path / name / "scores.json").read_text())
        return scores["label_shift"]["classes"]["light"], scores["sites"]

    (first, sites), (second, same) = run("plain", swap=False), run("swapped", swap=True)
    assert [first[key] for key in ("em", "bbse", "source")] == [
        second[key] for key in ("em", "bbse", "source")
    ]
    assert sites == same
    assert first["true"]["value"] == pytest.approx(1 - second["true"]["value"])


def test_a_column_of_names_is_refused_before_anything_is_trained(kerastl, hospitals, tmp_path):
    out = tmp_path / "run"
    answer = kerastl("run", hospitals(), "--out", out, "--set", "evaluation.subgroups=[patient_id]")
    assert answer.code == 1
    assert "'patient_id' has 120 different texts, and at most 30 make subgroups" in answer.err
    assert "alight" not in answer.err
    assert not out.exists()
