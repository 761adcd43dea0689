"""Runs that are interrupted at a step and resumed with the printed command."""

import csv
import json
import shutil

import pytest
from make_runs import same_bytes, stop_at
from PIL import Image

from kerastl import recipe as recipes
from kerastl.export import export_once
from kerastl.runs import Run
from kerastl.workflows import load_datasets, run

SHORT = ["--set", "phases[0].epochs=1"]


@pytest.mark.slow
@pytest.mark.xdist_group("exported")
def test_a_run_stopped_before_its_report_resumes_to_one_export_and_the_same_bytes(
    kerastl, exported, tmp_path, monkeypatch
):
    out = tmp_path / "stopped"
    step = (run.report, "write_report")
    formats = ("--set", "export.formats=[saved_model]")
    command = stop_at(monkeypatch, step, exported.recipe, *formats, "--out", out)
    assert kerastl("report", out).code == 0
    assert (out / "report.html").is_file()
    versions = json.loads((out / "versions.json").read_text())
    versions["packages"]["numpy"] = "0.1"
    (out / "versions.json").write_text(json.dumps(versions))

    answer = kerastl(*command)
    assert answer.code == 0, answer.err
    assert "Resuming after epoch 3 of 3, in phase head." in answer.err
    assert answer.err.count("Phase       all: trained for 2 epochs.") == 1
    (line,) = [line for line in answer.err.splitlines() if "numpy 0.1" in line]
    assert "keras " not in line, "only packages that changed are named"
    versions = [path for path in (out / "export" / "saved_model").iterdir() if path.is_dir()]
    assert [path.name for path in versions] == ["1"]
    assert kerastl("verify", out / "export" / "saved_model", "--run", out).code == 0

    names = ["predictions.csv", "scores.json", "history.jsonl", "finished.json", "summary.json"]
    same_bytes(exported.path, out, names)
    checks, resumed = exported.json("freeze.json"), json.loads((out / "freeze.json").read_text())
    assert checks["exports"]["saved_model"] == resumed["exports"]["saved_model"]
    assert checks | {"exports": {}} == resumed | {"exports": {}}


@pytest.mark.slow
def test_an_edited_patient_column_is_refused_on_resume(kerastl, recipe, images, tmp_path, monkeypatch):
    table = tmp_path / "table.csv"
    rows = [
        [f"images/{label}/{n}.png", label, f"{label} {n // 2}"]
        for label in ("dark", "light")
        for n in range(20)
    ]

    def write():
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label", "patient"], *rows])

    write()
    reader = f"data.reader={{name: table, path: {table}, columns: {{group: patient}}}}"
    words = [recipe, *SHORT, "--set", reader, "--out", tmp_path / "run"]
    command = stop_at(monkeypatch, (run, "train"), *words)
    rows[0][2] = rows[2][2]
    write()
    answer = kerastl(*command)
    assert answer.code == 1
    assert "without --resume" in answer.err
    rows[0][2] = rows[1][2]
    write()
    stop_at(monkeypatch, (run, "train"), *command[1:])


@pytest.mark.slow
def test_another_resize_rule_is_refused_on_resume(kerastl, recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    stop_at(monkeypatch, (run, "train"), recipe, *SHORT, "--out", out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    answer = kerastl("run", recipe, *SHORT, "--set", "data.resize=pad", "--out", out, "--resume")
    assert answer.code == 1
    assert f"{out} cannot be resumed:\n  data.resize: changed from stretch to pad\n" in answer.err
    assert before == {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_a_run_inside_its_data_is_refused_and_leaves_no_file(kerastl, recipe, images):
    before = sorted(images.rglob("*"))
    for out in (images / "run", images / "dark" / "a" / "run"):
        for words in ((), ("--resume",)):
            answer = kerastl("run", recipe, "--out", out, *words)
            assert answer.code == 1
            assert "Choose another folder: --out DIR" in answer.err
    assert sorted(images.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x81"])
def test_damaged_start_files_are_refused_and_other_files_are_written_again(
    kerastl, recipe, tmp_path, monkeypatch, content
):
    out = tmp_path / "run"
    stop_at(monkeypatch, (run, "train"), recipe, "--out", out)
    names = ("split.csv", "quarantine.csv", "notes.json", "CONFIDENTIAL.txt")
    before = {name: (out / name).read_bytes() for name in names}
    for name in names:
        (out / name).write_bytes(content)
    stop_at(monkeypatch, (run, "train"), recipe, "--out", out, "--resume")
    assert before == {name: (out / name).read_bytes() for name in names}
    for name in ("versions.json", "recipe.resolved.yaml"):
        intact = (out / name).read_bytes()
        (out / name).write_bytes(content)
        answer = kerastl("run", recipe, "--out", out, "--resume")
        assert answer.code == 1, answer.err
        assert f"{out / name} is damaged" in answer.err
        assert "Start again in a new folder, without --resume." in answer.err
        (out / name).write_bytes(intact)


def test_the_fingerprint_of_the_data_does_not_depend_on_the_seed_or_the_labels(recipe, images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "copy")

    def fingerprints(seed, options):
        target = f"target={{reader: {{name: folder, path: {copy}}}, {options}}}"
        checked = recipes.check(
            recipe.read_text(), name="small",sets=[f"seed={seed}", "data.duplicates=allow", target],
        )  # fmt: skip
        return load_datasets(checked, Run(tmp_path)).fingerprints

    few = "labels: few, few: {{groups_per_class: {}}}".format
    values = [
        fingerprints(1, few(2)),
        fingerprints(2, few(2)),
        fingerprints(2, few(5)),
        fingerprints(1, "labels: all"),
    ]
    values.append(fingerprints(1, "labels: none"))
    assert all(value == values[0] for value in values)
    assert values[0]["source"] == values[0]["target"]
    Image.new("RGB", (40, 36), "red").save(images / "dark" / "0.png")
    assert fingerprints(1, few(2)) != values[0]


@pytest.fixture
def trained(tmp_path):
    """Write the two files that an export is built from."""
    import keras

    def write(bias):
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 8, 3))
        head = keras.layers.Dense(2, bias_initializer=keras.initializers.Constant(bias), name="head")
        pooled = keras.layers.GlobalAveragePooling2D()(image)
        keras.Model(image, head(pooled)).save(tmp_path / "model.keras")
        description = {"class_names": ["a", "b"], "image_size_px": 8, "window": None}
        description |= {"max_pixels": 1000, "data_root": None}
        (tmp_path / "model.json").write_text(json.dumps(description))

    write(0.0)
    return write


@pytest.mark.slow
def test_a_complete_export_is_reused_and_a_damaged_or_outdated_one_is_not(trained, tmp_path):
    first = export_once(tmp_path)
    trained(0.0)
    assert export_once(tmp_path) == first, "the same arrays are the same model, whatever the zip"

    graph = first / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:100])
    second = export_once(tmp_path)
    assert (first.name, second.name) == ("1", "2")
    assert graph.stat().st_size == 100

    trained(1.0)
    third = export_once(tmp_path)
    assert third.name == "3"
    (third / "manifest.json").unlink()
    assert export_once(tmp_path).name == "4"
    folders = sorted(path.name for path in first.parent.iterdir() if path.is_dir())
    assert folders == ["1", "2", "3", "4"]
