"""ONNX, LiteRT and OpenVINO: files predict in their own runtimes as the run does, and verify finds those that do not."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from kerastl import registry
from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.export import (
    ExpectedPredictions,
    Finding,
    expected_predictions,
    export_once,
    export_run,
    find_export,
    read_export,
    verify,
)
from kerastl.export.converted import write_converted
from kerastl.export.loaded_export import load_converted
from kerastl.export.manifest import read_manifest
from kerastl.export.parity import _compare_probabilities
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing, Prevalence, Threshold
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.converted_formats import FORMATS, FORMATS_ONE_FAST, need, read_class_names, write_format

pytestmark = pytest.mark.xdist_group("exported_run")


@pytest.fixture(autouse=True)
def _installed() -> None:
    need(*FORMATS)


def checked(folder: Path, encoded: list[bytes], expected: ExpectedPredictions | None) -> list[Finding]:
    findings = verify(folder, encoded=encoded, expected=expected)
    assert len(findings) >= 2
    return findings


def faults(folder: Path, encoded: list[bytes], expected: ExpectedPredictions | None) -> dict[str, str]:
    return {finding.check: finding.detail for finding in checked(folder, encoded, expected) if not finding.ok}


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_an_export_has_no_fault_in_its_own_runtime(
    name: str, exported_run: Callable[[str], Path], trained: Trained, encoded: list[bytes]
) -> None:
    run_folder = exported_run(name)
    folder = run_folder / "export" / name / "1"
    findings = checked(folder, encoded, expected_predictions(trained, encoded))
    assert [finding for finding in findings if finding.passed is not True] == []
    assert {"equal to kerastl predict", "repeatable", "wrong size rejected", "files"} <= {
        finding.check for finding in findings
    }
    assert export_once(run_folder, name) == folder
    root = json.loads((run_folder / "model.json").read_text())["data_root"]
    for file in folder.iterdir():
        for word in (root, str(run_folder), "deep_", "photo_7"):
            assert word.encode() not in file.read_bytes(), file.name


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_class_names_are_in_the_file_and_another_export_has_the_same_bytes(
    name: str, run_with_export: Callable[[str], Path]
) -> None:
    run_folder = run_with_export(name)
    second = export_run(run_folder, name)
    first = second.parent / "1"
    assert second.name == "2"
    assert find_export(second.parent).folder == second
    assert read_class_names(first, name) == list(CLASS_NAMES)
    files = sorted(path.name for path in first.iterdir())
    assert len(files) >= 2
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_temperature_and_prevalence_are_in_the_graph(
    name: str, trained: Trained, encoded: list[bytes], tmp_path: Path
) -> None:
    training, served = (0.5, 0.3, 0.2), (0.1, 0.1, 0.8)
    postprocessing = Postprocessing(2.0, Prevalence(training, served), Threshold("10", 0.7))
    folder = write_format(trained, tmp_path / "out", name, postprocessing)
    predicted, probabilities = read_export(folder).predict(encoded)
    own = trained.probabilities(encoded).astype(np.float64)
    flat = own**0.5 / (own**0.5).sum(axis=1, keepdims=True)
    shifted = flat * np.divide(served, training)
    assert probabilities == pytest.approx(shifted / shifted.sum(axis=1, keepdims=True), abs=1e-6)
    # "10" by the threshold on the model's own probability of it, the others by the probabilities after postprocessing.
    others = probabilities.copy()
    others[:, 2] = -1
    best = np.where(own[:, 2] >= 0.7, 2, others.argmax(axis=1))
    assert predicted == [CLASS_NAMES[index] for index in best]
    assert len(set(predicted)) > 1
    assert (
        json.loads((folder / "manifest.json").read_text())["postprocessing"]["threshold"]["probability"]
        == 0.7
    )


def other_weights(trained: Trained) -> Trained:
    model = keras.models.clone_model(trained.model)
    model.set_weights(trained.model.get_weights())
    norm = model.get_layer("norm")
    norm.moving_mean.assign(norm.moving_mean + 0.5)
    return dataclasses.replace(trained, model=model)


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_planted_faults_are_named(
    name: str, run_with_export: Callable[[str], Path], trained: Trained, encoded: list[bytes], tmp_path: Path
) -> None:
    expected = expected_predictions(trained, encoded)
    honest = run_with_export(name) / "export" / name / "1"
    swapped = dataclasses.replace(trained, class_names=CLASS_NAMES[::-1])
    messages = faults(write_format(swapped, tmp_path / "swapped", name), encoded, expected)
    assert set(messages) == {"class names"}
    assert str(list(CLASS_NAMES[::-1])) in messages["class names"]

    other = write_format(other_weights(trained), tmp_path / "other", name)
    messages = faults(other, encoded, expected)
    assert set(messages) == {"weights"}
    # With a corrected manifest, only the probabilities differ.
    shutil.copy(honest / "manifest.json", other)
    messages = faults(other, encoded, expected)
    assert set(messages) == {"equal to kerastl predict"}

    manifest = json.loads((honest / "manifest.json").read_text())
    manifest["class_names"] = CLASS_NAMES[::-1]
    (honest / "manifest.json").write_text(json.dumps(manifest))
    assert "class names" in faults(honest, encoded, expected)
    with pytest.raises(RequestError, match="damaged"):
        read_export(honest)


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file, and the hash of the file in the manifest, so that the hash does not reveal the change."""
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("file_name", "old", "new"),
    [
        ("labels.txt", "benign\n", ""),
        ("labels.txt", "benign", "malignant"),
        ("preprocess.json", "bilinear", "nearest"),
        ("preprocess.json", "1000.0", "0.0"),
        ("client.py", "transpose(2, 0, 1)", "transpose(2, 0, 1)[::-1]"),
    ],
)
def test_an_edited_file_of_the_client_is_named_although_its_hash_was_changed(
    file_name: str, old: str, new: str, run_with_export: Callable[[str], Path], encoded: list[bytes]
) -> None:
    folder = run_with_export("onnx") / "export" / "onnx" / "1"

    def client_files() -> Finding:
        findings = verify(folder, encoded=encoded[:1], expected=None, run_probe=lambda *_: (None, "not run"))
        return {finding.check: finding for finding in findings}["client files"]

    assert client_files().passed is True
    edit(folder / file_name, old, new)
    assert client_files().passed is False
    assert client_files().detail.startswith(f"{file_name}: not what the manifest states.")
    edit(folder / "manifest.json", '"kerastl": "', '"kerastl": "0.')
    assert client_files().passed is None, "another version of kerastl writes other files"


