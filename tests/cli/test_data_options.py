"""`--data` and `--target`: the reader by the kind of path, kept options, contradictions, and paths that do not exist."""

import subprocess
from pathlib import Path

import pytest

import kerastl
from kerastl import recipe as recipes
from kerastl.cli import main
from kerastl.errors import Problems
from kerastl.workflows.check_recipe import check_recipe

GROUPED = """
format: 1
data: {reader: {name: table, path: old.csv, columns: {group: who}}}
backbone: {name: small_cnn, weights: none}
phases: [{name: all, epochs: 1, trainable: all}]
"""


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos/a").mkdir(parents=True)
    for name in ("a.csv", "B.CSV", "-x.csv", "$x y.csv"):
        rows = [f"{number}.png,{'dark' if number % 2 else 'light'},{number}" for number in range(8)]
        Path(name).write_text("\n".join(["path,label,who", *rows, ""]))
    for number in range(8):
        Path(f"{number}.png").touch()
    Path("other.csv").write_text("image,diagnosis\n")
    Path("mine.yaml").write_text(GROUPED)


def problems(*sets, recipe="mine.yaml", data=None, target=None):
    with pytest.raises(Problems) as refused:
        check_recipe(recipes.find(recipe), sets, data=data, target=target)
    return [(problem.where, problem.message) for problem in refused.value.problems]


@pytest.mark.parametrize(("path", "name"), [("photos", "folder"), ("a.csv", "table"), ("B.CSV", "table")])
def test_the_kind_of_path_selects_the_reader(path, name):
    checked = check_recipe(recipes.find("folder-classifier"), (), data=Path(path))
    assert (checked.data.reader.name, checked.data.reader.options.path) == (name, Path(path).absolute())
    assert recipes.as_plain(checked)["data"]["reader"]["path"] == str(Path(path).absolute())


def test_the_options_of_the_same_reader_are_kept_and_further_ones_can_be_set():
    checked = check_recipe(recipes.find("mine.yaml"), ["data.reader.columns.label=who"], data=Path("a.csv"))
    columns = checked.data.reader.options.columns
    assert (columns.group, columns.label) == ("who", "who")
    assert (
        check_recipe(recipes.find("mine.yaml"), (), data=Path("photos")).data.reader.options.path.name
        == "photos"
    )


@pytest.mark.parametrize(
    "change", ["data.reader.path=photos", "data.reader.name=folder", "data.reader=tfds", "data={}"]
)
def test_a_contradiction_to_set_is_reported(change):
    found = problems(change, data=Path("a.csv"))
    assert ("--data", f"cannot be combined with --set {change}. Remove one of the two.") in found


def test_all_missing_paths_and_columns_are_reported_with_other_problems():
    found = problems(
        "seed=x",
        "backbone.weights=./gone.keras",
        "data.split.group_by=patient",
        data=Path("other.csv"),
        target=Path("no"),
    )
    assert [place for place, _ in found] == [
        "line 3, data.reader.columns.path", "line 3, data.reader.columns.group", "line 3, data.reader.columns.label",
        "--set seed", "--target, target", "--set data.split.group_by", "--target", "--set backbone.weights",
    ]  # fmt: skip
    text = dict(found)
    assert (
        "has no column 'path'. Did you mean 'image'? Columns: image, diagnosis."
        in text["line 3, data.reader.columns.path"]
    )


def test_a_table_without_labels_is_reported_for_training():
    Path("nolabel.csv").write_text("path,who,diagnosis\n")
    ((where, message),) = problems(data=Path("nolabel.csv"))
    assert where == "line 3, data.reader.columns.label"
    assert "Did you mean 'diagnosis'?" in message


def test_duplicate_phase_names_are_reported_with_the_other_problems():
    phases = "phases=[{name: a, epochs: 1, trainable: all}, {name: a, epochs: 0}, {name: a, epochs: 1, trainable: all}]"
    where = [place for place, _ in problems(phases, data=Path("gone"))]
    assert {"--set phases[1].name", "--set phases[2].name", "--set phases[1].epochs", "--data"} <= set(where)


def test_python_takes_the_same_paths():
    with pytest.raises(Problems, match=r"--data: the folder .*gone does not exist"):
        kerastl.run("folder-classifier", data="gone")


@pytest.mark.parametrize("path", ["-x.csv", "$x y.csv"])
def test_the_printed_command_survives_a_shell(path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["check", "mine.yaml", "--data", path, "--set", "phases[0].epochs=3"])
    assert left.value.code == 0
    _, _, command = capsys.readouterr().out.partition("To run it: kerastl ")
    script = f"set -- {command.strip()}; printf '%s\\0' \"$@\""
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    words = printed.split("\0")[:-1]
    assert words == ["run", "mine.yaml", "--data", path, "--set", "phases[0].epochs=3"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("https://example.org/photos", "Download it"), ("s3://bucket/photos", "Download it"),
        ("gs://bucket/t.csv", "Download it"), ("photos.zip", "Unpack it"), ("photos.tar.gz", "Unpack it"),
        ("labels.xlsx", "a table (.csv, .tsv or .parquet)"), ("labels.json", "a table (.csv, .tsv or .parquet)"),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_read_gets_advice(path, hint):
    if "/" not in path:
        Path(path).touch()
    ((where, message),) = problems(recipe="folder-classifier", data=Path(path))
    assert where == "--data"
    assert hint in message


def test_a_target_for_a_recipe_without_one_gets_advice():
    ((where, message),) = problems(recipe="folder-classifier", data=Path("a.csv"), target=Path("B.CSV"))
    assert where == "--target, target"
    assert "--set target.labels=none, or use a recipe with a target, such as hospital-adaptation." in message
