"""The callbacks of `kerastl.callbacks` in `keras.Model.fit` of models that kerastl did not build."""

import keras
import numpy as np
import pytest

import kerastl
from kerastl.callbacks import BatchNormPolicy, FreezeCheck, UnfreezeSchedule
from kerastl.errors import PermanentFailure, RequestError

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


def build(optimizer=None):
    """Return a compiled model with a nested part: two dense layers with BatchNorm, and a head outside."""
    keras.utils.set_random_seed(5)
    image = keras.Input((6,))
    values = keras.layers.Dense(8, activation="relu", name="first")(image)
    values = keras.layers.BatchNormalization(name="norm")(values)
    values = keras.layers.Dense(8, activation="relu", name="second")(values)
    trunk = keras.Model(image, values, name="trunk")
    model = keras.Sequential([keras.Input((6,)), trunk, keras.layers.Dense(2, name="scores")])
    model.compile(optimizer or keras.optimizers.Adam(1e-2), LOSS)
    return model


def weights_of(model):
    return {
        f"{layer.name}/{weight.name}": np.array(keras.ops.convert_to_numpy(weight))
        for layer in (*model.get_layer("trunk").layers, model.get_layer("scores"))
        for weight in layer.weights
    }


class Weights(keras.callbacks.Callback):
    """The weights at the beginning and after each epoch, and the variables that the optimizer trains."""

    def on_train_begin(self, logs=None):
        self.epochs, self.optimized = [weights_of(self.model)], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(weights_of(self.model))
        self.optimized.append([variable.path for variable in self.model.optimizer.variables])

    def changed(self, epoch):
        """Return the layers with a changed scale, offset, kernel or bias, and those with changed statistics."""
        old, new = self.epochs[epoch : epoch + 2]
        names = [name for name in old if (old[name] != new[name]).any()]
        return {name.split("/")[0] for name in names if "moving" not in name}, any(
            "moving" in n for n in names
        )


