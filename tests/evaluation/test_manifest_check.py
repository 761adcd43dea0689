"""An exported model is accepted only if its files match the manifest."""

import hashlib
import json
import shutil
import zipfile

import pytest

from kerastl.adaptation.method import source_model_settings
from kerastl.cli import main
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import read_source_model, read_unverified_model
from kerastl.export.predict import find_predictor

DESCRIPTION = {
    "class_names": ["benign", "malignant"],
    "image_size_px": 32,
    "window": None,
    "max_pixels": 10_000,
    "backbone": {"name": "small_cnn"},
    "head": {"dropout": 0.2},
    "class_shares": None,
    "validation": None,
}
RUN_DESCRIPTION = {
    name: DESCRIPTION[name] for name in ("class_names", "image_size_px", "window", "max_pixels")
}
MANIFEST = RUN_DESCRIPTION | {
    "model_sha256": "ab" * 32, "versions": {}, "conversion": None, "scores": None, "training": None,
    "postprocessing": {"temperature": None, "prevalence": None, "threshold": None},
}  # fmt: skip
ASK = "request a new copy of the export"


def write_manifest(folder, files=("model.json", "model.keras")):
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    (folder / "manifest.json").write_text(json.dumps(MANIFEST | {"files": hashes}))


@pytest.fixture
def export(tmp_path):
    """The exported model of another hospital."""
    folder = tmp_path / "a-model"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(DESCRIPTION))
    with zipfile.ZipFile(folder / "model.keras", "w") as file:
        file.writestr("weights", "0123456789")
    write_manifest(folder)
    return folder


def rejection_message(folder):
    with pytest.raises(RequestError) as caught:
        source_model_settings(folder)
    assert ASK in str(caught.value)
    return str(caught.value)


def swap_class_names(folder):
    (folder / "model.json").write_text(
        json.dumps(DESCRIPTION | {"class_names": DESCRIPTION["class_names"][::-1]})
    )


def change_weights(folder):
    file = folder / "model.keras"
    file.write_bytes(file.read_bytes().replace(b"0123456789", b"0123456788"))


def test_unchanged_export_is_accepted(export):
    assert source_model_settings(export)["source"]["model"] == str(export)
    # Additional files are allowed.
    (export / "notes.txt").write_text("of 3 May")
    assert source_model_settings(export)["source"]["model"] == str(export)


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
def test_changed_file_is_named_with_a_remedy(export, change, words):
    change(export)
    message = rejection_message(export)
    assert f"{export} differs from its manifest: {words}." in message
    assert f"kerastl verify {export}" in message


def test_all_changes_are_reported_together(export):
    swap_class_names(export)
    (export / "model.keras").unlink()
    assert "model.keras is missing; model.json was changed" in rejection_message(export)


@pytest.mark.parametrize("text", ["[1]", "{{{", "", "3", "{}", '{"files": []}', "[" * 10_000, b"\xff\xfe"])
def test_damaged_manifest_is_rejected(export, text):
    (export / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert f"{export / 'manifest.json'} is damaged" in rejection_message(export)


def test_export_without_manifest_is_rejected(export):
    (export / "manifest.json").unlink()
    assert "is an export without manifest.json" in rejection_message(export)


def test_manifest_cannot_refer_to_files_outside_its_folder(export):
    (export.parent / "other").write_text("x")
    hashes = {"../other": hashlib.sha256(b"x").hexdigest()}
    (export / "manifest.json").write_text(json.dumps(MANIFEST | {"files": hashes}))
    assert "../other is missing" in rejection_message(export)


def test_newest_version_with_a_missing_file_is_not_skipped(export, tmp_path):
    out = tmp_path / "out"
    for number in "12":
        shutil.copytree(export, out / number)
    (out / "2" / "model.json").unlink()
    assert f"{out / '2'} differs from its manifest" in rejection_message(out)


@pytest.fixture
def run(export):
    """A run folder without a manifest."""
    (export / "manifest.json").unlink()
    (export / "model.json").write_text(json.dumps(RUN_DESCRIPTION))
    (export / "recipe.resolved.yaml").write_text("backbone: {name: small_cnn}\nhead: {dropout: 0.2}\n")
    return export


def test_run_folder_needs_no_manifest(run):
    assert read_source_model(run).backbone.to_json() == {"name": "small_cnn"}


def test_truncated_model_of_a_run_is_rejected(run):
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:-30])
    with pytest.raises(RequestError, match=r"model.keras is damaged: .*Run the recipe again"):
        read_source_model(run)


def test_damaged_description_is_rejected_with_a_remedy_for_its_folder(export):
    (export / "model.json").write_text("[]")
    with pytest.raises(RequestError, match=f"model.json is damaged.*{ASK}"):
        read_unverified_model(export)
    (export / "recipe.resolved.yaml").write_text("format: 1\n")
    with pytest.raises(RequestError, match=r"model.json is damaged.*Run the recipe again\."):
        read_unverified_model(export)


def test_file_and_missing_folder_have_different_messages(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n")
    with pytest.raises(RequestError, match=r"labels.csv is a file. Specify a run folder"):
        read_source_model(file)
    with pytest.raises(RequestError, match="Run folder not found"):
        read_source_model(tmp_path / "nowhere")


def test_check_reports_a_changed_export(export, tmp_path, capsys):
    table = tmp_path / "b.csv"
    table.write_text("path,label\n")
    command = [
        "check", "hospital-source-free", "--set", f"source.model={export}",
        "--set", f"target.reader.path={table}",
    ]  # fmt: skip
    swap_class_names(export)
    with pytest.raises(SystemExit) as exit_info:
        main(command)
    message = "".join(capsys.readouterr())
    assert exit_info.value.code == 1
    assert "source.model: " in message
    assert "model.json was changed" in message


def test_changed_export_is_not_used_for_prediction(export):
    assert find_predictor(export).folder == export
    swap_class_names(export)
    with pytest.raises(RequestError, match="differs from its manifest"):
        find_predictor(export)


def test_description_of_an_export_without_a_head_is_rejected(export):
    description = json.loads((export / "model.json").read_text())
    del description["head"]
    (export / "model.json").write_text(json.dumps(description))
    with pytest.raises(RequestError, match=r"has no valid description of its model .*the head is missing"):
        read_unverified_model(export)
