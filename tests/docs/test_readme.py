"""The commands, links and code in the README and the docs."""

import hashlib
import json
import os
import re
import runpy
import shlex
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl import recipe as recipes
from kerastl.workflows.check_recipe import check_recipe

ROOT = Path(__file__).parent.parent.parent
MODEL_DESCRIPTION = {
    "class_names": ["benign", "malignant"], "image_size_px": 64, "window": None, "max_pixels": 10**6,
    "backbone": {"name": "small_cnn"}, "head": {"dropout": 0.2}, "class_shares": None, "validation": None,
}  # fmt: skip
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_starts_with_a_command_to_try_and_one_to_test():
    first = blocks("sh")[0].strip().splitlines()
    assert len(first) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in first)
    assert first[0].endswith("kerastl quickstart")
    assert first[1].endswith("pytest")
    assert README.index(first[0]) < 200


def test_each_link_and_image_of_the_docs_exists():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if not link.startswith("http")
    ]
    assert len(links) > 5
    assert [link for page, link in links if not (page.parent / link).exists()] == []


def test_each_command_of_the_docs_exists_with_its_options():
    from kerastl.cli import app

    lines = [
        line.strip()
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.strip().startswith("kerastl ")
    ]
    assert len(lines) > 5
    for line in lines:
        _, name, *words = shlex.split(line, comments=True)
        command = app.get_command(None, name)
        assert command, line
        command.make_context(name, words, resilient_parsing=False)


def test_example_problems_are_in_the_order_of_the_file():
    page = (ROOT / "docs" / "recipes.md").read_text()
    lines = [int(number) for number in re.findall(r"^  line (\d+), ", page, re.MULTILINE)]
    assert len(lines) > 1
    assert lines == sorted(lines)


def test_the_commands_for_tables_pass_the_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "a-model"  # the export of another hospital
    model.mkdir()
    with zipfile.ZipFile(model / "model.keras", "w") as file:
        file.writestr("config.json", "not read by the check")
    (model / "model.json").write_text(json.dumps(MODEL_DESCRIPTION))
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in model.iterdir()}
    manifest = {
        **{name: MODEL_DESCRIPTION[name] for name in ("class_names", "image_size_px", "window", "max_pixels")},
        "postprocessing": {"temperature": None, "prevalence": None, "threshold": None},
        "model_sha256": "ab" * 32, "versions": {}, "conversion": None, "scores": None, "training": None,
    }  # fmt: skip
    (model / "manifest.json").write_text(json.dumps(manifest | {"files": hashes}))
    for table in ("labels.csv", "a/labels.csv", "b/labels.csv"):
        (tmp_path / table).parent.mkdir(exist_ok=True)
        rows = [f"{table[0]}{index}.png,{index % 2},{table[0]}{index},f,x,{index}\n" for index in range(60)]
        (tmp_path / table).write_text("path,label,patient_id,sex,scanner,age\n" + "".join(rows))
        for index in range(60):
            (tmp_path / table).with_name(f"{table[0]}{index}.png").write_bytes(f"{table}{index}".encode())
    pages = README + (ROOT / "docs" / "hospital.md").read_text()
    commands = re.findall(r"^kerastl (?:run|check) (.*labels\.csv.*)$", pages, re.MULTILINE)
    assert len(commands) > 3
    for command in commands:
        recipe, *words = shlex.split(command)
        sets = [word for option, word in pairwise(words) if option == "--set"]
        paths = {
            option[2:]: Path(word) for option, word in pairwise(words) if option in ("--data", "--target")
        }
        checked = check_recipe(recipes.find(recipe), sets, **paths)
        reader = checked.target.reader if checked.source else checked.data.reader
        assert reader.name == "table"


def test_references_to_an_unknown_article_are_reported():
    unwanted = runpy.run_path(str(ROOT / "scripts" / "words.py"))["UNWANTED"]
    assert unwanted.search("# The article's two steps")
    assert not unwanted.search("# The usual two steps")


@pytest.mark.slow
def test_the_python_code_of_the_readme_runs(tmp_path, keras_home):
    (code,) = blocks("python")
    generator = np.random.default_rng(0)
    for label, brightest in (("dark", 60), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, brightest, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        names: dict = {}
        exec(compile(code, "README.md", "exec"), names)
    finally:
        os.chdir(before)
    assert names["scores"]["test"]["overall"]["auc"]["value"] == 1.0
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()
