"""Wrong arguments of the Python API are refused with all problems at once, never with an error of a library."""

import math
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kerastl
from kerastl import training
from kerastl.callbacks import BatchNormPolicy, TimeBudget, UnfreezeSchedule
from kerastl.data.decode import load_image
from kerastl.errors import Problems, RequestError, recipe_syntax
from kerastl.models import read_signature

PHASES = [kerastl.Phase("head", epochs=1)]
EMPTY = kerastl.Collection(None, ("cat", "dog"), ())
RECORDS = [kerastl.data.Record(f"{name}.png", Path("nowhere"), name) for name in ("cat", "dog")]
WRONG = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(allow_nan=True), st.integers(-3, 3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.just(np.zeros(3)), st.just(object), st.just(keras.optimizers.SGD()),
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return kerastl.build_classifier("small_cnn", weights="none", class_names=["cat", "dog"], image_size_px=16)


CALLS = {
    "read_images": lambda value, model: kerastl.read_images(value),
    "split": lambda value, model: EMPTY.split(val_fraction=value, test_fraction=0.2, seed=1),
    "seed of split": lambda value, model: EMPTY.split(val_fraction=0.1, test_fraction=0.2, seed=value),
    "records": lambda value, model: kerastl.ImageDataset(value, image_size_px=16),
    "image size": lambda value, model: kerastl.ImageDataset(EMPTY, image_size_px=[value]),
    "window": lambda value, model: kerastl.ImageDataset(EMPTY, image_size_px=16, window=[value]),
    "class names": lambda value, model: kerastl.ImageDataset(RECORDS, class_names=value, image_size_px=16),
    "backbone": lambda value, model: kerastl.build_classifier(value, class_names=["cat", "dog"]),
    "weights": lambda value, model: kerastl.build_classifier(
        "small_cnn", weights=[value], class_names=["a", "b"]
    ),
    "model": lambda value, model: kerastl.fit(value, EMPTY),
    "train": lambda value, model: kerastl.fit(model, value),
    "phases": lambda value, model: kerastl.fit(model, EMPTY, phases=[value]),
    "phases of training": lambda value, model: training.fit(value, {}, phases=PHASES),
    "test": lambda value, model: kerastl.evaluate(model, value),
    "resamples": lambda value, model: kerastl.evaluate(model, EMPTY, resamples=value),
    "exported model": lambda value, model: kerastl.export_model(value, "served"),
    "exported names": lambda value, model: kerastl.export_model(model, "served", class_names=[value]),
    "version": lambda value, model: kerastl.export_model(model, "served", version=[value]),
    "recipe": lambda value, model: kerastl.run([value]),
    "sets": lambda value, model: kerastl.run("folder-classifier", sets=[value]),
    "load_run": lambda value, model: kerastl.load_run(value),
    "policy": lambda value, model: kerastl.Policy([value], image_size_px=16),
    "size of policy": lambda value, model: kerastl.Policy([], image_size_px=[value]),
    "schedule": lambda value, model: UnfreezeSchedule({0: [value]}),
    "rule": lambda value, model: BatchNormPolicy([value]),
    "budget": lambda value, model: TimeBudget(1, value),
    "phases of the loop": lambda value, model: training.fit(model, {}, phases=[value]),
    "epoch": lambda value, model: images().batches([value]),
    "shard": lambda value, model: images().batches(0, shard=[value]),
    "encoded image": lambda value, model: load_image(value, image_size_px=16),
    "phase of an estimate": lambda value, model: training.estimate_memory(model, value, images()),
    "callbacks": lambda value, model: kerastl.fit(model, EMPTY, phases=PHASES, callbacks=[value]),
    "strategy": lambda value, model: kerastl.fit(model, EMPTY, phases=PHASES, strategy=[value]),
    "step": lambda value, model: kerastl.fit(model, EMPTY, phases=PHASES, step_for=[value]),
    "predicted images": lambda value, model: kerastl.evaluation.predict(model, value),
    "predictions": lambda value, model: kerastl.evaluation.score(value),
    "layers": lambda value, model: training.unfreeze(model, [value]),
    "model to unfreeze": lambda value, model: training.unfreeze(value),
    "images of the finder": lambda value, model: training.find_learning_rate(model, value, phase=PHASES[0]),
    "run of a model": lambda value, model: kerastl.evaluation.load_trained([value]),
    "comparison": lambda value, model: kerastl.evaluation.paired_difference(value, value),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@given(value=WRONG)
@settings(max_examples=12, deadline=None)
def test_any_invalid_argument_is_rejected(model, tmp_path_factory, name, value):
    with pytest.raises(RequestError) as error:
        CALLS[name](value, model)
    assert str(error.value)


def problems_of(function, *args, **options):
    with pytest.raises(Problems) as error:
        function(*args, **options)
    return {problem.where: problem.message for problem in error.value.problems}


def test_build_classifier_reports_all_problems_with_the_nearest_names():
    problems = problems_of(
        kerastl.build_classifier, "mobilnet_v2", class_names=["a", "a"], image_size_px=8, weights="imagnet",
        dropout=math.nan, seed=-1,
    )  # fmt: skip
    assert set(problems) == {"backbone", "class_names", "image_size_px", "weights", "dropout", "seed"}
    assert problems["backbone"].endswith("Did you mean 'mobilenet_v2'?")
    assert problems["weights"].endswith("Did you mean 'imagenet'?")
    assert "alpa" in problems_of(kerastl.build_classifier, "mobilenet_v2", class_names=["a", "b"], alpa=1)


@pytest.mark.parametrize("backbone", [3, None, keras.layers.Dense(3), keras.Sequential])
def test_a_backbone_that_is_neither_a_name_nor_a_model_is_refused_with_the_accepted_kinds(backbone):
    problems = problems_of(kerastl.build_classifier, backbone, class_names=["a"])
    assert (
        "'keras_hub/' followed by a preset, the path of a '.keras' file, a keras.Model"
        in problems["backbone"]
    )
    assert "two different names" in problems["class_names"]


def test_a_dataset_reports_all_problems():
    problems = problems_of(
        kerastl.ImageDataset, EMPTY, image_size_px="160", batch_size=0, window="atuo", cache="memry", seed=None
    )  # fmt: skip
    assert set(problems) == {"image_size_px", "batch_size", "window", "cache", "seed"}
    assert "Did you mean 'auto'?" in problems["window"]
    assert "low < high" in problems_of(kerastl.ImageDataset, EMPTY, image_size_px=16, window=(9, 3))["window"]


def test_labels_that_are_not_classes_are_rejected_instead_of_ignored():
    problems = problems_of(kerastl.ImageDataset, RECORDS, class_names=["cat"], image_size_px=16)
    assert problems["records"] == "1 image of class 'dog', which is not in ['cat']."


def test_keras_options_suggest_the_options_of_a_phase(model):
    problems = problems_of(
        kerastl.fit, model, EMPTY, epochs=3, optimizer="adam", callback=[], phases=[*PHASES, *PHASES]
    )  # fmt: skip
    assert "option of a phase" in problems["epochs"]
    assert "option of a phase" in problems["optimizer"]
    assert problems["callback"] == "unknown argument. Did you mean 'callbacks'?"
    assert "already the name" in problems["phases[1].name"]


def test_an_argument_that_the_call_sets_itself_is_unknown(model, tmp_path):
    assert "validation_data" in problems_of(kerastl.fit, model, EMPTY, val=EMPTY)["val"]
    assert "predictions" in problems_of(kerastl.evaluate, model, EMPTY, predictions=None)
    assert "image_size_px" in problems_of(kerastl.export_model, model, tmp_path, image_size_px=16)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: EMPTY.split(val_frac=0.1, test_fraction=0.2, seed=1), "val_fraction"),
        (lambda: EMPTY.split(0.2, 0.2, random_state=1), "seed"),
        (lambda: kerastl.data.split_target(EMPTY, label="none", seed=1), "labels"),
        (lambda: kerastl.ImageDataset(EMPTY, image_size=16), "image_size_px"),
        (lambda: kerastl.ImageDataset(EMPTY, image_size_px=16, augmentation="light"), "augment"),
        (lambda: kerastl.run("folder-classifier", dataset="photos"), "data"),
    ],
)
def test_a_misspelled_argument_is_a_type_error_with_the_nearest_name(call, name):
    with pytest.raises(TypeError, match=rf"has no argument '\w+'\. Did you mean '{name}'\?"):
        call()


