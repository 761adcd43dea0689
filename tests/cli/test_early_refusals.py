"""Requests that are refused before TensorFlow is imported."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kerastl.cli import main

REQUESTS = """
report gone
export gone
predict gone photos
lr gone
run gone
adapt-curve gone
augment preview gone
run folder-classifier --data gone
lr folder-classifier --data gone
lr folder-classifier --data photos --phase gone
augment audit folder-classifier --data photos --operations gone
adapt-curve folder-classifier --data photos
weights verify gone
weights fetch gone
run folder-classifier --data empty
run folder-classifier --data photos --out photos
predict gone photos --out table.xlsx
run folder-classifier --data photos/cat
run folder-classifier --data photos --set target.labels=few --target empty
check hospital-adaptation --data photos --target photos
check hospital-adaptation --data photos --target photos/../photos
check hospital-adaptation --data photos --target other
run folder-classifier --data photos --set evaluation.positive=bird
check folder-classifier --data three --set head.binary=true
run folder-classifier --data three.csv --set head.binary=true
lr folder-classifier --data photos --lowest 2 --highest 1
lr folder-classifier --data photos --highest inf
lr folder-classifier --data photos --out rate.pdf
lr folder-classifier --data photos --out gone/rate.png
augment preview folder-classifier --data photos --operation gone
augment preview folder-classifier --data photos --out photos/new
augment preview folder-classifier --data photos --set augment=none
augment audit folder-classifier --data photos --out photos/new
adapt-curve hospital-adaptation --data photos --target photos --labels x
adapt-curve hospital-adaptation --data photos --target other --labels 0,1 --out photos/new
"""
SCRIPT = """
import sys
from kerastl.cli import main
for request in sys.stdin.read().strip().splitlines():
    try:
        main(request.split())
    except SystemExit as left:
        print(request, left.code, "tensorflow" in sys.modules, sep=": ")
"""


def test_wrong_requests_are_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "three.csv").write_text(
        "path,label\n" + "".join(f"three/{name}/{i}.png,{name}\n" for name in "abc" for i in range(8))
    )
    for folder in ("photos/cat", "photos/dog", "other/cat", "other/bird", "three/a", "three/b", "three/c"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(8):
            (tmp_path / folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, input=REQUESTS, cwd=tmp_path, capture_output=True, text=True, check=True)
    requests = REQUESTS.strip().splitlines()
    assert done.stdout.splitlines() == [f"{request}: 1: False" for request in requests]
    assert done.stderr.count("Error: ") == len(requests)


def refusal(capsys, *words):
    """Return the error message of a refused command."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert left.value.code == 1
    return capsys.readouterr().err


def test_problems_of_options_recipe_and_data_are_reported_together(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("miss.csv").write_text("path,label\ngone.png,a\n")
    data = ("--data", "miss.csv", "--target", "empty")
    text = refusal(capsys, "check", "hospital-adaptation", *data, "--set", "seed=x")
    assert text.count("has 3 problems.") == 1
    for part in (
        "--set seed:",
        "--data: The table",
        "gone.png does not exist",
        "--target: ",
        "has no images",
    ):
        assert text.count(part) == 1, part
    words = ("--lowest", "2", "--highest", "1", "--out", "x.pdf", "--phase", "x")
    text = refusal(capsys, "lr", "folder-classifier", "--data", "empty", *words)
    assert text.startswith("Error: The request has 4 problems.\n")
    text = refusal(capsys, "adapt-curve", "hospital-adaptation", *data, "--labels", "x", "--set", "seed=x")
    assert text.startswith("Error: hospital-adaptation has 4 problems.\n")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--set", "seed=x"), ["2 problems", "--set seed:", "--set head.binary: a binary head"]),
        (("--set", "seed=3"), ["2 problems", "head.binary: a binary head", "class 'c': has 2 groups"]),
        (("--target", "gone", "--set", "target.labels=none"), ["2 problems", "--target: ", "--set head.binary: a binary"]),
    ],
)  # fmt: skip
def test_a_binary_head_for_three_classes_is_reported_together_with_other_problems(
    capsys, tmp_path, monkeypatch, words, parts
):
    monkeypatch.chdir(tmp_path)
    rows = [f"{name}{i}.png,{name}\n" for name, count in (("a", 8), ("b", 8), ("c", 2)) for i in range(count)]
    Path("three.csv").write_text("path,label\n" + "".join(rows))
    for row in rows:
        Path(row.partition(",")[0]).touch()
    recipe = "hospital-unlabelled" if "--target" in words else "folder-classifier"
    text = refusal(capsys, "check", recipe, "--data", "three.csv", "--set", "head.binary=true", *words)
    assert all(text.count(part) == 1 for part in parts), text
    assert "for two classes, but there are 3: 'a', 'b', 'c'. Use binary: false." in text


def test_a_binary_head_for_two_classes_is_accepted(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path("photos", name).mkdir(parents=True)
        for number in range(6):
            Path("photos", name, f"{number}.png").touch()
    with pytest.raises(SystemExit) as left:
        main(["check", "folder-classifier", "--data", "photos", "--set", "head.binary=true"])
    assert not left.value.code
    assert "is valid" in capsys.readouterr().out


def test_a_used_folder_is_reported_together_with_the_data(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("used").mkdir()
    Path("used/file").touch()
    text = refusal(capsys, "run", "folder-classifier", "--data", "empty", "--out", "used")
    assert text.startswith("Error: The request has 2 problems.\n")
    assert "used already exists" in text
    assert "has no images" in text


@pytest.mark.parametrize("name", ["t.xlsx", "t.XLS", "t.json", "t.jsonl"])
def test_a_table_in_another_format_is_refused(name, capsys):
    assert "Name the file .csv or .parquet" in refusal(capsys, "predict", "gone", "photos", "--out", name)


@pytest.mark.parametrize("option", ["--data", "--target"])
def test_a_url_is_repeated_as_it_was_given(capsys, option):
    url = "https://x.org/a b/photos.zip"
    text = refusal(capsys, "check", "hospital-adaptation", option, url)
    assert text.rstrip().endswith(shlex.join(["kerastl", "check", "hospital-adaptation", option, url]))
