"""Warm-up requests, replayed as TensorFlow Serving does."""

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.export.serving_files import synthetic_image, write_warm_up
from tests.export.conftest import MAX_PIXELS, SIZE

FILE = "assets.extra/tf_serving_warmup_requests"


def read(folder):
    records = tf.data.TFRecordDataset(str(folder / FILE))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]


def test_the_loaded_model_runs_every_request(export, loaded):
    logs = read(export)
    batch_sizes = {}
    assert 0 < len(logs) <= 1000
    for log in logs:
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        name = request.model_spec.signature_name
        assert request.model_spec.name == "kerastl"
        if kind == "classify_log":
            examples = [example.SerializeToString() for example in request.input.example_list.examples]
            tensors = {"inputs": tf.constant(examples)}
        else:
            tensors = {key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
        answers = loaded.signatures[name](**tensors)
        (taken,) = tensors.values()
        assert {output.shape[0] for output in answers.values()} == {taken.shape[0]}
        for output in answers.values():
            assert output.dtype == tf.string or np.isfinite(output.numpy()).all()
        batch_sizes.setdefault(name, []).append(int(taken.shape[0]))
    assert set(batch_sizes) == set(loaded.signatures)
    assert batch_sizes["serving_default"] == [1, 2, 4, 8, 16, 32]
    assert set(batch_sizes) >= {"classify", "explain", "features", "pixels"}
    assert all(sizes == [1] for name, sizes in batch_sizes.items() if name != "serving_default")


def test_classify_is_warmed_up_with_an_example_that_contains_the_image(tmp_path):
    served = tf.Module()
    spec = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs):
        encoded = tf.io.parse_example(inputs, spec)["image/encoded"]
        return {"scores": tf.strings.length(encoded)}

    served.classify = classify
    tf.saved_model.save(served, str(tmp_path), signatures={"classify": classify})
    write_warm_up(tmp_path, image_size_px=(SIZE, SIZE), max_pixels=MAX_PIXELS)
    (log,) = read(tmp_path)
    (example,) = log.classify_log.request.input.example_list.examples
    answered = tf.saved_model.load(str(tmp_path)).signatures["classify"](
        tf.constant([example.SerializeToString()])
    )
    assert answered["scores"].numpy().tolist() == [len(synthetic_image((SIZE, SIZE)))]


def test_the_synthetic_image_has_the_given_size_and_is_small():
    image = tf.io.decode_png(synthetic_image((224, 224)))
    assert image.shape == (224, 224, 3)
    assert len(synthetic_image((224, 224))) < 20_000
    assert synthetic_image((224, 224)) == synthetic_image((224, 224))
    assert tf.io.decode_png(synthetic_image((1, 1))).shape == (1, 1, 3)


def test_images_do_not_exceed_max_pixels(tmp_path):
    class ServedModel(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def answer(self, image_bytes):
            return {"length": tf.strings.length(image_bytes)}

    served = ServedModel()
    tf.saved_model.save(served, str(tmp_path), signatures={"serving_default": served.answer})
    write_warm_up(tmp_path, image_size_px=(30, 30), max_pixels=100)
    image = read(tmp_path)[0].predict_log.request.inputs["image_bytes"].string_val[0]
    assert tf.io.decode_png(image).shape == (10, 10, 3)
    before = (tmp_path / FILE).read_bytes()
    write_warm_up(tmp_path, image_size_px=(30, 30), max_pixels=100)
    assert (tmp_path / FILE).read_bytes() == before


def test_the_file_is_small_for_large_images(export):
    assert (export / FILE).stat().st_size < 100_000