def test_numbers_of_numpy_are_accepted():
    phase = kerastl.Phase("head", epochs=np.int64(3), learning_rate=np.float64(0.1))
    assert phase == kerastl.Phase("head", epochs=3, learning_rate=0.1)
    assert kerastl.ImageDataset(EMPTY, image_size_px=np.int32(16)).image_size_px == (16, 16)


OWN = kerastl.Collection(None, ("cat", "dog"), tuple(RECORDS))


def refusal(function, *args, **options):
    with pytest.raises(RequestError) as error:
        function(*args, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kerastl.Phase("a", 1, weight_decay=0.1), "Set optimizer='adamw' to use weight decay."),
        (
            lambda: kerastl.Phase("a", 1, batch_norm="foo"),
            "'frozen', 'statistics', 'trainable' or None, got 'foo'",
        ),
        (lambda: kerastl.Phase("a", 1, foo=1), "foo: unknown argument."),
        (lambda: kerastl.Phase("a", 1, class_weights={0: 2}), "got {0: 2}"),
        (
            lambda: kerastl.ImageDataset(EMPTY, image_size_px=8, shuffle=1),
            "shuffle: must be True or False, got 1.",
        ),
        (lambda: kerastl.build_classifier("small_cnn", class_names=["a", "b"]), "Use `weights=None`, a file"),
    ],
)
def test_python_is_answered_with_python(call, message):
    assert message in refusal(call)


