"""The suggestions for words of other tools, misspellings and parts of names: the right one, or none."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kerastl import recipe as recipes
from kerastl import registry
from kerastl.errors import Problems, nearest
from kerastl.options import hints
from kerastl.recipe.schema import Data, Recipe, Split

KEYS = {
    "top": hints(Recipe), "data": hints(Data), "split": hints(Split), "phase": hints(recipes.Phase),
    "columns": ["path", "label", "split", "group", "domain"],
    "monitor": ["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auc"],
    "optimizer": ["adam", "adamw", "sgd"], "task": ["single_label"], "weights": ["imagenet", "none"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("phase", "lr learning_rate"), ("phase", "LearningRate learning_rate"), ("phase", "epoch epochs"),
        ("phase", "freeze trainable"), ("phase", "patience early_stopping"), ("phase", "wd weight_decay"),
        ("phase", "loss"), ("phase", "crossentropy"), ("phase", "momentum"), ("phase", "weights"),
        ("data", "batchsize batch_size"), ("data", "bs batch_size"), ("data", "imagesize image_size_px"),
        ("data", "img_size image_size_px"), ("data", "test_size split"), ("data", "num_workers"),
        ("split", "validation_split val_fraction"), ("split", "test_size test_fraction"),
        ("top", "model backbone"), ("top", "sede seed"), ("top", "dataset data"), ("top", "val_fraction"),
        ("monitor", "val_acc val_accuracy"), ("monitor", "accuracy val_accuracy"), ("monitor", "auc val_auc"),
        ("optimizer", "Adam adam"), ("optimizer", "adma adam"), ("optimizer", "nadam"), ("optimizer", "rmsprop"),
        ("task", "multi_label"), ("weights", "imagenet21k"), ("columns", "filename path"),
        ("columns", "patient group"),
        ("reader", "csv table"), ("reader", "imagefolder folder"), ("format", "tflite litert"),
        ("format", "SavedModel saved_model"), ("format", "torchscript"),
        ("backbone", "resnet resnet50"), ("backbone", "vgg vgg16"), ("backbone", "EfficientNetB0 efficientnet_b0"),
        ("backbone", "efficientnet efficientnet_b0"), ("backbone", "inception inception_v3"),
        ("backbone", "MobileNetV2 mobilenet_v2"), ("backbone", "resnet18"), ("backbone", "efficientnet_b9"),
        ("backbone", "vit"), ("backbone", "resnet5O resnet50"), ("backbone", "vggl6 vgg16"), ("backbone", "ResNet1O1 resnet101"), ("backbone", "resent50 resnet50"),
        ("operation", "flip random_flip"), ("operation", "RandomFlip random_flip"), ("operation", "hue random_hue"),
        ("operation", "contrast random_contrast"), ("operation", "rotate random_rotation"),
        ("operation", "random_erasing random_cutout"), ("operation", "normalize"), ("operation", "noise"),
        ("mixing", "mixup mix_up"), ("mixing", "CutMix cut_mix"),
    ],
)  # fmt: skip
def test_the_hint_is_the_meant_name_or_none(place, expected):
    word, _, meant = expected.partition(" ")
    known = KEYS[place] if place in KEYS else registry.names(place)
    assert nearest(word, known) == (meant or None)


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_every_name_is_its_own_nearest_one(kind):
    assert all(nearest(name, registry.names(kind)) == name for name in registry.names(kind))


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("lr=1e-3", "phases[0].learning_rate"), ("batch_size=8", "data.batch_size"), ("epochs=3", "phases[0].epochs"),
        ("val_split=.1", "data.split.val_fraction"), ("dropout=.2", "head.dropout"), ("weights=none", "backbone.weights"),
    ],
)  # fmt: skip
def test_a_key_at_the_wrong_level_is_located(change, meant):
    with pytest.raises(Problems) as refused:
        recipes.check(recipes.find("quickstart").text, name="quickstart", sets=[change])
    (problem,) = refused.value.problems
    assert problem.message == f"unknown key. Did you mean '{meant}'?"


def test_a_mixing_operation_among_the_operations_is_located():
    with pytest.raises(Problems, match=r"'mix_up' is not an operation\. It is allowed in augment\.mixing\."):
        recipes.check(recipes.find("quickstart").text, name="quickstart", sets=["augment=[mixup]"])


NUMERIC = (
    "data.batch_size",
    "data.split.val_fraction",
    "phases[0].epochs",
    "phases[0].learning_rate",
    "seed",
    "head.dropout",
)


@settings(max_examples=20, deadline=None)
@example("data.split.val_fraction", "85")  # with test_fraction, no training images are left
@given(
    st.sampled_from([*NUMERIC, "data.image_size_px", "phases[0].trainable", "export.formats"]),
    st.one_of(
        st.sampled_from(["1e9", "1e3", "8.0", "'8'", "'1e9'", "100%", "100", "15%", "1_000", "\N{DEVANAGARI DIGIT THREE}", "[64, 64]", "[9, 9]", "0.3", "onnx"]),
        st.floats(-1e6, 1e6).map(str), st.integers(-10, 10**9).map(str), st.integers(-10, 200).map("{}%".format),
    ),
)  # fmt: skip
def test_a_suggested_value_is_valid(key, value):
    def problems(change):
        sets = ["data.reader.path=x", "task=unknown", change]
        with pytest.raises(Problems) as refused:
            recipes.check(recipes.find("folder-classifier").text, name="x", sets=sets)
        return [problem.message for problem in refused.value.problems if problem.where != "--set task"]

    for message in problems(f"{key}={value}"):
        if suggested := re.search(r"(?:[Uu]se|quotes:) ([^ ]+|\[.*\]|\{.*\})\.?$", message):
            assert not problems(f"{key}={suggested[1].rstrip('.')}"), message


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("data.batch_size=1e3", "Use 1000."), ("data.batch_size=\N{DEVANAGARI DIGIT THREE}", "Use 3."),
        ("phases[0].trainable=0.3", "Use {top_fraction: 0.3}."), ("export.formats=onnx", "Use [onnx]."),
        ("export.formats=tflite", "Did you mean 'litert'?"), ("head.dropout=50", "For 50%, use 0.5."),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_form_gets_a_correct_suggestion(change, hint):
    with pytest.raises(Problems) as refused:
        recipes.check(recipes.find("folder-classifier").text, name="x", sets=["data.reader.path=x", change])
    assert refused.value.problems[0].message.endswith(hint)


@pytest.mark.parametrize(
    ("changes", "hints"),
    [
        (["data.split.val_fraction=85"], [""]),
        (["data.split.val_fraction=84"], [" For 84%, use 0.84."]),
        (["data.split.val_fraction=85", "data.split.test_fraction=15%"], ["", ""]),
        (["data.split.val_fraction=85%", "data.split.test_fraction=0.1"], [" For 85%, use 0.85."]),
        (["phases[0].trainable=0.3", "backbone.weights=none"], [""]),
        (["phases[0].trainable=0.3"], [" Use {top_fraction: 0.3}."]),
    ],
)  # fmt: skip
def test_a_value_is_not_suggested_if_another_value_contradicts_it(changes, hints):
    with pytest.raises(Problems) as refused:
        recipes.check(recipes.find("folder-classifier").text, name="x", sets=["data.reader.path=x", *changes])
    assert [re.split(r"got [^ ]+\.(?= |$)", str(problem))[-1] for problem in refused.value.problems] == hints


def test_a_python_option_is_not_suggested_if_another_one_contradicts_it():
    with pytest.raises(Problems, match=r"got 85\.$"):
        Split(val_fraction=85)
    with pytest.raises(Problems, match=r"use 0\.85\.$"):
        Split(val_fraction=85, test_fraction=0.1)
