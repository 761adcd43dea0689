"""A portable model is taken only as it was exported: its manifest tells the sha256 of each file."""

import hashlib
import json
import shutil
import zipfile

import pytest

from kerastl.adaptation.method import plain_of
from kerastl.cli import main
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import read_source_model, read_unverified_model
from kerastl.export.predict import find_predictor

TOLD = {
    "class_names": ["benign", "malignant"],
    "image_size_px": 32,
    "window": None,
    "max_pixels": 10_000,
    "backbone": {"name": "small_cnn"},
    "head": {"dropout": 0.2},
    "class_shares": None,
    "validation": None,
}
RUN_TOLD = {name: TOLD[name] for name in ("class_names", "image_size_px", "window", "max_pixels")}
ASK = "ask the hospital that exported it for it anew"


def write_manifest(folder, files=("model.json", "model.keras")):
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    (folder / "manifest.json").write_text(json.dumps({"files": hashes}))


@pytest.fixture
def came(tmp_path):
    """A model of another hospital, copied under a name of its own."""
    folder = tmp_path / "a-model"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(TOLD))
    with zipfile.ZipFile(folder / "model.keras", "w") as file:
        file.writestr("weights", "0123456789")
    write_manifest(folder)
    return folder


def refused(folder):
    with pytest.raises(RequestError) as caught:
        plain_of(folder)
    assert ASK in str(caught.value)
    return str(caught.value)


def swap_class_names(folder):
    (folder / "model.json").write_text(json.dumps(TOLD | {"class_names": TOLD["class_names"][::-1]}))


def change_weights(folder):
    file = folder / "model.keras"
    file.write_bytes(file.read_bytes().replace(b"0123456789", b"0123456788"))


def test_as_it_was_exported_it_is_taken(came):
    assert plain_of(came)["source"]["model"] == str(came)
    # Files that nobody reads do no harm.
    (came / "notes.txt").write_text("of 3 May")
    assert read_source_model(came).folder == came


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap_class_names, "model.json was changed"),
        (change_weights, "model.keras was changed"),
        (lambda folder: (folder / "model.keras").unlink(), "model.keras is missing"),
        (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
        (lambda folder: (folder / "model.json").write_text("{"), "model.json was changed"),
        (lambda folder: write_manifest(folder, ["model.keras"]), "model.json was added"),
    ],
)
def test_what_differs_is_named_with_what_to_do(came, change, words):
    change(came)
    told = refused(came)
    assert f"{came} is not what was exported: {words}." in told
    assert f"kerastl verify {came}" in told


def test_all_that_differs_is_told_together(came):
    swap_class_names(came)
    (came / "model.keras").unlink()
    assert "model.keras is missing; model.json was changed" in refused(came)


@pytest.mark.parametrize("text", ["[1]", "{{{", "", "3", "{}", '{"files": []}', "[" * 10_000, b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_refused(came, text):
    (came / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert f"{came / 'manifest.json'} is damaged" in refused(came)


def test_an_export_without_its_manifest_is_refused(came):
    (came / "manifest.json").unlink()
    assert "is an export without manifest.json" in refused(came)


def test_a_manifest_cannot_point_out_of_its_folder(came):
    (came.parent / "other").write_text("x")
    told = {"../other": hashlib.sha256(b"x").hexdigest()}
    (came / "manifest.json").write_text(json.dumps({"files": told}))
    assert "../other is missing" in refused(came)


def test_of_several_versions_one_that_lost_a_file_is_not_passed_over(came, tmp_path):
    out = tmp_path / "out"
    for number in "12":
        shutil.copytree(came, out / number)
    (out / "2" / "model.json").unlink()
    assert f"{out / '2'} is not what was exported" in refused(out)


@pytest.fixture
def run(came):
    """A run folder tells the same in files of its own, and has no manifest."""
    (came / "manifest.json").unlink()
    (came / "model.json").write_text(json.dumps(RUN_TOLD))
    (came / "recipe.resolved.yaml").write_text("backbone: {name: small_cnn}\nhead: {dropout: 0.2}\n")
    return came


def test_a_run_folder_needs_no_manifest(run):
    assert read_source_model(run).backbone == {"name": "small_cnn"}


def test_a_cut_model_of_a_run_is_refused_before_anything_is_run(run):
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:-30])
    with pytest.raises(RequestError, match=r"model.keras is damaged: .*Run the recipe again"):
        read_source_model(run)


def test_a_damaged_description_says_what_can_be_done_where_it_lies(came):
    (came / "model.json").write_text("[]")
    with pytest.raises(RequestError, match=f"model.json is damaged.*{ASK}"):
        read_unverified_model(came)
    (came / "recipe.resolved.yaml").write_text("format: 1\n")
    with pytest.raises(RequestError, match=r"model.json is damaged.*Run the recipe again\."):
        read_unverified_model(came)


def test_a_file_is_told_from_a_folder_that_is_not_there(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n")
    with pytest.raises(RequestError, match=r"labels.csv is a file. Name a folder"):
        read_source_model(file)
    with pytest.raises(RequestError, match="There is no run folder"):
        read_source_model(tmp_path / "nowhere")


def test_check_tells_it_before_anything_is_run(came, tmp_path, capsys):
    table = tmp_path / "b.csv"
    table.write_text("path,label\n")
    command = [
        "check", "hospital-source-free", "--set", f"source.model={came}",
        "--set", f"target.reader.path={table}",
    ]  # fmt: skip
    swap_class_names(came)
    with pytest.raises(SystemExit) as left:
        main(command)
    told = "".join(capsys.readouterr())
    assert left.value.code == 1
    assert "source.model: " in told
    assert "model.json was changed" in told


def test_nobody_predicts_with_one_that_was_changed(came):
    assert find_predictor(came).folder == came
    swap_class_names(came)
    with pytest.raises(RequestError, match="is not what was exported"):
        find_predictor(came)