def test_the_phases_of_training_are_answered_with_python_and_those_of_a_recipe_with_a_recipe(model):
    train = kerastl.ImageDataset(OWN, image_size_px=16)
    phase = kerastl.Phase("a", 1, trainable="all", batch_norm="frozen", cache="features")
    message = refusal(training.fit, model, train, phases=[phase])
    assert "cache='features' stores the inputs of the head" in message
    assert "Use trainable='none', or cache='boundary'." in message
    with recipe_syntax():
        message = refusal(training.fit, model, train, phases=[phase])
    assert "Use trainable: none, or cache: boundary." in message


def test_none_is_a_value_where_a_recipe_has_the_word_none():
    names = np.array(["cat", "dog"])
    model = kerastl.build_classifier("small_cnn", weights=None, class_names=names, image_size_px=16)
    assert read_signature(model)["class_names"] == ("cat", "dog")
    assert kerastl.Phase("a", 1, class_weights=None, cache=None) == kerastl.Phase("a", 1, cache="none")


def images(**options):
    return kerastl.ImageDataset(OWN, image_size_px=16, **options)


@pytest.mark.parametrize(
    ("train", "val", "phase", "message"),
    [
        (
            {},
            {"augment": "light"},
            {},
            "augment= is set for validation images, but only training images may be changed",
        ),
        ({}, {"drop_remainder": True, "batch_size": 1}, {}, "Use drop_remainder=False."),
        ({"drop_remainder": True}, {}, {}, "2 training images are fewer than one batch of 32"),
        ({}, {}, {"rates": {"block_9": 0.1}}, "rates: unknown block 'block_9'."),
    ],
)
def test_training_that_would_ignore_a_setting_or_images_is_refused(model, train, val, phase, message):
    phases = [kerastl.Phase("a", 1, trainable="all", **phase)]
    assert message in refusal(training.fit, model, images(**train), val=images(**val), phases=phases)


