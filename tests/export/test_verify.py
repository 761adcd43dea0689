import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.data import load_image
from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.evaluation.trained_model import weights_fingerprint
from kerastl.export import ExpectedPredictions, Finding, check_export, export_saved_model, read_export, verify
from kerastl.export.endpoints import ServedModel, outputs_from_logits
from kerastl.export.manifest import write_manifest
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW, png

pytestmark = pytest.mark.xdist_group("exported_run")

SETTINGS = {
    "class_names": CLASS_NAMES,
    "image_size_px": (SIZE, SIZE),
    "window": WINDOW,
    "max_pixels": MAX_PIXELS,
}


def faults(findings: list[Finding]) -> dict[str, str]:
    assert len(findings) >= 5
    return {finding.check: finding.detail for finding in findings if not finding.ok}


@pytest.fixture
def copied_export(export: Path, tmp_path: Path) -> Path:
    """The export of the session, which the test may change."""
    return shutil.copytree(export, tmp_path / "served" / "1")


def served(model: Any, **settings: Any) -> ServedModel:
    return ServedModel(Trained(model=model, **(SETTINGS | settings)))


def planted(
    model: keras.Model,
    folder: Path,
    from_bytes: Any = None,
    from_pixels: Any = None,
    kept: Sequence[tf.Variable] = (),
) -> Path:
    """Write an export with given endpoints and a correct manifest as version 1."""
    folder = folder / "1"
    folder.mkdir(parents=True)
    module = tf.Module()
    module.kept = [*(variable.value for variable in model.variables), *kept]
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
    from_bytes = from_bytes or served(model).from_files
    from_pixels = from_pixels or served(model).from_pixels
    module.from_bytes = tf.function(from_bytes, input_signature=[spec], autograph=False)
    module.from_pixels = tf.function(from_pixels, input_signature=[images], autograph=False)
    signatures = {"serving_default": module.from_bytes, "pixels": module.from_pixels}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    fingerprint = weights_fingerprint(model)
    write_manifest(folder, **SETTINGS, model_sha256=fingerprint, versions={})
    return folder


def changed_endpoint(model: keras.Model, change: Any) -> Any:
    """Return the endpoint for files with changed outputs."""
    honest = served(model).from_files
    return lambda image_bytes: change(honest(image_bytes))


@pytest.mark.slow
def test_an_export_of_a_run_has_no_fault(exported_run: Callable[[str], Path]) -> None:
    findings = check_export(exported_run("saved_model") / "export" / "saved_model").findings
    assert [finding.check for finding in findings if finding.passed is not True] == []
    assert {"equal to kerastl predict", "repeatable", "independent of the batch"} <= {
        finding.check for finding in findings
    }


def test_a_path_that_is_not_an_export_is_reported_with_a_suggestion(export: Path, tmp_path: Path) -> None:
    shutil.copytree(export, tmp_path / "run" / "export" / "saved_model" / "1")
    messages = {
        tmp_path / "run": "verify an export of this run: kerastl verify .*run/export/saved_model$",
        tmp_path / "gone": "Export folder not found",
        export / "saved_model.pb": "is a file. Specify the folder",
    }
    for path, message in messages.items():
        with pytest.raises(RequestError, match=message):
            check_export(path)


