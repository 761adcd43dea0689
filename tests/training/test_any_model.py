"""Models that kerastl did not build: functional, subclassed and nested ones, and one with a single logit."""

import keras
import numpy as np
import pytest
from array_dataset import ArrayDataset, make_images, plain_phase
from keras import layers
from stopping import Stop

from kerastl.errors import RequestError
from kerastl.models import as_functional
from kerastl.recipe import LayerNames
from kerastl.training import fit
from kerastl.training.trunk import split_at_head

SIZE = 32


class Subclassed(keras.Model):
    """Creates its head before the layers in front of it, and has a weight of its own."""

    def __init__(self, units=2):
        super().__init__(name="subclassed")
        self.logits = layers.Dense(units, name="logits")
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.dropout = layers.Dropout(0.3)
        self.norm = layers.BatchNormalization(name="norm")
        self.conv = layers.Conv2D(4, 3, strides=4, name="conv")

    def call(self, images, training=False):
        features = keras.ops.relu(self.norm(self.conv(images / 255.0)) * self.scale)
        return self.logits(self.dropout(keras.ops.mean(features, axis=(1, 2)), training=training))


def functional(units=2):
    image = keras.Input((SIZE, SIZE, 3))
    hidden = layers.Rescaling(1 / 255)(image)
    hidden = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, strides=4, name="conv")(hidden))
    features = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(layers.ReLU()(hidden)))
    return keras.Model(image, layers.Dense(units, name="logits")(features), name="functional")


def nested(units=2):
    image = keras.Input((SIZE, SIZE, 3))
    inner = keras.Input((None, None, 3))
    convolved = layers.Conv2D(4, 3, strides=4, name="conv")(inner)
    backbone = keras.Model(inner, layers.BatchNormalization(name="norm")(convolved), name="backbone")
    top = [
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.3),
        layers.Dense(units, name="logits"),
    ]
    features = backbone(layers.Rescaling(1 / 255)(image))
    for layer in top:
        features = layer(features)
    return keras.Model(image, features, name="nested")


def sequential(units=2):
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *functional(units).layers[1:]], name="sequential")


KINDS = {"functional": functional, "subclassed": Subclassed, "nested": nested, "sequential": sequential}


@pytest.fixture
def train():
    return ArrayDataset(*make_images(40))


@pytest.fixture
def val():
    return ArrayDataset(*make_images(20, seed=1), shuffle=False)


def build(kind, units=2):
    """Return a model with statistics as after training, so that BatchNorm counts as pretrained."""
    keras.utils.set_random_seed(3)
    model = KINDS[kind](units)
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    norm = next(layer for layer in model._flatten_layers() if layer.name == "norm")
    norm.moving_mean.assign([0.1, -0.1, 0.2, 0.0])
    return model


def values_of(model):
    return {weight.path.split("/")[-2] + "/" + weight.name: weight.numpy() for weight in model.weights}


@pytest.mark.parametrize("kind", KINDS)
def test_each_phase_changes_exactly_its_layers_in_a_model_of_any_kind(kind, train, val):
    model = build(kind)
    initial = values_of(model)
    history = fit(model, train, val=val, phases=[plain_phase("head", 1, learning_rate=0.1, keep="last")])
    after_head = values_of(model)
    changed = {name for name in initial if (initial[name] != after_head[name]).any()}
    assert changed == {"logits/kernel", "logits/bias"}
    phase = plain_phase("conv", 2, learning_rate=0.1, trainable=LayerNames(names="conv"), keep="last")
    history = fit(model, train, val=val, phases=[phase])
    changed = {name for name, value in values_of(model).items() if (value != after_head[name]).any()}
    assert changed == {"logits/kernel", "logits/bias", "conv/kernel", "conv/bias"}
    rows = {row["layer"]: row for row in history.freeze_reports[0]["layers"]}
    assert {name for name, row in rows.items() if row["changed"]} == {"conv", "logits"}
    assert history.freeze_reports[0]["parameters"]["total"] == model.count_params()


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_nested_layers_follow_the_rule_of_the_phase(kind, train):
    model = build(kind)
    before = values_of(model)
    fit(model, train, phases=[plain_phase("all", 1, trainable="all", batch_norm="statistics")])
    after = values_of(model)
    assert (after["norm/moving_mean"] != before["norm/moving_mean"]).any()
    assert (after["norm/gamma"] == before["norm/gamma"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["subclassed", "nested"])
def test_resumed_training_ends_with_the_same_bytes(kind, train, val, tmp_path):
    phases = [plain_phase("head", 2), plain_phase("all", 2, trainable="all", batch_norm="trainable")]
    whole = build(kind)
    history = fit(whole, train, val=val, phases=phases)
    with pytest.raises(KeyboardInterrupt):
        fit(build(kind), train, val=val, phases=phases, checkpoints=tmp_path / "c", callbacks=[Stop(3)])
    resumed = build(kind)
    again = fit(resumed, train, val=val, phases=phases, checkpoints=tmp_path / "c", resume=True)
    assert again.rows == history.rows
    for first, second in zip(whole.weights, resumed.weights, strict=True):
        assert first.numpy().tobytes() == second.numpy().tobytes()


def test_a_model_with_the_names_of_the_head_is_trained_by_layer(train):
    top = [layers.GlobalAveragePooling2D(name="pooled"), layers.Dense(2, name="head")]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Conv2D(4, 3, name="conv"), *top])
    phase = plain_phase("conv", 1, learning_rate=0.1, trainable={"from_block": "conv"})
    (report,) = fit(model, train, phases=[phase]).freeze_reports
    assert [block["block"] for block in report["parameters"]["blocks"]] == ["conv", "head"]