def test_a_policy_of_another_image_size_is_refused_and_an_empty_one_changes_nothing():
    policy = kerastl.Policy(["random_flip"], image_size_px=32)
    assert "Use image_size_px=32" in refusal(images, augment=policy)
    assert not images(augment="none").augmented


def test_options_of_a_score_have_the_ranges_of_a_recipe():
    problems = problems_of(kerastl.evaluation.score, None, level=95, specificity=90, seed=-1)
    assert set(problems) == {"predictions", "level", "specificity", "seed"}
    assert "For 95%, use 0.95." in problems["level"]


def test_words_for_identity_are_checked():
    options = {"class_names": ["a", "b"], "weights": "none", "image_size_px": 16}
    assert (
        "'exact'"
        in problems_of(kerastl.build_classifier, "small_cnn", identity="Exact", **options)["identity"]
    )


@pytest.mark.parametrize("shard", [(3, 2), (0, 0), (2, 2), (-1, 2)])
def test_a_shard_is_one_of_its_number(shard):
    assert "shard" in refusal(images().batches, 0, shard=shard)


@pytest.mark.parametrize(
    "augment",
    [
        lambda images: images,
        lambda images, seeds: None,
        lambda images, seeds: images.numpy(),
        lambda images, seeds: (images, seeds),
        lambda images, seeds: images[:, :8],
        lambda images, seeds: tf.cast(images, tf.uint8),
        keras.layers.RandomFlip(),
    ],
)
@pytest.mark.parametrize("placement", ["host", "device"])
def test_an_augmentation_that_does_not_return_the_images_is_refused(augment, placement):
    dataset = images(augment=augment, placement=placement)
    batch = tf.zeros([2, 16, 16, 3]), tf.constant([0, 1]), tf.constant([0, 1], tf.int64)
    message = refusal(dataset.finish, *batch, tf.constant(0, tf.int64))
    assert message.startswith("augment: the function does not return (2, 16, 16, 3) float32. ")


@pytest.mark.parametrize(
    "mix",
    [
        lambda images, labels: (images, labels),
        lambda images, labels, seeds: images,
        lambda images, labels, seeds: (images, labels),
        lambda images, labels, seeds: (images, tf.one_hot(labels, 3)),
    ],
)
def test_a_mixing_that_does_not_return_images_and_shares_is_refused(mix):
    assert "mix: the function does not return" in refusal(images(mix=mix).batches, 0)


def test_a_random_backbone_is_not_frozen_before_it_is_trained(model, monkeypatch):
    trained = []
    monkeypatch.setattr("kerastl.workflows.classifier.fit_phases", lambda *args, **options: trained.append(1))
    frozen, whole = kerastl.Phase("head", 1), kerastl.Phase("all", 1, trainable="all")
    for phases in ((), [frozen], [kerastl.Phase("top", 1, trainable={"top_fraction": 0.5}), whole]):
        problems = problems_of(kerastl.fit, model, images(), phases=phases)
        assert problems["phases[0].trainable"].startswith(
            "must be 'all', because the backbone has initial weights"
        )
    statistics = kerastl.Phase("all", 1, trainable="all", batch_norm="frozen")
    assert "batch_norm='trainable'" in refusal(kerastl.fit, model, images(), phases=[statistics])
    kerastl.fit(model, images(), phases=[whole, frozen])
    pretrained = keras.models.clone_model(model)
    pretrained.get_layer("block_1_bn").moving_mean.assign([0.5] * 32)
    kerastl.fit(pretrained, images(), phases=[frozen])
    assert len(trained) == 2


class Noise(keras.layers.Layer):
    """A layer that is random in inference mode."""

    def call(self, features):
        return features + keras.random.normal(keras.ops.shape(features))


