"""A `Phase` accepts the same options as a recipe, and reports all invalid ones in one error."""

import math
import pickle

import keras
import numpy as np
import pytest

from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError
from kerastl.recipe import FromBlock, LayerNames, Phase, TopFraction
from kerastl.training import History, resolve_batch_norm
from kerastl.training.loop import classification_step


def problems_of(**options):
    """Return the lines of the error by option."""
    with pytest.raises(RequestError) as error:
        Phase(**({"name": "head", "epochs": 5} | options))
    first, *lines = str(error.value).splitlines()
    assert first == f"Phase {options.get('name', 'head')!r} has {len(lines)} problem{'s'[: len(lines) > 1]}."
    return [tuple(line.strip().split(": ", 1)) for line in lines]


def test_all_problems_are_reported_at_once():
    wrong = {
        "optimizer": "rmsprop", "class_weights": {0: 1, 3: 50}, "monitor": "val_acc",
        "schedule": "linear", "keep": "x", "batch_norm": "foo", "learning_rat": 0.1,
    }  # fmt: skip
    problems = dict(problems_of(**wrong))
    assert set(problems) == set(wrong)
    assert problems["optimizer"] == (
        "must be 'adam', 'adamw' or 'sgd', or an instance such as keras.optimizers.Lion(learning_rate=1e-3), got 'rmsprop'."
    )
    assert problems["monitor"].endswith("got 'val_acc'. Did you mean 'val_accuracy'?")
    assert problems["learning_rat"] == "unknown argument. Did you mean 'learning_rate'?"
    assert problems["class_weights"].startswith("must be 'none', 'balanced' or a mapping from names")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "two words"), ("epochs", 0), ("epochs", True), ("epochs", "3"), ("epochs", 2.5),
        ("learning_rate", 0.0), ("learning_rate", 11), ("learning_rate", math.nan),
        ("learning_rate", "1e-3"), ("optimizer", keras.optimizers.RMSprop), ("trainable", "some"),
        ("trainable", {"top": 0.3}), ("warmup_epochs", -1), ("label_smoothing", 1.0),
        ("class_weights", {"cat": -1.0}), ("class_weights", {"cat": math.inf}), ("class_weights", {}),
        ("early_stopping", 0), ("clip_norm", 0.0), ("accumulate", 0), ("layer_decay", 1.5),
        ("rates", 3), ("ema", 1.0), ("average_last", -1), ("focal_gamma", 11), ("cache", "off"),
        ("precision", "float16"), ("domain", "hospital"), ("optimizer_state", "renew"),
    ],
)  # fmt: skip
def test_wrong_types_and_ranges_are_refused(option, value):
    (problem,) = problems_of(**{option: value})
    assert problem[0].partition(".")[0] == option
    assert any(text in problem[1] for text in (", got ", "at least 1", "unknown argument"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"warmup_epochs": 5}, "warmup_epochs"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"ema": 0.9, "average_last": 2}, "average_last"),
        ({"average_last": 6}, "average_last"),
        ({"trainable": {"names": "("}}, "trainable.names"),
        ({"trainable": {"top_fraction": 1.5}}, "trainable.top_fraction"),
        ({"rates": {"block_1": -1.0}}, "rates[0].factor"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, problem):
    assert [name for name, _ in problems_of(**options)] == [problem]


def test_contradictions_of_valid_options_are_reported_next_to_invalid_ones():
    names = [name for name, _ in problems_of(keep="x", warmup_epochs=9, weight_decay=0.1)]
    assert sorted(names) == ["keep", "warmup_epochs", "weight_decay"]


@pytest.mark.parametrize(("args", "options"), [(["head"], {"name": "again"}), ([None] * 100, {})])
def test_an_option_that_is_given_twice_or_too_often_is_a_type_error(args, options):
    with pytest.raises(TypeError, match=r"Phase accepts each of these arguments once: name, epochs,"):
        Phase(*args, **options)


def test_missing_options_are_named():
    with pytest.raises(RequestError) as error:
        Phase()
    assert "Missing required key 'name'," in str(error.value)
    assert "Missing required key 'epochs'," in str(error.value)


def test_the_forms_of_the_recipe_are_accepted():
    for given, expected in [
        ("all", "all"),
        ("none", "none"),
        ({"top_fraction": 0.3}, TopFraction(top_fraction=0.3)),
        ({"from_block": "block_3"}, FromBlock(from_block="block_3")),
        ({"names": "block_[12].*"}, LayerNames(names="block_[12].*")),
    ]:
        phase = Phase("last", epochs=1, trainable=given)
        assert phase.trainable == expected
        assert Phase("last", epochs=1, trainable=expected) == phase == pickle.loads(pickle.dumps(phase))


def test_a_phase_cannot_be_changed():
    phase = Phase("head", epochs=1)
    with pytest.raises(Exception, match="frozen"):
        phase.epochs = 2
    assert phase.epochs == 1


def test_objects_have_a_short_repr():
    assert repr(Phase("head", epochs=3)) == "Phase(name='head', epochs=3)"
    assert (
        repr(Phase("last", 5, learning_rate=1e-5, trainable={"top_fraction": 0.3}))
        == "Phase(name='last', epochs=5, learning_rate=1e-05, trainable=TopFraction(top_fraction=0.3))"
    )
    rows = tuple({"phase": name, "loss": 1.0} for name in ("head", "head", "last"))
    history = History(rows, ({}, {}), {"source": (2, 0.5)})
    assert repr(history) == "History(phases=['head', 'last'], epochs=3, best={'source': (2, 0.5)})"


def test_weights_by_class_name_weigh_the_images_of_the_class(tmp_path):
    records = [Record(f"{name}.png", tmp_path / f"{name}.png", name) for name in ("cat", "dog")]
    source = ImageDataset(records, class_names=("cat", "dog"), image_size_px=8, batch_size=2)
    images = np.zeros((2, 8, 8, 3), np.float32)
    batch = {"train": (images, np.array([0, 1], np.int32), np.arange(2))}

    def loss(weights):
        phase = Phase("head", epochs=1, class_weights=weights)
        step = classification_step(phase, source)
        return float(step.losses(lambda *_, **__: np.zeros((2, 2), np.float32), batch, 0.0)["loss"])

    assert loss("none") == pytest.approx(math.log(2))
    assert loss({"dog": 3.0}) == pytest.approx(math.log(2) * (1 + 3) / 2)
    with pytest.raises(RequestError, match=r"no class 'cow'.*cat, dog"):
        loss({"cow": 2.0})


def test_undecided_batch_norm_is_trainable_for_random_weights_and_frozen_otherwise():
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), norm])
    phase = Phase("head", epochs=1)
    assert resolve_batch_norm(model, phase).batch_norm == "trainable"
    norm.moving_mean.assign(np.full(4, 0.5, np.float32))
    assert resolve_batch_norm(model, phase).batch_norm == "frozen"
    given = Phase("head", epochs=1, batch_norm="statistics")
    assert resolve_batch_norm(model, given) is given
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert resolve_batch_norm(plain, phase).batch_norm == "frozen"