@pytest.mark.parametrize("newest", [False, True])
def test_a_missing_model_is_a_finding(newest: bool, run_with_export: Callable[[str], Path]) -> None:
    out = run_with_export("onnx") / "export" / "onnx"
    shutil.copytree(out / "1", out / "12")
    (out / "12" / "model.onnx").unlink()
    result = CliRunner().invoke(app, ["verify", str(out if newest else out / "12")])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{out / '12'}: files: FAULT in 1 checks.",
        "files  FAULT  model.onnx is missing",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_resize_inside_a_model_is_compared_with_that_of_predict(
    name: str, trained: Trained, encoded: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = expected_predictions(trained, encoded)

    def export(folder: str) -> Path:
        return write_converted(trained, tmp_path / folder, name, NO_POSTPROCESSING, with_resize=True)

    findings = {finding.check: finding for finding in checked(export("right"), encoded, expected)}
    assert all(finding.ok for finding in findings.values())
    assert findings["resize equal to kerastl predict"].passed is True
    assert findings["wrong size rejected"].result == "not checked"

    def crop(images: tf.Tensor, size: tuple[int, int], _: str) -> tf.Tensor:
        images = images[:, : size[0], : size[1]]
        images.set_shape([None, *size, 3])
        return images

    monkeypatch.setattr("kerastl.export.converted.resize_images", crop)
    assert set(faults(export("wrong"), encoded, expected)) == {"resize equal to kerastl predict"}


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_a_broken_file_is_reported_as_findings(
    name: str, run_with_export: Callable[[str], Path], encoded: list[bytes]
) -> None:
    folder = run_with_export(name) / "export" / name / "1"
    file = folder / registry.module("format", name).FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    messages = faults(folder, encoded, None)
    assert file.name in messages["files"]
    assert set(messages) == {"files"}
    with pytest.raises(RequestError, match=str(folder)):
        read_export(folder)


def test_changed_labels_of_a_quantized_model_are_counted_and_are_not_a_fault() -> None:
    sure = np.tile([[0.6, 0.4]], (100, 1)).astype(np.float32)
    other = sure.copy()
    other[:3] = [0.4, 0.6]
    other_and_invalid = other.copy()
    other_and_invalid[3] = np.nan
    for served, quantize, num_faults in (
        (other, "int8", 0), (other, None, 1), (other_and_invalid, "int8", 1), (other_and_invalid, None, 1), (sure, None, 0),
    ):  # fmt: skip
        faults: list[str] = []
        report = _compare_probabilities(served, sure, quantize, faults)
        assert len(faults) == num_faults
        assert served is sure or report["differ"] >= 3


def test_predict_of_an_export_equals_predict_of_the_run(
    exported_run: Callable[[str], Path], images: list[Path]
) -> None:
    run_folder = exported_run("onnx")
    folder = run_folder / "export" / "onnx" / "1"
    (images[0].parent / "broken.png").write_bytes(b"no image")
    tables = []
    for model in (run_folder, folder):
        done = CliRunner().invoke(app, ["predict", str(model), *map(str, images), "--json"])
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        tables.append({line["path"]: line for line in lines})
    first, second = tables
    assert len(first) == 8
    for path, row in first.items():
        assert second[path]["predicted"] == row["predicted"]
        assert second[path]["probabilities"] == pytest.approx(row["probabilities"], abs=1e-4)


@pytest.mark.parametrize("name", ["litert", pytest.param("openvino", marks=pytest.mark.slow)])
def test_two_threads_can_predict_at_the_same_time(name: str, exported_run: Callable[[str], Path]) -> None:
    """As `kerastl predict` does, though the runtimes of two formats are not thread-safe."""
    export = find_export(exported_run(name) / "export" / name)
    assert export is not None
    predict = load_converted(export, read_manifest(export.folder))
    random = np.random.default_rng(1)
    batches = [random.uniform(0, 255, (1 + at % 3, SIZE, SIZE, 3)).astype(np.float32) for at in range(40)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(predict, batches))
    for batch, probabilities in zip(batches, together, strict=True):
        assert probabilities == pytest.approx(predict(batch), abs=1e-6)