class SetTrainable(keras.callbacks.Callback):
    """Set a flag without anything else, as many examples do."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.trainable = True


def train(model, *callbacks, epochs=1, **options):
    weights = Weights()
    model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, weights],
        **options,
    )
    return weights


@pytest.fixture(scope="module")
def scheduled():
    """Return a model that is unfrozen in two steps, and its weights per epoch."""
    model = build(keras.optimizers.Adam(1e-2, global_clipnorm=1.0))
    rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: [1e-2, 5e-3, 1e-3, 1e-3][epoch])
    schedule = UnfreezeSchedule({0: "none", 2: {"names": "second"}, 3: "all"})
    return model, train(model, FreezeCheck(), rate, schedule, epochs=4)


def test_a_frozen_layer_changes_from_its_epoch_on_and_not_before(scheduled):
    _, weights = scheduled
    assert [weights.changed(epoch)[0] for epoch in range(4)] == [
        {"scores"}, {"scores"}, {"scores", "second"}, {"scores", "second", "first"},
    ]  # fmt: skip
    assert not any(weights.changed(epoch)[1] for epoch in range(4))


def test_the_optimizer_has_slots_for_exactly_the_trained_variables(scheduled):
    model, weights = scheduled
    for paths, layers in zip(weights.optimized, [1, 1, 2, 3], strict=True):
        assert (
            sum("momentum" in path for path in paths)
            == sum("velocity" in path for path in paths)
            == 2 * layers
        )
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert model.optimizer.global_clipnorm == 1.0


@pytest.mark.slow
def test_training_equals_compiling_again_with_a_new_optimizer(scheduled):
    _, weights = scheduled
    model = build(keras.optimizers.Adam(1e-2, global_clipnorm=1.0))
    trunk = model.get_layer("trunk")
    trunk.trainable = False
    for epoch, (rate, unfrozen) in enumerate([(1e-2, None), (5e-3, None), (1e-3, "second"), (1e-3, "first")]):
        if unfrozen:
            trunk.get_layer(unfrozen).trainable = True
            model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), LOSS)
        model.optimizer.learning_rate = rate
        (_, expected) = train(model).epochs
        for name, value in expected.items():
            np.testing.assert_array_equal(weights.epochs[epoch + 1][name], value, err_msg=name)


def test_the_saved_model_resumes_with_the_state_of_its_optimizer(scheduled, tmp_path):
    model, _ = scheduled
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for saved, restored in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            np.array(keras.ops.convert_to_numpy(saved)), np.array(keras.ops.convert_to_numpy(restored))
        )


@pytest.mark.slow
def test_keras_ignores_a_flag_that_is_set_during_training():
    """The reason for `UnfreezeSchedule`."""
    model = build()
    model.get_layer("trunk").trainable = False
    weights = train(model, SetTrainable(), epochs=2)
    assert weights.changed(1)[0] == {"scores"}


def test_a_fraction_counts_the_layers_before_the_head_and_training_can_begin_at_a_later_epoch():
    model = build()
    schedule = UnfreezeSchedule({0: "none", 1: {"top_fraction": 0.4}, 5: "all"}, batch_norm="trainable")
    weights = train(model, schedule, FreezeCheck(), epochs=3, initial_epoch=2)
    assert weights.changed(0) == ({"second", "scores"}, True)


@pytest.mark.slow
def test_weight_decay_stays_excluded_when_the_optimizer_starts_again():
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = build(optimizer)
    train(model, UnfreezeSchedule({0: "none", 1: "all"}), epochs=2)
    assert model.optimizer is optimizer
    decayed = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    assert decayed
    assert not any("bias" in path for path in decayed)


@pytest.mark.parametrize(
    ("rule", "layers", "statistics"),
    [
        ("frozen", {"first", "second", "scores"}, False),
        pytest.param("statistics", {"first", "second", "scores"}, True, marks=pytest.mark.slow),
        pytest.param("trainable", {"first", "second", "scores", "norm"}, True, marks=pytest.mark.slow),
    ],
)
def test_a_rule_for_batch_norm_holds_after_all_layers_are_made_trainable(rule, layers, statistics):
    weights = train(build(), SetTrainable(), BatchNormPolicy(rule), FreezeCheck(), epochs=2)
    assert [weights.changed(epoch) for epoch in (0, 1)] == [(layers, statistics)] * 2


class ChangeFrozen(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        norm = self.model.get_layer("trunk").get_layer("norm")
        norm.moving_mean.assign(norm.moving_mean + 1)


def test_a_changed_frozen_variable_is_a_fault():
    with pytest.raises(PermanentFailure, match=r"epoch 1: 1 frozen variables changed; .*norm/moving_mean"):
        train(build(), BatchNormPolicy("frozen"), ChangeFrozen(), FreezeCheck())


def test_an_epoch_without_a_changed_variable_is_a_fault():
    rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch else rate)
    model = build()
    with pytest.raises(PermanentFailure, match="epoch 2: no trainable variable changed"):
        train(model, rate, BatchNormPolicy("frozen"), FreezeCheck(), epochs=2)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "at least one epoch"),
        ({-1: "all"}, r"an integer from 0, got \[-1\]"),
        ({0: {"top": 0.5}}, "trainable"),
    ],
)
def test_a_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(RequestError, match=message):
        UnfreezeSchedule(schedule)


@pytest.mark.parametrize(
    ("optimizer", "trainable", "message"),
    [
        (None, {"names": "third"}, "'third' matches no layer name.*first, norm, second"),
        (None, {"from_block": "secnd"}, "Did you mean 'second'"),
        (
            keras.optimizers.schedules.CosineDecay(0.1, 9),
            "all",
            "learning rate schedule.*LearningRateScheduler",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_step(optimizer, trainable, message):
    model = build(optimizer and keras.optimizers.SGD(optimizer))
    before = weights_of(model)
    with pytest.raises(RequestError, match=message):
        train(model, UnfreezeSchedule({0: "none", 4: trainable}))
    assert all((before[name] == value).all() for name, value in weights_of(model).items())


def test_the_training_loop_of_kerastl_refuses_callbacks_that_change_flags():
    model = kerastl.build_classifier("small_cnn", class_names=["a", "b"], image_size_px=32, weights="none")
    for callback in (UnfreezeSchedule({0: "all"}), BatchNormPolicy()):
        callback.set_model(model)
        model.compile("adam")
        with pytest.raises(RequestError, match=r"With kerastl.fit, set trainable"):
            callback.on_train_begin()
