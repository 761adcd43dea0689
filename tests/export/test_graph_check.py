"""The static check of a graph finds forbidden operations in every function, before a session exists."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kerastl.errors import RequestError
from kerastl.export import export_saved_model, read_export, verify
from kerastl.export._probe import ServingSession
from kerastl.export.graph_check import graph_faults
from tests.export.conftest import SIZE
from tests.export.test_verify import faults, planted, served


@pytest.fixture
def edited(export: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Return a function that writes a copy of the export with a changed graph."""

    def write(change: Callable[[Any], None]) -> Path:
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((export / "saved_model.pb").read_bytes())
        change(saved.meta_graphs[0])
        copy = tmp_path / "1"
        shutil.copytree(export, copy)
        (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
        return copy

    return write


def functions_of(meta: Any) -> dict[str, Any]:
    return {function.signature.name: function for function in meta.graph_def.library.function}


def called_by(meta: Any, node_name: str) -> Any:
    """Return the function that a node of the graph calls."""
    node = next(node for node in meta.graph_def.node if node.name == node_name.split(":")[0])
    return functions_of(meta)[node.attr["f"].func.name]


def body_of_loop(meta: Any) -> Any:
    return next(function for name, function in functions_of(meta).items() if "while_body" in name)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "the body of a loop": body_of_loop,
    "the function that restores": lambda meta: called_by(meta, meta.saver_def.restore_op_name),
    "the function that saves": lambda meta: called_by(meta, meta.saver_def.save_tensor_name),
    "a function that nothing calls": lambda meta: meta.graph_def.library.function.add(),
}
REFUSED = {
    "python": ["PyFunc", "PyFuncStateless", "EagerPyFunc"],
    "random": [
        "RandomUniform", "StatelessRandomUniformV2", "StatelessMultinomial", "StatelessTruncatedNormalV2",
        "RngReadAndSkip", "RandomShuffle", "StatelessSampleDistortedBoundingBox", "FractionalMaxPool",
    ],
    "compiled": ["XlaLaunch", "XlaCallModule"],
    "unknown": ["AnOperationOfSomeLibrary"],
    "outside": [
        "ReadFile", "WriteFile", "MatchingFiles", "TFRecordDatasetV2", "ImmutableConst", "PrintV2", "RpcCall", "Abort",
        "HashTableV2", "RestoreV2",
    ],
}  # fmt: skip


def test_an_export_of_kerastl_has_no_fault(export: Path) -> None:
    faults_by_kind = graph_faults(export)
    assert set(faults_by_kind) == {*REFUSED, "writes", "reduced"}
    assert faults_by_kind == {kind: [] for kind in faults_by_kind}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", REFUSED)
def test_an_operation_is_refused_in_every_function(kind: str, function: str, edited: Any) -> None:
    def plant(meta: Any) -> None:
        for number, operation in enumerate(REFUSED[kind]):
            FUNCTIONS[function](meta).node_def.add(name=f"hidden_{number}", op=operation)

    copy = edited(plant)
    faults_by_kind = graph_faults(copy)
    assert {fault.split(" in ")[0] for fault in faults_by_kind[kind]} == set(REFUSED[kind])
    assert sum(map(len, faults_by_kind.values())) == len(faults_by_kind[kind])
    with pytest.raises(RequestError, match="never exports"):
        read_export(copy)


def test_an_operation_is_refused_outside_functions(edited: Any) -> None:
    copy = edited(lambda meta: meta.graph_def.node.add(name="hidden", op="ReadFile"))
    assert graph_faults(copy)["outside"] == ["ReadFile in the graph"]


def on_function(meta: Any) -> None:
    body_of_loop(meta).attr["_XlaMustCompile"].b = True


def on_node(meta: Any) -> None:
    body_of_loop(meta).node_def[0].attr["_XlaMustCompile"].b = True


def on_call(meta: Any) -> None:
    node = next(node for node in meta.graph_def.node if node.op == "StatefulPartitionedCall")
    node.attr["f"].func.attr["jit_compile"].b = True


def on_saving(meta: Any) -> None:
    saving = FUNCTIONS["the function that saves"](meta)
    next(node for node in saving.node_def if node.op == "SaveV2").attr["_XlaCompile"].b = True


@pytest.mark.parametrize("plant", [on_function, on_node, on_call, on_saving])
def test_an_attribute_that_asks_for_xla_is_refused(plant: Any, edited: Any) -> None:
    assert len(graph_faults(edited(plant))["compiled"]) == 1


def test_an_attribute_that_declines_xla_is_no_fault(edited: Any) -> None:
    def plant(meta: Any) -> None:
        body_of_loop(meta).attr["_XlaMustCompile"].b = False

    assert graph_faults(edited(plant))["compiled"] == []


def test_saving_is_refused_if_loading_leads_to_it(edited: Any) -> None:
    def plant(meta: Any) -> None:
        saver = meta.saver_def
        restoring = next(node for node in meta.graph_def.node if node.name == saver.restore_op_name)
        restoring.input.append("^" + saver.save_tensor_name.split(":")[0])

    assert any(fault.startswith("SaveV2") for fault in graph_faults(edited(plant))["outside"])


