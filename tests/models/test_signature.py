"""A classifier stores its class names and window in any file, and is checked against the data."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from kerastl.errors import Problems
from kerastl.models import check_classifier, read_signature, write_signature

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=3, unique=True)
WINDOW = st.none() | st.tuples(st.floats(0, 100), st.floats(200, 65535))


def head(*last, outputs=3):
    """Return a model of 8 px images that ends in the given layers."""
    steps = [layers.GlobalAveragePooling2D(), *(last or [layers.Dense(outputs)])]
    return keras.Sequential([keras.Input((8, 8, 3)), *steps])


def functional(function):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, function(layers.GlobalAveragePooling2D()(inputs)))


@given(names=NAMES, window=WINDOW)
@settings(max_examples=10, deadline=None)
def test_a_plain_keras_file_keeps_the_signature_and_the_outputs(tmp_path_factory, names, window):
    model = head()
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    write_signature(model, class_names=names)
    write_signature(model, window=window)
    for kind in (".keras", ".h5"):
        path = tmp_path_factory.mktemp("saved") / f"model{kind}"
        model.save(path)
        loaded = keras.saving.load_model(path)
        assert read_signature(loaded) == {"class_names": tuple(names), "window": window}
        np.testing.assert_array_equal(np.asarray(loaded(images)), expected)


def test_a_copy_and_an_enclosing_model_keep_the_signature_and_a_new_head_does_not():
    model = head()
    write_signature(model, class_names=("a", "b", "c"))
    kept = {"class_names": ("a", "b", "c")}
    assert read_signature(keras.models.clone_model(model)) == kept
    assert read_signature(keras.Sequential([keras.Input((8, 8, 3)), model])) == kept
    assert read_signature(keras.Model(model.inputs, layers.Dense(3)(model.layers[-2].output))) == {}
    assert read_signature(head()) == {}


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_a_model_with_a_signature_trains_and_is_quantized_by_keras():
    model = head()
    write_signature(model, class_names=("a", "b", "c"))
    model.compile("sgd", "mse")
    model.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 3)), verbose=0)
    model.quantize("int8")
    assert read_signature(model) == {"class_names": ("a", "b", "c")}


@pytest.mark.parametrize("text", ["", "{", "3", '{"layer": 3}', '{"class_names": [1]}', "[" * 2000])
def test_a_damaged_signature_is_ignored(text):
    model = head()
    policy = keras.DTypePolicy("float32")
    model.layers[-2]._dtype_policy = keras.dtype_policies.DTypePolicyMap(policy, {f"kerastl:{text}": policy})
    assert read_signature(model) == {}


def refusal(model, **options):
    with pytest.raises(Problems) as error:
        check_classifier(model, is_probed=True, **options)
    return str(error.value)


@pytest.mark.parametrize(
    "model",
    [
        head(layers.Dense(3, activation="softmax")),
        head(layers.Dense(3, activation="sigmoid")),
        head(layers.Dense(3), layers.Softmax()),
        head(layers.Dense(3), layers.Activation("softmax", dtype="float32")),
        head(layers.Dense(3, activation="softmax"), layers.Identity(), layers.Dropout(0.1)),
        head(layers.Dense(3), layers.Lambda(lambda logits: keras.ops.softmax(logits))),
        head(keras.Sequential([keras.Input((3,)), layers.Dense(3, activation="softmax")])),
        functional(lambda features: keras.ops.softmax(layers.Dense(3)(features))),
        functional(lambda features: keras.ops.cast(keras.ops.sigmoid(layers.Dense(3)(features)), "float32")),
        functional(
            lambda features: layers.Average()([layers.Dense(3, activation="softmax")(features) for _ in "ab"])
        ),
    ],
)
def test_probabilities_are_recognized_and_refused(model):
    assert "returns probabilities" in refusal(model, class_names=["a", "b", "c"])


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(3)],
        [layers.Dense(3), layers.BatchNormalization()],
        [layers.Dense(3, activation="tanh")],
        [layers.Dense(3), layers.Activation("log_softmax")],
        [layers.Dense(3), layers.Lambda(lambda logits: logits * 2)],
    ],
)
def test_logits_are_accepted(last):
    check_classifier(head(*last), class_names=["a", "b", "c"], image_size_px=8, is_probed=True)


def test_a_mixed_precision_softmax_is_recognized():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = head(layers.Dense(3), layers.Lambda(lambda logits: keras.ops.softmax(logits)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert "returns probabilities" in refusal(model)


@pytest.mark.parametrize(
    "names", [("c", "b", "a"), ("a", "b"), ("A", "b", "c"), ("a", "b", "c", "d"), ("a", "b", "x")]
)
def test_other_class_names_are_refused_with_both_lists(names):
    model = head()
    write_signature(model, class_names=("a", "b", "c"))
    message = refusal(model, class_names=names)
    assert "['a', 'b', 'c']" in message
    assert str(list(names)) in message


def test_other_sizes_and_numbers_of_classes_are_refused_together():
    message = refusal(head(), class_names=["a", "b"], image_size_px=96)
    assert message.startswith("The model has 2 problems.")
    assert "takes images of 8 x 8 px, but the data has images of 96 x 96 px" in message
    assert "3 outputs, but there are 2 classes: ['a', 'b']" in message


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (head(layers.Dense(1)), "2 outputs, but there are 3 classes"),
        (head(layers.Dense(1, activation="sigmoid")), "returns probabilities"),
        (
            keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)]),
            r"got \[None, 8, 8, 1\]",
        ),
        (keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1)]), r"got \[None, 8, 8, 3\]"),
        (keras.Sequential([layers.Flatten(), layers.Dense(3)]), "no fixed image size"),
        (
            functional(lambda features: {name: layers.Dense(3)(features) for name in ("logits", "aux")}),
            r"one output tensor.*model\(image\)\['logits'\]",
        ),
        (functional(lambda features: [layers.Dense(3)(features)] * 2), "one output tensor"),
        ("model.keras", "load_model"),
        (None, "keras.Model"),
    ],
)
def test_models_of_another_form_are_refused(model, message):
    with pytest.raises(Problems, match=message):
        check_classifier(model, class_names=["a", "b", "c"])


def test_a_single_logit_is_that_of_the_second_class():
    single = head(layers.Dense(1))
    both = check_classifier(single, class_names=["a", "b"], is_probed=True)
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    expected = 1 / (1 + np.exp(-np.asarray(single(images))[:, 0]))
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(both(images)))[:, 1], expected, rtol=1e-5)
