"""Conversion to another format: what converters cannot handle is rewritten, or refused with the reason."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import registry
from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.export import export_run
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.converted_formats import FORMATS, FORMATS_ONE_FAST, need, read_class_names, write_format


@pytest.fixture(autouse=True)
def _installed() -> None:
    need(*FORMATS)


def test_arrays_of_a_layer_that_are_not_weights_become_constants(tmp_path: Path) -> None:
    """Normalization layers have such constants. Unchanged, they become additional inputs of the ONNX file."""
    keras.utils.set_random_seed(2)
    image = keras.Input((SIZE, SIZE, 3))
    normal = keras.layers.Normalization(mean=[120.0, 110.0, 90.0], variance=[400.0, 900.0, 100.0])
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(normal(image)))
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    trained = Trained(CLASS_NAMES, (SIZE, SIZE), None, 10**6, model)
    images = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    folder = write_format(trained, tmp_path, "onnx")
    assert read_class_names(folder, "onnx") == list(CLASS_NAMES)
    _, predict = registry.module("format", "onnx").load(folder)
    assert predict(images) == pytest.approx(tf.nn.softmax(model(images)).numpy(), abs=1e-5)


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_grouped_convolutions_and_gelu_can_be_converted(name: str, tmp_path: Path) -> None:
    """As ConvNeXt has them: Keras computes the first in a function for XLA alone, the second by Erfc, which ONNX lacks."""
    keras.utils.set_random_seed(4)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2)(keras.layers.Rescaling(1 / 40, -3.0)(image))
    x = keras.layers.Activation("gelu")(keras.layers.Conv2D(8, 3, groups=8)(x))
    x = keras.layers.LayerNormalization()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    trained = Trained(CLASS_NAMES, (SIZE, SIZE), None, 10**6, model)
    images = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    _, predict = registry.module("format", name).load(write_format(trained, tmp_path, name))
    assert predict(images) == pytest.approx(tf.nn.softmax(model(images)).numpy(), abs=1e-6)


@keras.saving.register_keras_serializable("tests")
class Odd(keras.layers.Layer):
    """An operation that no other runtime has."""

    def call(self, x: Any) -> Any:
        return tf.math.bessel_i0(x)


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_a_model_that_cannot_be_converted_is_refused_with_the_reason(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    model = keras.Model(trained.model.input, Odd()(trained.model.output))
    with pytest.raises(RequestError, match="BesselI0") as refused:
        write_format(dataclasses.replace(trained, model=model), tmp_path / "out", name)
    assert "--format saved_model" in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_reported_with_its_extra_before_anything_is_read(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.module("format", "onnx"), "REQUIRED_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(RequestError, match=r"pip install 'kerastl\[onnx\]'") as refused:
        export_run(run_folder, "onnx")
    assert "no_such_package" in str(refused.value)
    assert not (run_folder / "export").exists()


@pytest.mark.parametrize("name", ["onnx", "saved_model"])
def test_quantizing_another_format_is_refused(name: str, run_folder: Path) -> None:
    words = ["export", str(run_folder), "--format", name, "--quantize", "int8"]
    with pytest.raises(RequestError, match=f"{name}.* int8.* litert: float16"):
        app.main(words, standalone_mode=False)
    assert not (run_folder / "export").exists()


def test_class_names_with_line_breaks_are_refused_by_litert(trained: Trained, tmp_path: Path) -> None:
    broken = dataclasses.replace(trained, class_names=("a\nb", "c", "d"))
    with pytest.raises(RequestError, match=r"a.*b"):
        write_format(broken, tmp_path, "litert")


AGAIN = """
import sys
from pathlib import Path
from kerastl.evaluation import load_trained
from kerastl.export.converted import write_converted
from kerastl.export.postprocess import NO_POSTPROCESSING
trained = load_trained(Path(sys.argv[1]))
for name in sys.argv[3:]:
    write_converted(trained, Path(sys.argv[2]) / name, name, NO_POSTPROCESSING)
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(trained: Trained, tmp_path: Path, finished_run: Path) -> None:
    for name in FORMATS:
        write_format(trained, tmp_path / "1" / name, name)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    words = [sys.executable, "-c", AGAIN, str(finished_run), str(tmp_path / "2"), *FORMATS]
    subprocess.run(words, check=True, env=environment, capture_output=True)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "1", tmp_path / "2")
    )
    assert {"model.onnx", "model.tflite", "model.xml", "model.bin", "client.py"} <= {
        path.name for path in first
    }
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def test_onnx_weights_in_another_file_are_not_read(tmp_path: Path) -> None:
    """The format allows weights in a second file with any name; here it is a secret file."""
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
            registry.module("format", "onnx").load(tmp_path)
