"""Two hospitals whose tables have the same file name: every message names its table by path."""

import csv
from pathlib import Path

import pytest
from make_runs import draw
from PIL import Image

from kerastl import recipe as recipes
from kerastl.errors import RequestError
from kerastl.runs import Run
from kerastl.workflows import load_datasets, run
from kerastl.workflows.check_recipe import check_recipe

RECIPE = """
format: 1
seed: 5
data: {{reader: {{name: table, path: {a}}}, image_size_px: 32, batch_size: 8}}
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: 1, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: 1, learning_rate: 1e-4, trainable: all}}
target: {{reader: {{name: table, path: {b}}}, labels: all}}
export: {{formats: []}}
"""


@pytest.fixture
def hospitals(tmp_path):
    """Return a recipe for a/labels.csv and b/labels.csv, with 10 images per class each."""
    for name, seed in (("a", 1), ("b", 7)):
        rows = [["path", "label"]]
        for label in ("dark", "light"):
            draw(tmp_path / name / label, 10, seed, light=label == "light")
            rows += [[f"{label}/{number}.png", label] for number in range(10)]
        with (tmp_path / name / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    recipe = tmp_path / "two.yaml"
    tables = {name: tmp_path / name / "labels.csv" for name in "ab"}
    recipe.write_text(RECIPE.format(**tables))
    return recipe, tables


def test_problems_of_both_tables_are_reported_together(kerastl, hospitals, tmp_path):
    recipe, tables = hospitals
    for name, table in tables.items():
        table.write_text(table.read_text() + f"gone_{name}.png,dark\n")
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 1
    for name, table in tables.items():
        assert str(table) in answer.err
        assert f"gone_{name}.png" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_unreadable_images_are_reported_with_their_table(kerastl, hospitals, tmp_path):
    recipe, tables = hospitals
    for number in range(5):
        (tables["b"].parent / "dark" / f"{number}.png").write_bytes(b"x")
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 1
    assert "target (b/labels.csv)" in answer.err
    assert "a/labels.csv" not in answer.err
    (tables["a"].parent / "dark" / "0.png").write_bytes(b"x")
    answer = kerastl("run", recipe, "--out", tmp_path / "run", "--set", "data.max_pixels=10")
    assert answer.code == 1
    assert "source (a/labels.csv)" in answer.err
    assert "target (b/labels.csv)" in answer.err


def test_check_and_run_report_the_spellings_of_both_tables(kerastl, hospitals, tmp_path):
    recipe, tables = hospitals
    for table in tables.values():
        table.write_text(table.read_text().replace("9.png,dark", "9.png,Dark"))
    for words in (["check", recipe], ["run", recipe, "--out", tmp_path / "run"]):
        answer = kerastl(*words)
        assert answer.code == 1
        assert answer.err.count("column 'label': 'dark' (line 2) and 'Dark' (line 11)") == 2
    sets = [
        words
        for section in ("data", "target")
        for key in ("reader.identity=exact", "split.allow_rare=true")
        for words in ("--set", f"{section}.{key}")
    ]
    assert kerastl("check", recipe, *sets).code == 0


def test_check_reports_unclear_folders(kerastl, hospitals):
    recipe, tables = hospitals
    both = tables["a"].parents[1]
    sets = ["--set", f"data.reader={{name: folder, path: {both}}}"]
    answer = kerastl("check", recipe, *sets)
    assert answer.code == 1
    assert "class_level: 2 reads the classes 'dark' and 'light'" in answer.err
    answer = kerastl("check", recipe, *sets, "--set", "data.reader.class_level=2")
    assert "20 images of the target are also in the source" in answer.err, "both tables are in the folder"


def copy_image(table: Path, image: Path, path: str, label: str) -> None:
    """Add a copy of an image to a table."""
    (table.parent / path).write_bytes(image.read_bytes())
    table.write_text(table.read_text() + f"{path},{label}\n")


def test_copies_with_two_labels_or_in_two_domains_stop_a_run(kerastl, hospitals, tmp_path):
    recipe, tables = hospitals
    image = tables["a"].parent / "dark" / "0.png"
    copy_image(tables["b"], image, "dark/copy.png", "dark")
    answer = kerastl("run", recipe, "--out", tmp_path / "run")
    assert answer.code == 1
    assert "dark/copy.png (dark/0.png in the source)" in answer.err
    assert "data.duplicates=allow" in answer.err
    copy_image(tables["a"], image, "light/other.png", "light")
    answer = kerastl("run", recipe, "--out", tmp_path / "run", "--set", "data.duplicates=refuse")
    assert answer.code == 1
    assert "dark/0.png and light/other.png: the same image has the labels 'dark' and 'light'" in answer.err
    assert "data.duplicates=keep_together" in answer.err


def test_copies_stay_in_one_split_of_a_run(hospitals, tmp_path):
    recipe, tables = hospitals
    for number in range(4):
        image = tables["b"].parent / "dark" / f"{number}.png"
        copy_image(tables["b"], image, f"dark/copy{number}.png", "dark")
    datasets = load_datasets(check_recipe(recipes.find(str(recipe)), ()), Run(tmp_path / "run"))
    splits = {record.path: record.split for record in datasets.records if record.domain == "target"}
    for number in range(4):
        assert splits[f"dark/{number}.png"] == splits[f"dark/copy{number}.png"]
    assert any("same bytes): 4 of 24 images" in note for note in datasets.notes)


def test_notes_name_their_table(hospitals, tmp_path):
    recipe, tables = hospitals
    text = recipes.find(str(recipe))
    notes = load_datasets(check_recipe(text, ()), Run(tmp_path / "run")).notes
    about_columns = [note for note in notes if "'label'" in note]
    assert sorted(note.partition(":")[0] for note in about_columns) == ["source", "target"]
    renamed = tables["b"].rename(tables["b"].with_name("b.csv"))
    sets = [f"target.reader.path={renamed}"]
    notes = load_datasets(check_recipe(text, sets), Run(tmp_path / "run")).notes
    about_columns = [note for note in notes if "'label'" in note]
    assert sorted(note.partition(":")[0] for note in about_columns) == ["b.csv", "labels.csv"]


def test_warnings_about_the_target_are_printed_before_training(kerastl, hospitals, tmp_path, monkeypatch):
    recipe, tables = hospitals
    for level, file in enumerate(sorted(tables["b"].parent.rglob("*.png"))):
        Image.new("RGB", (30, 30), (level, level, level)).save(file)

    def stop(*args):
        raise RequestError("Stop here.")

    monkeypatch.setattr(run, "build_initial_model", stop)
    sets = ["--set", "target.split.test_fraction=0.0"]
    answer = kerastl("run", recipe, "--oracle", *sets, "--out", tmp_path / "run")
    assert "Stop here." in answer.err
    assert "20 of 20" in answer.err
    assert "--oracle" in answer.err
