"""The endpoints, checked with NumPy on the layers of the model."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerastl.evaluation import Trained, explain_images
from kerastl.export import export_saved_model
from kerastl.export._probe import ServingSession
from kerastl.export.graph_check import check_endpoints
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import Postprocessing, Prevalence, Threshold
from kerastl.models import build_model, load_own_model
from kerastl.runs.schemas import ServedPostprocessing
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SETTINGS, SIZE, WINDOW, png

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hub_backbones import OFFSET, SCALE, build

POSTPROCESSING = Postprocessing(
    temperature=1.7,
    prevalence=Prevalence((0.2, 0.3, 0.5), (0.7, 0.2, 0.1)),
    threshold=Threshold(CLASS_NAMES[1], 0.2, 1.3),
)


@pytest.fixture(scope="module")
def logits(loaded: Any, encoded: list[bytes]) -> np.ndarray:
    """Logits up to a constant per row."""
    rows = loaded.signatures["serving_default"](tf.constant(encoded))["probabilities"]
    return np.log(rows.numpy().astype(np.float64))


def example(image: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    features = tf.train.Features(feature={"image/encoded": feature})
    return tf.train.Example(features=features).SerializeToString()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_classify_returns_all_classes_best_first(
    loaded: Any, encoded: list[bytes], logits: np.ndarray
) -> None:
    outputs = loaded.signatures["classify"](tf.constant([example(content) for content in encoded]))
    order = np.argsort(-logits, axis=1)
    assert [[name.decode() for name in row] for row in outputs["classes"].numpy()] == [
        [CLASS_NAMES[index] for index in row] for row in order
    ]
    rows = np.take_along_axis(softmax(logits), order, axis=1)
    assert outputs["scores"].numpy() == pytest.approx(rows, abs=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/encoded"):
        loaded.signatures["classify"](tf.constant([b""]))


@pytest.mark.slow
def test_explain_returns_grad_cam_of_the_predicted_class(
    loaded: Any, model: Any, encoded: list[bytes]
) -> None:
    """With average pooling and one Dense layer, Grad-CAM weights each channel by the weight of the head for the class."""
    import keras

    from kerastl.data import load_image

    outputs = loaded.signatures["explain"](tf.constant(encoded))
    images = np.stack([
        load_image(tf.constant(content), image_size_px=SIZE, window=WINDOW, max_pixels=MAX_PIXELS)
        for content in encoded
    ])  # fmt: skip
    maps = keras.Model(model.input, model.get_layer("pooled").input)(images, training=False).numpy()
    predicted = [CLASS_NAMES.index(name.decode()) for name in outputs["predicted"].numpy()]
    kernel = model.get_layer("head").get_weights()[0]
    heat = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel[:, predicted]), 0)
    highest = heat.max(axis=(1, 2), keepdims=True)
    wanted = np.divide(heat, highest, out=np.zeros_like(heat), where=highest > 0)
    assert wanted.max() == 1
    assert outputs["heatmap"].numpy() == pytest.approx(wanted, abs=1e-4)
    features = loaded.signatures["features"](tf.constant(encoded))["features"].numpy()
    assert features == pytest.approx(maps.mean(axis=(1, 2)), abs=1e-4)


@pytest.mark.slow
def test_explain_of_tokens_in_a_session_equals_python_and_leaves_out_the_padding(
    tmp_path: Path, encoded: list[bytes]
) -> None:
    loaded = load_own_model(build("dinov2_with_registers"), scale=SCALE, offset=OFFSET)
    model = build_model(
        loaded.model, class_names=CLASS_NAMES, num_prefix_tokens=loaded.num_prefix_tokens, pooling="cls_mean"
    )
    trained = Trained(CLASS_NAMES, (32, 32), WINDOW, MAX_PIXELS, model, resize="pad")
    files = [*encoded, png(np.random.default_rng(2).integers(0, 255, (60, 20, 3)).astype(np.uint8))]
    export = export_saved_model(model, tmp_path, **SETTINGS | {"image_size_px": 32}, resize="pad")
    with ServingSession(export) as session:
        explained, served, features = (
            session.run(signature, {"image_bytes": files})
            for signature in ("explain", "serving_default", "features")
        )
    assert explained["predicted"].tolist() == served["predicted"].tolist()
    expected = explain_images(trained, files)
    assert explained["heatmap"] == pytest.approx(np.stack([heatmap.values for heatmap in expected]), abs=1e-4)
    assert [name.decode() for name in explained["predicted"]] == [heatmap.class_name for heatmap in expected]
    assert (explained["heatmap"][-1].max(axis=0) > 0).tolist() == [False, True, True, False]
    assert features["features"].shape == (len(files), 2 * 16)


@pytest.fixture(scope="module")
def adjusted(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_saved_model(
        model, tmp_path_factory.mktemp("postprocessed"), **SETTINGS, postprocessing=POSTPROCESSING
    )


def test_temperature_prevalence_and_threshold_are_in_the_graph(
    adjusted: Path, encoded: list[bytes], logits: np.ndarray
) -> None:
    loaded = tf.saved_model.load(str(adjusted))
    outputs = loaded.signatures["serving_default"](tf.constant(encoded))
    rows = softmax(logits / 1.7) * np.array([0.7 / 0.2, 0.2 / 0.3, 0.1 / 0.5])
    rows /= rows.sum(axis=1, keepdims=True)
    assert outputs["probabilities"].numpy() == pytest.approx(rows, abs=1e-6)
    is_positive = softmax(logits / 1.3)[:, 1] >= 0.2
    assert 0 < is_positive.sum() < len(is_positive)
    others = np.where([True, False, True], rows, -1).argmax(axis=1)
    wanted = [CLASS_NAMES[1 if yes else other] for yes, other in zip(is_positive, others, strict=True)]
    assert [name.decode() for name in outputs["predicted"].numpy()] == wanted
    assert POSTPROCESSING.apply(logits) == pytest.approx(rows, abs=1e-9)
    assert POSTPROCESSING.predict_labels(logits, CLASS_NAMES) == wanted
    assert read_manifest(adjusted).postprocessing == POSTPROCESSING


def read(content: dict[str, Any]) -> Postprocessing:
    """Read the entry `postprocessing` of a manifest for the classes well and ill."""
    return Postprocessing.from_json(ServedPostprocessing.model_validate(content), ("well", "ill"))


def test_the_output_threshold_of_two_classes_gives_the_same_labels() -> None:
    names = ("well", "ill")
    postprocessing = Postprocessing(2.0, Prevalence((0.5, 0.5), (0.9, 0.1)), Threshold("ill", 0.8))
    at = postprocessing.output_threshold(names)
    odds = np.sqrt(0.8 / 0.2) / 9
    assert at == pytest.approx(odds / (1 + odds))
    rows = np.array([[1 - p, p] for p in np.linspace(0.01, 0.99, 99)])
    logits = np.log(rows)
    by_output = postprocessing.apply(logits)[:, 1] >= at - 1e-9
    assert [label == "ill" for label in postprocessing.predict_labels(logits, names)] == by_output.tolist()
    assert read(postprocessing.to_json(names)) == postprocessing
    assert "ill is predicted" in postprocessing.describe(names)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        (
            {"threshold": {"positive": "x", "probability": 0.5, "output_probability": None}},
            "unknown class 'x'",
        ),
        ({"threshold": {"positive": "ill", "probability": 2, "output_probability": None}}, "probability"),
        ({"prevalence": {"training": {"ill": 1}, "served": {}}}, "one share per class"),
    ],
)
def test_damaged_postprocessing_is_refused(damaged: dict[str, Any], words: str) -> None:
    whole = {"temperature": None, "prevalence": None, "threshold": None}
    with pytest.raises(ValueError, match=words):
        read(whole | damaged)


def written(folder: Path, outputs: Any, method: str | None = None) -> Path:
    """Write a SavedModel with endpoints that return the given outputs."""
    module = tf.Module()
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    images = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
    examples = tf.TensorSpec([None], tf.string, name="inputs")
    module.from_bytes = tf.function(lambda image_bytes: outputs(), input_signature=[files])
    module.from_pixels = tf.function(lambda images: outputs(), input_signature=[images])
    module.classify = tf.function(
        lambda inputs: {"classes": tf.constant(["a"]), "scores": tf.constant([1.0])},
        input_signature=[examples],
    )
    signatures = {"serving_default": module.from_bytes, "pixels": module.from_pixels}
    if method is not None:
        signatures["classify"] = module.classify
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def faults(export: Path) -> dict[str, str]:
    return {finding.check: finding.detail for finding in check_endpoints(export) if not finding.ok}


def whole() -> dict[str, tf.Tensor]:
    names = tf.constant(["a"])
    return {"probabilities": tf.constant([1.0]), "predicted": names, "class_names": names}


def test_an_export_has_no_fault_in_its_endpoints(export: Path) -> None:
    findings = check_endpoints(export)
    assert [finding.check for finding in findings if finding.passed] == [
        "version folder", "endpoints", "types",
    ]  # fmt: skip
    assert "explain" in findings[1].detail


def test_what_tf_serving_cannot_serve_is_named(tmp_path: Path) -> None:
    half = written(tmp_path / "half", lambda: whole() | {"probabilities": tf.constant([1], tf.bfloat16)})
    details = faults(half)
    assert "probabilities of serving_default is bfloat16" in details["types"]
    assert "'half' is not a number" in details["version folder"]
    base64 = written(tmp_path / "1", lambda: whole() | {"label_bytes": tf.constant(["a"])})
    assert "label_bytes of pixels" in faults(base64)["endpoints"]
    unnamed = written(tmp_path / "2", lambda: {"output_0": tf.constant([1.0])})
    assert "does not return probabilities" in faults(unnamed)["endpoints"]
    as_predict = written(tmp_path / "3", whole, method="predict")
    assert "classify has the method tensorflow/serving/predict" in faults(as_predict)["endpoints"]
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"\xff\xff rubbish")
    assert "damaged" in faults(tmp_path / "3")["endpoints"]
