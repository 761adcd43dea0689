"""ONNX, LiteRT and OpenVINO: what is written answers in its own runtime as the run does, and verify sees what does not."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from kerastl import registry
from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.evaluation import Trained, load_trained
from kerastl.evaluation.answering import AS_LEARNT, Answering, Prevalence, Threshold
from kerastl.export import (
    Expected,
    Finding,
    check_formats,
    expected_from,
    export_once,
    export_run,
    find_converted,
    read_converted,
    verify_converted,
)
from kerastl.export.converted.judge import judge_equal
from tests.export.conftest import CLASS_NAMES, SIZE

FORMATS = ("litert", "onnx", "openvino")
ONE_QUICK = ["onnx", *(pytest.param(one, marks=pytest.mark.slow) for one in ("litert", "openvino"))]


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    """The runtimes are extras: who left them out skips, and CI must not."""
    try:
        check_formats(FORMATS)
    except RequestError as error:
        if os.environ.get("KERASTL_REQUIRE_ASSETS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def written(trained: Trained, out: Path, name: str, answering: Answering = AS_LEARNT) -> Path:
    return registry.module("format", name).write(trained, out, answering=answering)


def checked(folder: Path, encoded: list[bytes], expected: Expected | None) -> list[Finding]:
    found = find_converted(folder)
    assert found is not None
    findings = verify_converted(found, pictures=encoded, expected=expected)
    assert len(findings) >= 2
    return findings


def faults(folder: Path, encoded: list[bytes], expected: Expected | None) -> dict[str, str]:
    return {one.check: one.detail for one in checked(folder, encoded, expected) if not one.good}


@pytest.fixture
def trained(run_folder: Path) -> Trained:
    return load_trained(run_folder)


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_export_has_no_fault_in_its_own_runtime(
    name: str, run_folder: Path, trained: Trained, encoded: list[bytes]
) -> None:
    folder = export_run(run_folder, name)
    findings = checked(folder, encoded, expected_from(trained, encoded))
    assert [one for one in findings if one.passed is not True] == []
    assert {"equal to kerastl predict", "asked 3 times", "another size refused", "files"} <= {
        one.check for one in findings
    }
    assert export_once(run_folder, name) == folder
    root = json.loads((run_folder / "model.json").read_text())["data_root"]
    for file in folder.iterdir():
        for word in (root, str(run_folder), "deep_", ".png"):
            assert word.encode() not in file.read_bytes(), file.name


def names_in(folder: Path, name: str) -> list[str]:
    """The class names as others read them: by the format's own tools."""
    if name == "onnx":
        import onnx

        proto = onnx.load(folder / "model.onnx")
        assert [one.name for one in proto.graph.input] == ["images"]
        return json.loads({one.key: one.value for one in proto.metadata_props}["class_names"])
    if name == "litert":
        with zipfile.ZipFile(folder / "model.tflite") as packed:
            return packed.read("labels.txt").decode().splitlines()
    (told,) = ET.parse(folder / "model.xml").getroot().findall("rt_info/kerastl/class_names")
    return json.loads(told.get("value"))