def test_reading_another_file_than_the_variables_is_refused(edited: Any) -> None:
    def plant(meta: Any) -> None:
        restoring = FUNCTIONS["the function that restores"](meta)
        next(node for node in restoring.node_def if node.op == "RestoreV2").input[0] = "path:output"

    assert [fault.split()[0] for fault in graph_faults(edited(plant))["outside"]] == ["RestoreV2"]


def test_a_graph_that_cannot_be_read_is_not_loaded(export: Path, tmp_path: Path) -> None:
    copy = tmp_path / "1"
    shutil.copytree(export, copy)
    (copy / "saved_model.pb").write_bytes(b"\xff not a graph")
    with pytest.raises(RequestError, match="cannot be loaded"):
        read_export(copy)


calls: list[str] = []


def callback(value: Any) -> Any:
    calls.append("called")
    return value


def plain(values: tf.Tensor) -> tf.Tensor:
    return tf.py_function(callback, [values], tf.float32)


def stateless(values: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(callback, [values], tf.float32, stateful=False)


def inside_while(values: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(
        lambda number, _: number < 1,
        lambda number, inner: (number + 1, tf.ensure_shape(plain(inner), [None])),
        [0, values],
    )[1]


def jit_compiled(values: tf.Tensor) -> tf.Tensor:
    return tf.function(tf.sin, jit_compile=True)(values)


def jit_compiled_inside_while(values: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(jit_compiled, values)


def save(function: Any, folder: Path) -> Path:
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name="values")
    module.call = tf.function(lambda values: {"out": function(values)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    return folder


@pytest.mark.parametrize(
    ("function", "kind", "operation"),
    [
        (plain, "python", "EagerPyFunc"),
        (stateless, "python", "PyFuncStateless"),
        (inside_while, "python", "EagerPyFunc"),
        (jit_compiled, "compiled", "PartitionedCall"),
        (jit_compiled_inside_while, "compiled", "PartitionedCall"),
    ],
)
def test_what_tensorflow_saves_is_refused(function: Any, kind: str, operation: str, tmp_path: Path) -> None:
    messages = graph_faults(save(function, tmp_path))[kind]
    assert any(operation in fault for fault in messages), messages


def test_a_session_would_run_a_python_function_that_this_process_has_registered(tmp_path: Path) -> None:
    """This is why the check must run before the session is created."""
    export = save(inside_while, tmp_path)
    calls.clear()
    assert graph_faults(export)["python"]
    assert calls == []
    with ServingSession(export) as session:
        session.run("serving_default", {"values": np.ones(2, np.float32)})
    assert calls == ["called"]


@pytest.mark.parametrize("function", [plain, inside_while])
def test_verify_and_predict_never_call_a_registered_python_function(
    function: Any, model: Any, encoded: list[bytes], tmp_path: Path
) -> None:
    honest = served(model).from_files

    def leaning(image_bytes: tf.Tensor) -> Any:
        lengths = tf.cast(tf.strings.length(image_bytes), tf.float32)
        with tf.control_dependencies([function(lengths)]):
            return honest(tf.identity(image_bytes))

    export = planted(model, tmp_path / "served", leaning)
    calls.clear()
    findings = verify(export, encoded=encoded, expected=None)
    assert "EagerPyFunc" in faults(findings)["no Python function"]
    (process,) = [finding for finding in findings if finding.check == "fresh process"]
    assert process.passed is None
    with pytest.raises(RequestError, match="EagerPyFunc"):
        read_export(export)
    assert calls == []


@pytest.mark.slow
def test_augmentation_left_in_the_model_is_reported(model: Any, encoded: list[bytes], tmp_path: Path) -> None:
    augmented = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), keras.layers.RandomBrightness(0.5, seed=3), model]
    )

    class AsTrained:
        """A model that is called without `training=False`, as `model.export()` calls it."""

        inputs, layers, variables = augmented.inputs, [], augmented.variables

        def __call__(self, images: Any, training: bool) -> Any:
            del training
            return augmented(images)

    export = planted(augmented, tmp_path / "served", served(AsTrained()).from_files)
    messages = faults(verify(export, encoded=encoded, expected=None))
    assert set(messages) == {"no random operation"}
    assert "StatelessRandom" in messages["no random operation"]


@pytest.mark.slow
def test_an_export_of_grouped_convolutions_has_no_xla(tmp_path: Path) -> None:
    """Keras compiles them, and TensorFlow Serving has no XLA on a CPU."""
    keras.utils.set_random_seed(2)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, groups=4)(keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    export = export_saved_model(model, tmp_path, class_names=("a", "b"), image_size_px=SIZE)
    assert not any(graph_faults(export).values())
    images = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    with ServingSession(export) as session:
        probabilities = session.run("pixels", {"images": images})["probabilities"]
    np.testing.assert_allclose(probabilities, keras.ops.softmax(model(images, training=False)), atol=1e-5)


def test_a_file_without_a_graph_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(RequestError, match="contains no graph"):
        graph_faults(tmp_path)
