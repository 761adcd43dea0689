"""Which rows of an initial head are kept, and how it is reported."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerastl.models import InitialHead, copy_head_rows, read_imagenet_head
from kerastl.recipe.schema import Head
from kerastl.workflows import build_initial_model

FEATURES = 4


def start(class_names, wordnet_ids=()):
    """Return a head in which all values of row `i` are `i`."""
    numbers = np.arange(len(class_names), dtype=np.float32)
    return InitialHead(
        class_names, np.tile(numbers, (FEATURES, 1)), numbers, Path("model.keras"), wordnet_ids
    )


def carried_rows(class_names, start_names, start_ids=()):
    """Return the report, and the initial row of each class (None for a new row)."""
    inputs = keras.Input((FEATURES,))
    dense = keras.layers.Dense(len(class_names), name="head", bias_initializer="ones")
    model = keras.Model(inputs, dense(inputs))
    dense.bias.assign(np.full(len(class_names), -1.0))
    report = copy_head_rows(model, class_names, start(start_names, start_ids))
    kernel, bias = dense.get_weights()
    rows = [None if value < 0 else int(value) for value in bias]
    for column, row in enumerate(rows):
        if row is not None:
            assert (kernel[:, column] == row).all()
    return report, rows


def test_equal_classes_in_another_order_and_spelling_keep_the_head():
    report, rows = carried_rows(["Tree Frog", "newt"], ["newt", "tree_frog"])
    assert (report.outcome, rows) == ("kept", [1, 0])
    assert report.message == "head kept: same classes"


def test_subset_of_the_classes_replaces_the_head():
    report, rows = carried_rows(["a", "c"], ["a", "b", "c"])
    assert (report.outcome, rows, report.carried) == ("partly_kept", [0, 2], ("a", "c"))
    assert "all 2 classes copied from a head of 3" in report.message


def test_new_classes_keep_their_own_rows():
    report, rows = carried_rows(["a", "x"], ["a", "b"])
    assert (report.outcome, rows) == ("partly_kept", [0, None])
    assert carried_rows(["x", "y"], ["a", "b"])[0].outcome == "replaced"


def test_ambiguous_name_needs_an_id():
    names, ids = ["crane", "Crane", "newt"], ["n1", "n2", "n3"]
    report, rows = carried_rows(["crane", "newt"], names, ids)
    assert (report.outcome, rows) == ("partly_kept", [None, 2])
    assert "crane: two classes" in report.message
    assert "WordNet id" in report.message
    assert carried_rows(["n2", "n1"], names, ids)[1] == [1, 0]


def test_two_names_of_one_class_do_not_count_as_two_classes():
    report, _ = carried_rows(["newt", "n2"], ["frog", "newt"], ["n1", "n2"])
    assert report.outcome == "partly_kept"


def test_only_unique_imagenet_names_keep_their_rows(keras_home):
    known = read_imagenet_head("mobilenet", alpha=0.25, image_size_px=128)
    spellings = [name.lower().replace("-", "_") for name in known.class_names]
    double = {name for name in spellings if spellings.count(name) > 1}
    assert {"crane", "maillot"} <= double
    class_names = [*sorted(double), "tench", "n03126707"]
    report, rows = carried_rows(class_names, known.class_names, known.wordnet_ids)
    assert rows[:-2] == [None] * len(double)
    assert rows[-2] == 0
    assert known.class_names[rows[-1]] == "crane"
    assert report.carried == ("tench", "n03126707")


def test_another_number_of_features_is_rejected():
    inputs = keras.Input((FEATURES + 1,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs))
    with pytest.raises(ValueError, match="has 4 input features, but this head has 5"):
        copy_head_rows(model, ["a", "b"], start(["a", "b"]))


def started(weights):
    """Build the initial model of a recipe with MobileNet at 128 px."""
    recipe = SimpleNamespace(
        seed=1,
        export=SimpleNamespace(formats=()),
        data=SimpleNamespace(window="auto", resize="stretch"),
        head=Head(),
        backbone=SimpleNamespace(name="mobilenet", weights=weights, family_options={"alpha": 0.25}),
    )
    images = SimpleNamespace(image_size_px=128, class_names=("tench", "own"), window=None, resize="stretch")
    return recipe, images


@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_initial_model_lists_every_file_it_read(keras_home, weights):
    recipe, images = started(weights)
    initial = build_initial_model(recipe, images)
    files = {"file": "mobilenet_2_5_128_tf_no_top.h5", "head_file": "mobilenet_2_5_128_tf.h5"}
    hashes = {"file": "sha256", "head_file": "head_sha256"}
    for key, file in files.items():
        content = (keras_home / "models" / file).read_bytes()
        wanted = (file, hashlib.sha256(content).hexdigest())
        hashes_read = (initial.weights[key], initial.weights[hashes[key]])
        assert hashes_read == (wanted if weights == "imagenet" else (None, None))