@pytest.mark.parametrize("name", ONE_QUICK)
def test_names_stand_inside_and_writing_again_gives_the_same_bytes(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    first, second = (written(trained, tmp_path / "out", name) for _ in range(2))
    assert (first.name, second.name) == ("1", "2")
    assert find_converted(tmp_path / "out").folder == second
    assert names_in(first, name) == list(CLASS_NAMES)
    files = sorted(one.name for one in first.iterdir())
    assert len(files) >= 2
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.parametrize("name", ONE_QUICK)
def test_temperature_and_prevalence_are_in_the_graph(
    name: str, trained: Trained, encoded: list[bytes], tmp_path: Path
) -> None:
    learnt, served = (0.5, 0.3, 0.2), (0.1, 0.1, 0.8)
    how = Answering(2.0, Prevalence(learnt, served), Threshold("10", 0.4))
    folder = written(trained, tmp_path / "out", name, how)
    found = find_converted(folder)
    answers = read_converted(found).probabilities(encoded)
    own = trained.probabilities(encoded).astype(np.float64)
    flat = own**0.5 / (own**0.5).sum(axis=1, keepdims=True)
    shifted = flat * np.divide(served, learnt)
    assert answers == pytest.approx(shifted / shifted.sum(axis=1, keepdims=True), abs=1e-6)
    assert json.loads((folder / "manifest.json").read_text())["answering"]["threshold"]["at"] == 0.4


def other_weights(trained: Trained) -> Trained:
    model = keras.models.clone_model(trained.model)
    model.set_weights(trained.model.get_weights())
    norm = model.get_layer("norm")
    norm.moving_mean.assign(norm.moving_mean + 0.5)
    return dataclasses.replace(trained, model=model)


@pytest.mark.parametrize("name", ONE_QUICK)
def test_planted_faults_are_named(
    name: str, run_folder: Path, trained: Trained, encoded: list[bytes], tmp_path: Path
) -> None:
    expected = expected_from(trained, encoded)
    honest = export_run(run_folder, name)
    swapped = dataclasses.replace(trained, class_names=CLASS_NAMES[::-1])
    found = faults(written(swapped, tmp_path / "swapped", name), encoded, expected)
    assert set(found) == {"settings", "class names"}
    assert str(list(CLASS_NAMES[::-1])) in found["class names"]

    other = written(other_weights(trained), tmp_path / "other", name)
    found = faults(other, encoded, expected)
    assert {"settings", "equal to kerastl predict"} <= set(found)
    # Its manifest made honest again, the answers alone tell.
    shutil.copy(honest / "manifest.json", other)
    found = faults(other, encoded, expected)
    assert set(found) == {"files", "equal to kerastl predict"}

    manifest = json.loads((honest / "manifest.json").read_text())
    manifest["class_names"] = CLASS_NAMES[::-1]
    (honest / "manifest.json").write_text(json.dumps(manifest))
    assert "class names" in faults(honest, encoded, expected)
    with pytest.raises(RequestError, match="damaged: it answers for"):
        read_converted(find_converted(honest))


@pytest.mark.parametrize("name", ONE_QUICK)
def test_a_broken_file_gives_findings_not_a_crash(
    name: str, run_folder: Path, encoded: list[bytes]
) -> None:
    folder = export_run(run_folder, name)
    file = folder / registry.module("format", name).FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    found = faults(folder, encoded, None)
    assert found["files"] == f"{file.name} was changed"
    assert "no answer" in found["fresh process"]
    with pytest.raises(RequestError, match="cannot be opened"):
        read_converted(find_converted(folder))


def test_arrays_that_a_layer_holds_beside_its_weights_are_constants_in_the_file(
    tmp_path: Path,
) -> None:
    """Normalization holds such: left alone, they come out as further inputs of the ONNX file."""
    keras.utils.set_random_seed(2)
    image = keras.Input((SIZE, SIZE, 3))
    normal = keras.layers.Normalization(mean=[120.0, 110.0, 90.0], variance=[400.0, 900.0, 100.0])
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(normal(image)))
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    trained = Trained(CLASS_NAMES, SIZE, None, 10**6, None, None, model)
    images = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    folder = written(trained, tmp_path, "onnx")
    assert names_in(folder, "onnx") == list(CLASS_NAMES)
    _, ask = registry.module("format", "onnx").opened(folder)
    assert ask(images) == pytest.approx(tf.nn.softmax(model(images)).numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ONE_QUICK)
def test_convolutions_in_groups_and_gelu_are_had_everywhere(name: str, tmp_path: Path) -> None:
    """As ConvNeXt has them: Keras computes the first in a function for XLA alone, the second by Erfc, which ONNX lacks."""
    keras.utils.set_random_seed(4)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2)(keras.layers.Rescaling(1 / 40, -3.0)(image))
    x = keras.layers.Activation("gelu")(keras.layers.Conv2D(8, 3, groups=8)(x))
    x = keras.layers.LayerNormalization()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    trained = Trained(CLASS_NAMES, SIZE, None, 10**6, None, None, model)
    images = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    _, ask = registry.module("format", name).opened(written(trained, tmp_path, name))
    assert ask(images) == pytest.approx(tf.nn.softmax(model(images)).numpy(), abs=1e-6)


@keras.saving.register_keras_serializable("tests")
class Odd(keras.layers.Layer):
    """An operation that no other runtime has."""

    def call(self, x: Any) -> Any:
        return tf.math.bessel_i0(x)