@pytest.mark.parametrize("how", ["writes", "reads"])
def test_a_graph_that_reaches_files_is_reported_and_never_run(
    how: str, model: Any, encoded: list[bytes], tmp_path: Path
) -> None:
    """Neither `verify` nor `predict` may run it: the file that it would write does not exist."""
    (tmp_path / "secret").write_text("mine")

    def reaching(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if how == "writes":
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "written"), "x")]):
                return {name: tf.identity(value) for name, value in answers.items()}
        secret = tf.io.read_file(str(tmp_path / "secret"))
        return answers | {"predicted": tf.fill(tf.shape(answers["predicted"]), secret)}

    export = planted(model, tmp_path / "served", changed_endpoint(model, reaching))
    messages = faults(verify(export, encoded=encoded, expected=None))
    assert {"writes": "WriteFile", "reads": "ReadFile"}[how] in messages["no file or network access"]
    with pytest.raises(RequestError, match="never exports"):
        read_export(export)
    assert not (tmp_path / "written").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_names_in_another_order_are_a_fault(
    model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    swapped = {**SETTINGS, "class_names": CLASS_NAMES[::-1]}
    export = export_saved_model(model, tmp_path / "served", **swapped)
    messages = faults(verify(export, encoded=encoded, expected=expected))
    assert set(messages) == {"class names"}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
@pytest.mark.parametrize("honest", [True, False])
def test_a_missing_window_is_a_fault_of_decoding(
    honest: bool, model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    without = {**SETTINGS, "window": None}
    if honest:
        export = export_saved_model(model, tmp_path / "served", **without)
    else:
        export = planted(model, tmp_path / "served", served(model, window=None).from_files)
    messages = faults(verify(export, encoded=encoded, expected=expected))
    ((check, detail),) = messages.items()
    assert check == ("settings" if honest else "pixels equal to files")
    assert ("window is None" if honest else "the window is not applied") in detail


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_batch_norm_in_training_mode_is_reported(
    model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    def without_dropout(layer: keras.layers.Layer) -> keras.layers.Layer:
        # Dropout in training mode is random, and a random operation is refused before it runs.
        is_dropout = isinstance(layer, keras.layers.Dropout)
        settings = {"rate": 0.0} if is_dropout else {}
        return type(layer).from_config(layer.get_config() | settings)

    copy = keras.models.clone_model(model, clone_function=without_dropout)
    copy.set_weights([variable.numpy() for variable in model.variables if "seed" not in variable.path])

    def training(image_bytes: tf.Tensor) -> Any:
        spec = tf.TensorSpec([SIZE, SIZE, 3], tf.float32)
        images = tf.map_fn(
            lambda content: load_image(content, image_size_px=SIZE, window=WINDOW, max_pixels=MAX_PIXELS),
            image_bytes,
            fn_output_signature=spec,
        )
        return outputs_from_logits(copy(images, training=True), CLASS_NAMES)

    export = planted(copy, tmp_path / "served", training)
    messages = faults(verify(export, encoded=encoded, expected=expected))
    assert set(messages) == {"independent of the batch"}
    assert "BatchNorm" in messages["independent of the batch"]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_a_random_operation_is_reported_and_not_run(
    model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    def noisy(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        noise = tf.random.uniform(tf.shape(answers["probabilities"]), -1e-6, 1e-6)
        return answers | {"probabilities": answers["probabilities"] + noise}

    export = planted(model, tmp_path / "served", changed_endpoint(model, noisy))
    findings = verify(export, encoded=encoded, expected=expected)
    assert set(faults(findings)) == {"no random operation"}
    assert "RandomUniform" in faults(findings)["no random operation"]
    (process,) = [finding for finding in findings if finding.check == "fresh process"]
    assert process.passed is None


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_a_model_that_counts_its_calls_changes_its_predictions(
    model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    calls = tf.Variable(0.0)

    def counting(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        drift = calls.assign_add(1.0, read_value=True) * [1e-6, -1e-6, 0.0]
        return answers | {"probabilities": answers["probabilities"] + drift}

    export = planted(model, tmp_path / "served", changed_endpoint(model, counting), kept=[calls])
    messages = faults(verify(export, encoded=encoded, expected=expected))
    assert set(messages) == {"repeatable"}
    assert "change from call to call" in messages["repeatable"]


def not_a_number(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    rows = answers["probabilities"]
    second = tf.range(tf.shape(rows)[0])[:, None] == 1
    return answers | {"probabilities": tf.where(second, np.float32("nan"), rows)}


def shifted(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return answers | {"probabilities": answers["probabilities"] + 2e-4}


def wrong_name(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    worst = tf.argmin(answers["probabilities"], axis=-1)
    return answers | {"predicted": tf.gather(tf.constant(CLASS_NAMES), worst)}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
@pytest.mark.parametrize(
    ("change", "check"),
    [(not_a_number, "independent of the batch"), (shifted, "probabilities"), (wrong_name, "predicted")],
)
def test_wrong_outputs_fail_one_check(
    change: Any, check: str, model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    export = planted(model, tmp_path / "served", changed_endpoint(model, change))
    assert set(faults(verify(export, encoded=encoded, expected=expected))) == {check}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_accepting_images_of_another_size_is_a_fault(
    model: Any, encoded: list[bytes], expected: ExpectedPredictions, tmp_path: Path
) -> None:
    def resized(images: tf.Tensor) -> Any:
        fitting = tf.image.resize(images, [SIZE, SIZE])
        return outputs_from_logits(model(fitting, training=False), CLASS_NAMES)

    export = planted(model, tmp_path / "served", from_pixels=resized)
    messages = faults(verify(export, encoded=encoded, expected=expected))
    assert set(messages) == {"wrong size rejected"}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_a_modified_weight_file_is_named(
    copied_export: Path, encoded: list[bytes], expected: ExpectedPredictions
) -> None:
    file = next((copied_export / "variables").glob("*.data*"))
    content = bytearray(file.read_bytes())
    content[40] ^= 0xFF
    file.write_bytes(content)
    (copied_export / "extra.txt").write_text("x")
    messages = faults(verify(copied_export, encoded=encoded, expected=expected))
    assert f"variables/{file.name} was changed" in messages["files"]
    assert "extra.txt was added" in messages["files"]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_identical_images_are_a_fault(export: Path) -> None:
    grey = png(np.full((30, 30), 90, np.uint8))
    messages = faults(verify(export, encoded=[grey, grey], expected=None))
    assert set(messages) == {"images differ"}, messages
    assert "Verify on different images" in messages["images differ"]


@pytest.mark.slow
def test_an_export_without_variables_is_reported_as_findings(
    copied_export: Path, encoded: list[bytes]
) -> None:
    shutil.rmtree(copied_export / "variables")
    manifest = json.loads((copied_export / "manifest.json").read_text())
    assert len(manifest["files"]) >= 3
    messages = faults(verify(copied_export, encoded=encoded, expected=None))
    assert set(messages) == {"files"}
    assert "is missing" in messages["files"]


def test_damaged_samples_are_a_finding(copied_export: Path, encoded: list[bytes]) -> None:
    samples = copied_export / "samples"
    samples.mkdir()
    (samples / "1.png").write_bytes(encoded[0])
    (samples / "expected.json").write_text('{"class_names": ["a"], "probabilities": {"2.png": [1]}}')
    (finding,) = check_export(copied_export).findings
    assert (finding.check, finding.passed) == ("samples", False)
    assert "2.png is a link or is missing" in finding.detail
    with pytest.raises(RequestError, match="No such file or folder"):
        check_export(copied_export, images=[samples / "missing.png"])
