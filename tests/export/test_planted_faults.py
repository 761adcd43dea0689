"""Faults that were planted in a small export are each found, and named by one finding with the right hint."""

import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.data.decode import resize_image
from kerastl.evaluation import Trained
from kerastl.evaluation.trained_model import weights_fingerprint
from kerastl.export import ExpectedPredictions, Finding, check_export, expected_predictions, verify
from kerastl.export import _probe as probe
from kerastl.export.endpoints import outputs_from_logits
from kerastl.export.manifest import write_manifest
from kerastl.image_size import Resize
from kerastl.models import build_backbone, build_model
from kerastl.runs import hash_files

pytestmark = [pytest.mark.xdist_group("planted_faults"), pytest.mark.usefixtures("_in_process")]
SIZE = 32
CLASS_NAMES = ("cat", "dog", "bird")
WARM_UP = "assets.extra/tf_serving_warmup_requests"


def small_model(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = build_model(
        build_backbone("small_cnn", weights="none", image_size_px=SIZE), class_names=CLASS_NAMES
    )
    kernel = model.trainable_variables[-2]
    kernel.assign(kernel * 12)
    return model


def draw_images() -> list[bytes]:
    """Six color images that no flip, crop, channel order or kernel leaves as they are."""
    random, encoded = np.random.default_rng(0), []
    for number in range(6):
        down, across = np.mgrid[0:90, 0:70] / 90
        image = np.stack([down * 40 * number, 250 * across, 255 - 40 * number * down], -1)
        image[20:50, 5 + number * 4 :: 3] = 250 - 40 * number
        file = io.BytesIO()
        Image.fromarray(np.uint8(np.clip(image + random.integers(0, 60, image.shape), 0, 255))).save(
            file, "PNG"
        )
        encoded.append(file.getvalue())
    return encoded


@dataclass(frozen=True)
class Program:
    """An export as another program might write it: each part may have a fault.

    Args:
        network: From images to logits.
        load: From a file to an image.
        outputs: Changes the outputs.
        class_names: Those in the graph.
        checks_size: Whether `pixels` rejects images of another size.
    """

    network: Callable[[Any], Any]
    load: Callable[[Any], Any]
    outputs: Callable[[dict[str, Any]], dict[str, Any]] = dict
    class_names: tuple[str, ...] = CLASS_NAMES
    checks_size: bool = True

    def predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.outputs(outputs_from_logits(self.network(images), self.class_names))

    def from_files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec([SIZE, SIZE, 3])
        return self.predict(tf.map_fn(self.load, image_bytes, fn_output_signature=spec))

    def from_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        if not self.checks_size:
            return self.predict(tf.image.resize(images, [SIZE, SIZE]))
        check = tf.debugging.assert_equal(tf.shape(images)[1:], [SIZE, SIZE, 3], "32 x 32 pixels")
        with tf.control_dependencies([check]):
            return self.predict(tf.ensure_shape(tf.identity(images), [None, SIZE, SIZE, 3]))

    def write(self, folder: Path, variables: Iterable[tf.Variable], model: keras.Model) -> Path:
        """Write version 1 with a correct manifest of `model`."""
        folder /= "1"
        module = tf.Module()
        module.kept = list(variables)
        specs = {
            "serving_default": (self.from_files, tf.TensorSpec([None], tf.string, name="image_bytes")),
            "pixels": (self.from_pixels, tf.TensorSpec([None, None, None, 3], name="images")),
        }
        signatures = {
            name: tf.function(function, input_signature=[spec], autograph=False)
            for name, (function, spec) in specs.items()
        }
        tf.saved_model.save(module, str(folder), signatures=signatures)
        write_records(folder, [request(image_bytes=[draw_images()[0]])])
        seal(folder, model_sha256=weights_fingerprint(model))
        return folder


def load(encoded: tf.Tensor, method: str = "bilinear") -> tf.Tensor:
    """Decode a PNG as kerastl does, with any kernel."""
    image = tf.ensure_shape(tf.cast(tf.io.decode_png(encoded, channels=3), tf.float32), [None, None, 3])
    return tf.clip_by_value(tf.image.resize(image, [SIZE, SIZE], method, antialias=True), 0, 255)


def load_by(rule: Resize, **method: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """Decode a PNG as kerastl does, with any rule for other aspect ratios."""
    return lambda encoded: resize_image(
        tf.cast(tf.io.decode_png(encoded, channels=3), tf.float32), (SIZE, SIZE), rule, **method
    )


def seal(folder: Path, **fields: Any) -> None:
    settings = {"class_names": CLASS_NAMES, "image_size_px": SIZE, "window": None, "max_pixels": 50_000_000}
    write_manifest(folder, **settings | {"versions": {}} | fields)


def request(signature: str = "serving_default", **inputs: Any) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, values in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log


def write_records(folder: Path, logs: Iterable[prediction_log_pb2.PredictionLog]) -> None:
    (folder / WARM_UP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


@dataclass(frozen=True)
class Case:
    model: keras.Model
    program: Program
    export: Path
    encoded: list[bytes]
    expected: ExpectedPredictions


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    model, encoded = small_model(), draw_images()
    trained = Trained(CLASS_NAMES, (SIZE, SIZE), None, 50_000_000, model)
    program = Program(lambda images: model(images, training=False), load)
    export = program.write(tmp_path_factory.mktemp("planted"), values(model), model)
    return Case(model, program, export, encoded, expected_predictions(trained, encoded))


def values(model: keras.Model) -> list[tf.Variable]:
    return [variable.value for variable in model.variables]


def the_fault(case: Case, export: Path, expected: ExpectedPredictions | None = None) -> Finding:
    """Return the only fault of an export."""
    findings = verify(export, encoded=case.encoded, expected=expected or case.expected)
    (fault,) = [finding for finding in findings if not finding.ok]
    assert fault.passed is False
    assert all(finding.cause in (None, fault.check) for finding in findings)
    return fault


def test_a_good_export_has_no_fault(case: Case) -> None:
    findings = verify(case.export, encoded=case.encoded, expected=case.expected)
    assert [finding for finding in findings if finding.passed is not True] == []
    (size,) = [finding.detail for finding in findings if finding.check == "size"]
    assert "0.4 MB are weights" in size


def half_in_batch(logits: tf.Tensor) -> tf.Tensor:
    return logits + 0.5 * tf.reduce_mean(logits[:, :1], axis=0)[None] * [1.0, -1.0, 0.0]


def cast(dtype: Any) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    return lambda outputs: outputs | {"probabilities": tf.cast(outputs["probabilities"], dtype)}


def python_load(encoded: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(
        tf.numpy_function(lambda content: load(content).numpy(), [encoded], tf.float32), [SIZE, SIZE, 3]
    )


def compiled(images: tf.Tensor) -> tf.Tensor:
    return tf.function(lambda image: image * 1.0, jit_compile=True)(images)


def other_order(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    best = tf.argmax(outputs["probabilities"], axis=-1)
    return outputs | {"predicted": tf.gather(tf.constant(CLASS_NAMES[1:] + CLASS_NAMES[:1]), best)}


Plant = Callable[[Program], dict[str, Any]]
FAST: dict[str, tuple[Plant, str, str]] = {
    "XLA": (lambda own: {"network": lambda images: own.network(compiled(images))}, "no XLA compilation", "does not run it on a CPU"),
    "Python": (lambda own: {"load": python_load}, "no Python function", "PyFunc"),
    "float64": (lambda own: {"outputs": cast(tf.float64)}, "types", "probabilities of pixels is float64 instead of float32"),
}  # fmt: skip
SLOW: dict[str, tuple[Plant, str, str]] = {
    "XLA in a loop": (lambda own: {"load": lambda file: compiled(own.load(file))}, "no XLA compilation", "while"),
    "augmentation": (lambda own: {"network": lambda images: own.network(tf.image.random_flip_left_right(images))}, "no random operation", "Random"),
    "labels": (lambda own: {"class_names": CLASS_NAMES[::-1]}, "class names", "['bird', 'dog', 'cat'] in the export"),
    "BGR in the network": (lambda own: {"network": lambda images: own.network(images[..., ::-1])}, "equal to kerastl predict", "BGR"),
    "bfloat16 outputs": (lambda own: {"outputs": cast(tf.bfloat16)}, "types", "bfloat16"),
    "bfloat16": (lambda own: {"network": lambda images: tf.cast(tf.cast(own.network(images), tf.bfloat16), tf.float32)}, "float32 computation", "bfloat16"),
    "BGR in decoding": (lambda own: {"load": lambda file: own.load(file)[..., ::-1]}, "pixels equal to files", "BGR"),
    "nearest": (lambda own: {"load": lambda file: load(file, "nearest")}, "pixels equal to files", "nearest"),
    "bicubic": (lambda own: {"load": lambda file: load(file, "bicubic")}, "pixels equal to files", "bicubically with antialiasing"),
    "not antialiased": (lambda own: {"load": load_by("stretch", method="bilinear")}, "pixels equal to files", "without antialiasing"),
    "padded": (lambda own: {"load": load_by("pad")}, "pixels equal to files", "padded with black"),
    "cropped": (lambda own: {"load": load_by("crop")}, "pixels equal to files", "cropped to their center"),
    "scaled": (lambda own: {"network": lambda images: own.network(images * 255)}, "equal to kerastl predict", "[0, 1]"),
    "mirrored": (lambda own: {"network": lambda images: own.network(images[:, :, ::-1])}, "equal to kerastl predict", "mirrored"),
    "temperature": (lambda own: {"network": lambda images: own.network(images) / 1.5}, "equal to kerastl predict", "0.667 times"),
    "prevalence": (lambda own: {"network": lambda images: own.network(images) + tf.constant([1.0, -0.5, 0.25])}, "equal to kerastl predict", "prevalence"),
    "columns": (lambda own: {"network": lambda images: tf.gather(own.network(images), [1, 2, 0], axis=1)}, "equal to kerastl predict", "class order ['dog', 'bird', 'cat']"),
    "predicted": (lambda own: {"outputs": other_order}, "predicted", "not the most probable"),
    "batch": (lambda own: {"network": lambda images: half_in_batch(own.network(images))}, "independent of the batch", "other images"),
    "any size": (lambda own: {"checks_size": False}, "wrong size rejected", "accepts"),
    "logits": (lambda own: {"outputs": lambda outputs: outputs | {"probabilities": outputs["probabilities"] * 2}}, "probabilities", "sum to 1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "check", "hint"),
    [
        *(pytest.param(*fault, id=name) for name, fault in FAST.items()),
        *(pytest.param(*fault, id=name, marks=pytest.mark.slow) for name, fault in SLOW.items()),
    ],
)
def test_one_finding_names_a_fault_of_the_graph(
    case: Case, plant: Plant, check: str, hint: str, tmp_path: Path
) -> None:
    program = replace(case.program, **plant(case.program))
    fault = the_fault(case, program.write(tmp_path, values(case.model), case.model))
    assert fault.check == check
    assert hint in fault.detail


@pytest.fixture
def copied(case: Case, tmp_path: Path) -> Path:
    return shutil.copytree(case.export, tmp_path / "1")


def nudge_weights(folder: Path, model: keras.Model) -> None:
    """Store other values for the same variables, as a valid checkpoint."""
    other = folder.parent / "other"
    nudged = [tf.Variable(value + 1) for value in values(model)]
    module = tf.Module()
    module.kept = nudged
    tf.saved_model.save(module, str(other))
    shutil.rmtree(folder / "variables")
    shutil.move(other / "variables", folder / "variables")


@pytest.mark.parametrize("is_sealed", [True, False])
def test_nudged_weights_are_named(case: Case, copied: Path, is_sealed: bool) -> None:
    """Also if the hashes of the files were updated."""
    nudge_weights(copied, case.model)
    if is_sealed:
        content = json.loads((copied / "manifest.json").read_text())
        content["files"] = {
            name: digest for name, digest in hash_files(copied).items() if name != "manifest.json"
        }
        (copied / "manifest.json").write_text(json.dumps(content))
    fault = the_fault(case, copied)
    assert fault.check == "weights"
    assert "not those that were exported" in fault.detail


def test_a_flipped_byte_of_the_weights_is_named(case: Case, copied: Path) -> None:
    file = next((copied / "variables").glob("*.data*"))
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    fault = the_fault(case, copied)
    assert fault.check == "files"
    assert f"variables/{file.name} was changed" in fault.detail


def test_the_export_of_another_model_is_named(case: Case) -> None:
    other = replace(case.expected, settings=case.expected.settings | {"model_sha256": "ab" * 32})
    fault = the_fault(case, case.export, other)
    assert fault.check == "weights"
    assert "another model" in fault.detail


def test_weights_that_are_stored_twice_are_named(case: Case, tmp_path: Path) -> None:
    twice = [*values(case.model), *(tf.Variable(value) for value in values(case.model))]
    fault = the_fault(case, case.program.write(tmp_path, twice, case.model))
    assert fault.check == "size"
    assert "more than once" in fault.detail


def test_a_missing_manifest_is_named(copied: Path) -> None:
    (copied / "manifest.json").unlink()
    (fault,) = check_export(copied).findings
    assert (fault.check, fault.passed) == ("manifest", False)
    assert "manifest.json" in fault.detail


def test_a_wrong_warm_up_record_is_named(case: Case, copied: Path) -> None:
    write_records(
        copied,
        [request(image_bytes=case.encoded), request("pixels", images=np.zeros([1, SIZE, SIZE, 3], np.uint8))],
    )
    fault = the_fault(case, copied)
    assert fault.check == "warm-up"
    assert "record 2 of 2: images is uint8, but pixels takes float32" in fault.detail


def classify_request() -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.input.example_list.examples.add()
    return log


def test_each_record_that_a_server_refuses_is_a_fault_of_the_warm_up(case: Case, copied: Path) -> None:
    image = case.encoded[0]
    filtered = request(image_bytes=[image])
    filtered.predict_log.request.output_filter.append("gone")
    refused = {
        "signature 'gone'": request("gone", image_bytes=[image]),
        "inputs ['files']": request(files=[image]),
        "inputs []": request(),
        "['image_bytes', 'more']": request(image_bytes=[image], more=[1]),
        "gone": filtered,
        "an empty record": prediction_log_pb2.PredictionLog(),
        "Classify request": classify_request(),
        "32 x 32 pixels": request("pixels", images=np.zeros([1, SIZE, 3, 3], np.float32)),
        "PNG": request(image_bytes=[b"no image"]),
    }
    with probe.ServingSession(copied) as session:
        for message, log in refused.items():
            write_records(copied, [request(image_bytes=[image]), log])
            (fault,) = probe.replay_warm_up(session, copied)["faults"]
            assert fault.startswith("record 2 of 2: ")
            assert message in fault
        write_records(copied, [request(image_bytes=[image])] * 1001)
        (fault,) = probe.replay_warm_up(session, copied, is_quick=True)["faults"]
        assert "1001 records" in fault
        (copied / WARM_UP).write_bytes((copied / WARM_UP).read_bytes()[:-3])
        assert (
            "damaged after record 1000" in probe.replay_warm_up(session, copied, is_quick=True)["faults"][0]
        )