@pytest.mark.parametrize("name", ONE_QUICK)
def test_a_model_that_cannot_be_converted_is_refused_with_the_reason(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    model = keras.Model(trained.model.input, Odd()(trained.model.output))
    with pytest.raises(
        RequestError, match=r"cannot be written as .* no counterpart of TensorFlow's BesselI0\."
    ) as refused:
        written(dataclasses.replace(trained, model=model), tmp_path / "out", name)
    assert "--format saved_model" in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_told_with_its_extra_before_anything_is_read(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.module("format", "onnx"), "NEEDS", ("onnx", "no_such_package"))
    with pytest.raises(RequestError, match=r"pip install 'kerastl\[onnx\]'") as refused:
        export_run(run_folder, "onnx")
    assert "no_such_package, which is not installed" in str(refused.value)
    assert not (run_folder / "export").exists()


@pytest.mark.parametrize("name", ["onnx", "saved_model"])
def test_only_what_can_be_quantized_is(name: str, run_folder: Path) -> None:
    words = ["export", str(run_folder), "--format", name, "--quantize", "int8"]
    with pytest.raises(RequestError, match=f"{name} cannot be quantized to int8.* litert: float16"):
        app.main(words, standalone_mode=False)
    assert not (run_folder / "export").exists()


def test_labels_that_do_not_fit_a_line_are_refused(trained: Trained, tmp_path: Path) -> None:
    broken = dataclasses.replace(trained, class_names=("a\nb", "c", "d"))
    with pytest.raises(RequestError, match="line break"):
        written(broken, tmp_path, "litert")


def test_a_quantized_model_is_judged_by_its_labels() -> None:
    """Two of a hundred may differ, and of a few pictures one."""
    sure = np.tile([[0.6, 0.4]], (100, 1)).astype(np.float32)
    for differ, good in ((0, True), (2, True), (3, False)):
        other = sure.copy()
        other[:differ] = [0.4, 0.6]
        assert judge_equal(other, "int8", sure).good == good
        assert judge_equal(other, None, sure).good == (differ == 0)
    assert judge_equal(sure[:8] * 0 + [0.4, 0.6], "int8", sure[:8]).good is False
    assert judge_equal(np.full((8, 2), np.nan, np.float32), "int8", sure[:8]).good is False


def test_predict_of_an_export_equals_predict_of_the_run(
    run_folder: Path, pictures: list[Path]
) -> None:
    folder = export_run(run_folder, "onnx")
    (pictures[0].parent / "broken.png").write_bytes(b"no picture")
    tables = []
    for model in (run_folder, folder):
        done = CliRunner().invoke(app, ["predict", str(model), *map(str, pictures), "--json"])
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        tables.append({one["path"]: one for one in lines})
    first, second = tables
    assert len(first) == 8
    for path, one in first.items():
        assert second[path]["predicted"] == one["predicted"]
        assert second[path]["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)


AGAIN = """
import sys
from pathlib import Path
from kerastl.evaluation import load_trained
from kerastl.evaluation.answering import AS_LEARNT
from kerastl import registry
trained = load_trained(Path(sys.argv[1]))
for name in sys.argv[3:]:
    registry.module("format", name).write(trained, Path(sys.argv[2]) / name, answering=AS_LEARNT)
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        words = [sys.executable, "-c", AGAIN, str(run_folder), str(tmp_path / number), *FORMATS]
        subprocess.run(words, check=True, env=environment, capture_output=True)
    files = sorted(one for one in (tmp_path / "1").rglob("*") if one.is_file())
    assert len(files) == 7
    for file in files:
        other = tmp_path / "2" / file.relative_to(tmp_path / "1")
        assert file.read_bytes() == other.read_bytes(), file.name


def test_an_onnx_file_cannot_have_another_file_read_as_its_weights(tmp_path: Path) -> None:
    """Weights may stand in a second file by the format; its name is the writer's choice, here a secret's."""
    import onnx

    (tmp_path / "secret").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    for where in (str(tmp_path / "secret"), "../secret", "secret"):
        weights = onnx.TensorProto(name="w", data_type=1, dims=[3], data_location=1)
        for key, value in (("location", where), ("offset", "0"), ("length", "12")):
            weights.external_data.add(key=key, value=value)
        inputs, outputs = (
            onnx.helper.make_tensor_value_info(name, 1, [3]) for name in ("images", "probabilities")
        )
        add = onnx.helper.make_node("Add", ["images", "w"], ["probabilities"])
        graph = onnx.helper.make_graph([add], "g", [inputs], [outputs], [weights])
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        proto.ir_version = 8
        onnx.helper.set_model_props(proto, {"class_names": '["a"]'})
        (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(Exception, match=r"[Ee]xternal|model_path"):
            registry.module("format", "onnx").opened(tmp_path)