class Scaled(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def with_float16():
    image = keras.Input((SIZE, SIZE, 3))
    return keras.Model(image, layers.Dense(2, dtype="mixed_float16")(layers.Flatten()(image)))


def with_equal_names():
    image = keras.Input((SIZE, SIZE, 3))
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), layers.Conv2D(3, 1, name="same"), layers.Flatten()]
    )
    return keras.Model(image, layers.Dense(2, name="same")(inner(image)))


def with_own_train_step():
    model = functional()
    return Scaled(model.inputs, model.outputs)


def with_last_norm():
    model = functional()
    return keras.Model(model.inputs[0], layers.BatchNormalization(name="last")(model.outputs[0]))


def without_weights():
    image = keras.Input((SIZE, SIZE, 3))
    return keras.Model(image, layers.GlobalAveragePooling2D()(image)[:, :2])


def with_front(front):
    image = keras.Input((SIZE, SIZE, 3))
    features = front(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(image)))
    return keras.Model(image, layers.Dense(2, name="logits")(features))


def with_noise():
    return with_front(
        layers.Lambda(lambda features: features + keras.random.normal(keras.ops.shape(features)))
    )


def with_batch_mean():
    return with_front(lambda features: features - keras.ops.mean(features, axis=0, keepdims=True))


class Failing(keras.Model):
    def call(self, images):
        raise ValueError("only images of 7 x 7 px")


class WithKeys(Subclassed):
    def call(self, images):
        return {"logits": super().call(images), "scale": self.scale}


@pytest.mark.parametrize(
    ("build_model", "message"),
    [
        (with_own_train_step, "its own train_step, which fit does not call"),
        (with_float16, "computes in float16"),
        (with_equal_names, "the name 'same'"),
        (with_last_norm, "no weight is trained: the last layer with weights, 'last'"),
        (without_weights, "nothing to train"),
        (with_noise, "returns different outputs for the same images"),
        (with_batch_mean, "for an image alone and in a batch"),
        (Failing, r"cannot be called on images \[batch, 32, 32, 3\]: ValueError: only images of 7 x 7 px"),
        (WithKeys, r"keras\.Model\(image, model\(image\)\['logits'\]\)"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_the_reason(build_model, message, train):
    with pytest.raises(RequestError, match=message):
        fit(build_model(), train, phases=[plain_phase("head", 1)])


def test_features_are_cached_only_where_the_graph_allows_it(val):
    images = keras.Input((SIZE, SIZE, 3))

    def split(*front):
        model = keras.Sequential(
            [images, *front, layers.GlobalMaxPooling2D(), layers.Dropout(0.2), layers.Dense(2)]
        )
        return split_at_head(as_functional(model))

    trunk, tail = split(layers.Conv2D(4, 3))
    assert trunk.output_shape == (None, 4)
    assert [type(layer).__name__ for layer in tail.layers] == ["InputLayer", "Dropout", "Dense"]
    for layer, reason in (
        (layers.RandomFlip(), "is random"),
        (layers.Lambda(lambda image: image), "contains custom code"),
    ):
        with pytest.raises(RequestError, match=reason):
            split(layer, layers.Conv2D(4, 3))
    shared = layers.Conv2D(3, 3)
    with pytest.raises(RequestError, match="called twice"):
        split(shared, layers.ReLU(), shared)
    with pytest.raises(RequestError, match="not a separate part of the graph"):
        split_at_head(as_functional(build("subclassed"), (SIZE, SIZE)))