@pytest.mark.parametrize("value", [math.nan, math.inf, "random"])
def test_a_model_with_random_or_infinite_outputs_is_not_scored_or_exported(tmp_path, value):
    features = keras.layers.Flatten()(image := keras.Input((16, 16, 3)))
    head = keras.layers.Dense(2)
    own = keras.Model(image, head(Noise()(features) if value == "random" else features))
    head.bias.assign([0.0, 0.0 if value == "random" else value])
    expected = "different outputs" if value == "random" else "NaN or infinity"
    assert expected in refusal(kerastl.export_model, own, tmp_path / "served", class_names=["cat", "dog"])
    assert expected in refusal(kerastl.evaluate, own, images())
    assert not (tmp_path / "served").exists()


def test_weights_with_nan_are_refused(model, tmp_path):
    broken = keras.models.clone_model(model)
    broken.get_layer("block_2_conv").kernel.assign(np.full((3, 3, 32, 64), np.nan))
    broken.save(tmp_path / "broken.keras")
    options = {"class_names": ["cat", "dog"], "image_size_px": 16}
    message = refusal(kerastl.build_classifier, "small_cnn", weights=tmp_path / "broken.keras", **options)
    assert message.endswith("broken.keras has NaN or infinite weights. Use another file.")


class Table(types.SimpleNamespace):
    """Like a data frame: no truth value, and a text with all rows."""

    def __bool__(self):
        raise ValueError("ambiguous")

    def __eq__(self, other):
        raise ValueError("ambiguous")

    __hash__ = None

    def __repr__(self):
        return "patient\nSmith"


@pytest.mark.parametrize(
    "name", ["records", "train", "test", "predicted images", "predictions", "comparison"]
)
def test_a_table_is_refused_without_its_rows(model, name):
    for value in (Table(), [Table()], {"a": Table()}):
        assert "Smith" not in refusal(CALLS[name], value, model)


def test_errors_name_the_function_and_its_arguments(model, tmp_path):
    assert refusal(kerastl.read_images, tmp_path, class_levl=1).startswith("The folder has 1 problem.")
    (tmp_path / "file").touch()
    names = {"class_names": ["cat", "dog"]}
    assert refusal(kerastl.export_model, model, tmp_path / "file", **names).endswith("another: out=DIR")


@pytest.mark.parametrize(
    "size", [[16], [16, 16, 3], [0, 16], "16x16", True, (16.0, 16), [[16, 16]], (16, 4097)], ids=str
)
@pytest.mark.parametrize(
    "call",
    [
        lambda size: kerastl.ImageDataset(EMPTY, image_size_px=size),
        lambda size: kerastl.build_classifier("small_cnn", class_names=["a", "b"], image_size_px=size, weights=None),
        lambda size: kerastl.Policy([], image_size_px=size),
    ],
)  # fmt: skip
def test_an_image_size_is_a_side_length_or_height_and_width(call, size):
    with pytest.raises(Problems) as refused:
        call(size)
    assert {problem.where.partition("[")[0] for problem in refused.value.problems} == {"image_size_px"}


def test_height_and_width_reach_model_dataset_and_policy():
    model = kerastl.build_classifier(
        "small_cnn", class_names=["a", "b"], image_size_px=[16, 40], weights=None
    )
    assert model.input_shape == (None, 16, 40, 3)
    dataset = kerastl.ImageDataset(EMPTY, image_size_px=(16, 40), augment="light")
    assert dataset.image_size_px == (16, 40)
    assert "16 x 40 px (height x width)" in repr(dataset)
    policy = kerastl.Policy(["random_flip"], image_size_px=(16, 40))
    with pytest.raises(RequestError, match=r"image_size_px=\(16, 40\)"):
        kerastl.ImageDataset(EMPTY, image_size_px=(40, 16), augment=policy)
