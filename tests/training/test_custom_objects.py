"""Losses, metrics and optimizers of Keras in a phase."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase
from keras import losses, metrics, optimizers

from kerastl.errors import Problems, RequestError, recipe_syntax
from kerastl.recipe import Phase
from kerastl.training import fit
from kerastl.training.custom_objects import build_loss, custom_problems, metric_values, with_direction

CROSS_ENTROPY = losses.CategoricalCrossentropy(from_logits=True)
LABELS = np.array([0, 1, 2, 1, 0, 2, 2], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def problems(num_classes=3, *, mixes=False, has_val=True, **options):
    return list(custom_problems(Phase("a", 1, **options), num_classes, mixes=mixes, has_val=has_val))


def squared_error(labels, logits):
    return keras.ops.mean(keras.ops.square(labels - logits), axis=-1)


def total(labels, logits):
    return keras.ops.sum(keras.ops.square(labels - logits))


def flipped(labels, logits):
    return -squared_error(labels, logits)


class Total(losses.Loss):
    """Ignores its reduction."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return total(y_true, y_pred)


ACCEPTED = [
    CROSS_ENTROPY, losses.SparseCategoricalCrossentropy(from_logits=True), losses.CategoricalHinge(), squared_error,
    losses.BinaryCrossentropy(from_logits=True), losses.CategoricalFocalCrossentropy(from_logits=True),
]  # fmt: skip


def name_of(loss):
    return getattr(loss, "name", None) or loss.__name__


@pytest.mark.parametrize("loss", ACCEPTED, ids=name_of)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_losses_for_logits_are_accepted(loss, num_classes):
    assert problems(num_classes, loss=loss) == []


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.CategoricalCrossentropy(), "Use its class with from_logits=True"),
        (losses.categorical_crossentropy, "Use its class with from_logits=True"),
        (losses.KLDivergence(), "for probabilities"),
        (losses.CategoricalCrossentropy(from_logits=True, reduction="sum"), "has reduction='sum'"),
        (losses.CategoricalCrossentropy(from_logits=True, reduction=None), "has reduction=None"),
        (losses.CategoricalFocalCrossentropy(from_logits=True, alpha=[0.1, 0.9]), "cannot be computed"),
        (lambda labels, logits: keras.losses.sparse_categorical_crossentropy(labels, logits, True), "cannot be comp"),
        (lambda labels, logits: logits - labels, "cannot be computed"),
        (lambda labels, logits: squared_error(labels, logits) * np.nan, "not finite"),
        (lambda labels, logits: keras.ops.zeros_like(logits[:, 0]), "no gradient"),
        (lambda labels, logits: total(labels, logits), "one value per image, got the shape ()"),
        (lambda labels, logits: squared_error(labels, logits)[:1], "one value per image, got the shape (1,)"),
        (Total(), "depends on the number of images"),
        (flipped, "must be smaller for correct predictions"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_refused_with_the_reason(loss, message):
    (problem,) = problems(loss=loss)
    assert message in problem


def test_mixed_labels_need_a_loss_for_one_hot_labels():
    assert "soft labels" in problems(loss=ACCEPTED[1], mixes=True)[0]
    assert problems(loss=CROSS_ENTROPY, mixes=True) == []


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, ACCEPTED[1]], ids=name_of)
def test_the_loss_is_the_weighted_mean_over_the_images(loss):
    log_shares = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    weights = np.linspace(0.5, 2, 7).astype(np.float32)
    value = build_loss(loss)(tf.constant(LABELS), tf.constant(LOGITS), tf.constant(weights))
    expected = (-log_shares[np.arange(7), LABELS] * weights).mean()
    np.testing.assert_allclose(float(value), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (metrics.F1Score(), "average='macro'"),
        (metrics.F1Score(average="macro", threshold=None), None),
        (metrics.Accuracy(name="own"), "the same value, 0, for correct and for wrong"),
        (metrics.TopKCategoricalAccuracy(k=3), "the same value, 1, for correct and for wrong"),
        (metrics.TopKCategoricalAccuracy(k=1), None),
        (metrics.TopKCategoricalAccuracy(k=2), None),
        (metrics.SparseCategoricalCrossentropy(from_logits=True, name="nll"), None),
    ],
)
def test_a_metric_must_be_a_number_that_depends_on_the_predictions(metric, message):
    found = problems(metrics=[metric])
    assert message in found[0] if message else found == []


class Matched(metrics.Metric):
    """The fraction of images of some classes that are recognized."""

    def __init__(self, labels):
        super().__init__(name="matched")
        self.chosen = labels

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.labels, self.predicted = (np.argmax(values, axis=1) for values in (y_true, y_pred))

    def result(self):
        is_chosen = np.isin(self.labels, self.chosen)
        return np.mean((self.labels == self.predicted)[is_chosen])


@pytest.mark.parametrize(
    ("metric", "num_classes", "ignored"),
    [
        (metrics.OneHotMeanIoU(2), 3, "class 2. Create it for 3 classes"),
        (metrics.OneHotMeanIoU(3), 5, "class 3, 4. "),
        (metrics.OneHotMeanIoU(29), 30, "class 29. "),
        (metrics.OneHotIoU(2, target_class_ids=[0, 1]), 3, "class 2. "),
        (Matched([0, 1]), 3, "class 2. "),
        (Matched([1, 2]), 3, "class 0. "),
        (metrics.OneHotMeanIoU(3), 3, None),
        (metrics.OneHotMeanIoU(4), 3, None),
        (metrics.OneHotIoU(3, target_class_ids=[0, 2]), 3, None),
        (Matched([1]), 3, None),
        (metrics.Recall(class_id=1), 3, None),
        (metrics.Precision(class_id=0), 4, None),
        (metrics.BinaryIoU(), 3, None),
        (metrics.AUC(multi_label=True, name="own"), 3, None),
        (metrics.SpecificityAtSensitivity(0.5), 3, None),
        (metrics.TopKCategoricalAccuracy(k=5), 30, None),
        (metrics.SparseTopKCategoricalAccuracy(k=2), 3, None),
        (metrics.SparseCategoricalAccuracy(name="own"), 2, None),
    ],
)
def test_a_metric_for_fewer_classes_is_refused_and_one_for_some_classes_is_not(metric, num_classes, ignored):
    found = problems(num_classes, metrics=[metric])
    if ignored is None:
        assert found == []
    else:
        assert f"does not depend on the images of {ignored}" in found[0]


def test_metrics_get_probabilities_unless_they_are_for_logits():
    chosen = [
        metrics.Precision(thresholds=0.6, name="precision"),
        metrics.CategoricalCrossentropy(name="ce"),
        metrics.SparseCategoricalCrossentropy(from_logits=True, name="sparse_ce"),
    ]
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    values = metric_values(chosen, LOGITS, LABELS)
    assert metric_values(chosen, LOGITS, LABELS) == values
    is_label = np.eye(3, dtype=bool)[LABELS]
    np.testing.assert_allclose(values["val_precision"], is_label[shares > 0.6].mean(), rtol=1e-6)
    np.testing.assert_allclose(values["val_ce"], -np.log(shares[is_label]).mean(), rtol=1e-5)
    np.testing.assert_allclose(values["val_sparse_ce"], values["val_ce"], rtol=1e-5)


@pytest.mark.parametrize(("metric", "is_minimized"), [(metrics.F1Score("macro", name="own"), False),
                                                     (metrics.FalseNegatives(name="own"), True)])  # fmt: skip
def test_the_direction_of_a_monitored_metric_is_found(metric, is_minimized):
    phase = with_direction(Phase("a", 1, metrics=[metric], monitor="val_own"), 3)
    assert phase.minimizes_monitor is is_minimized
    assert phase.is_better(0.2, 0.3) is is_minimized


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"loss": "mse"}, ["loss: must be a keras.losses.Loss"]),
        ({"loss": losses.CategoricalCrossentropy}, ["loss: must be a keras.losses.Loss"]),
        ({"metrics": metrics.AUC()}, ["metrics: must be a list"]),
        ({"metrics": ["accuracy"]}, ["metrics: must be a list"]),
        ({"metrics": [metrics.AUC(name="auc")]}, ["metrics[0]: val_auc is already reported"]),
        ({"metrics": [metrics.AUC(name="a"), metrics.AUC(name="a")]}, ["metrics[1]: val_a is already reported"]),
        ({"optimizer": optimizers.Adam}, ["keras.optimizers.Adam(learning_rate=1e-3)"]),
        ({"optimizer": "lion", "metrics": 5}, ["or an instance such as keras.optimizers.Lion(learning_rate=1e-3), got 'lion'"]),
        ({"optimizer": 3, "epochs": 0}, ["optimizer: must be 'adam', 'adamw' or 'sgd', or an instance", "epochs: "]),
        ({"optimizer": None}, ["optimizer: must be"]),
        ({"optimizer": optimizers.Adam(), "learning_rate": 1e-3, "clip_norm": 1.0}, ["learning_rate: cannot be combined"]),
        ({"optimizer": optimizers.Adam(), "clip_norm": 1.0}, ["clip_norm: cannot be combined with a custom optimizer"]),
        ({"loss": CROSS_ENTROPY, "label_smoothing": 0.1, "focal_gamma": 2.0}, ["label_smoothing: ", "focal_gamma: "]),
        ({"optimizer": optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 5)), "schedule": "cosine"}, ["schedule: "]),
        ({"monitor": "val_own"}, ["monitor: must be"]),
        ({"loss": 5, "epochs": 0, "metrics": 5}, ["loss: ", "metrics: ", "epochs: "]),
    ],
)  # fmt: skip
def test_invalid_objects_and_contradictions_are_reported_together(options, messages):
    with pytest.raises(Problems) as error:
        Phase(**{"name": "a", "epochs": 1} | options)
    for message in messages:
        assert message in str(error.value)


@recipe_syntax()
def test_a_recipe_cannot_contain_objects():
    _, errors = Phase.read({"name": "a", "epochs": 1, "loss": CROSS_ENTROPY, "metrics": []})
    assert [loc for loc, _ in errors] == [("loss",), ("metrics",)]
    assert "only in Python" in errors[0][1]


def test_unsupported_optimizers_are_refused():
    class Incomplete(optimizers.SGD):
        def __init__(self, strength):
            super().__init__(0.1)

    assert "cannot be copied" in problems(optimizer=Incomplete(1.0))[0]
    assert "use_ema=True" in problems(optimizer=optimizers.SGD(0.1, use_ema=True))[0]
    assert "is not supported" in problems(optimizer=optimizers.LossScaleOptimizer(optimizers.SGD(0.1)))[0]
    assert "validation_data" in problems(metrics=[metrics.AUC(name="own")], has_val=False)[0]


def color_model():
    inputs = keras.Input((32, 32, 3))
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def test_gradients_of_more_batches_than_a_phase_has_are_not_accumulated(train):
    def phase(epochs, steps, *, is_named):
        options = {"accumulate": steps}
        if not is_named:
            options = {"optimizer": optimizers.Adam(0.01, gradient_accumulation_steps=steps)}
        return plain_phase("a", epochs, keep="last", **options)

    for is_named, name in ((True, "accumulate=11"), (False, "gradient_accumulation_steps=11")):
        with pytest.raises(
            RequestError, match=f"{name} needs 11 batches for one update, but the phase has 10"
        ):
            fit(color_model(), train, phases=[phase(2, 11, is_named=is_named)])
        fit(color_model(), train, phases=[phase(2, 10, is_named=is_named)])


def test_training_equals_that_with_the_built_in_loss_and_optimizer(train, val):
    def trained(**options):
        keras.utils.set_random_seed(1)
        model = color_model()
        phases = [plain_phase(name, 1, keep="last", **options) for name in ("a", "b")]
        return model, fit(model, train, val=val, phases=phases)

    plain, expected = trained(learning_rate=0.01, class_weights={"dark": 2.0})
    shared = {"loss": CROSS_ENTROPY, "optimizer": optimizers.Adam(0.01), "metrics": [metrics.AUC(name="own")]}
    custom, history = trained(**shared, class_weights={"dark": 2.0}, monitor="val_own")
    for first, second in zip(plain.weights, custom.weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert [row["val_loss"] for row in history.rows] == pytest.approx(
        [row["val_loss"] for row in expected.rows]
    )
    assert history.phases[0].best == history.rows[0]["val_own"]
    assert not shared["optimizer"].built
    assert [entry["phase"] for entry in history.objects] == ["a", "b"]
    assert history.objects[0]["loss"]["class"] == "CategoricalCrossentropy"
    assert history.objects[0]["optimizer"]["config"]["learning_rate"] == pytest.approx(0.01)


def test_a_loss_that_the_step_would_ignore_is_refused(model, train):
    phase = Phase("a", 1, loss=CROSS_ENTROPY)
    with pytest.raises(RequestError, match="step_for= builds a different step"):
        fit(model, train, phases=[phase], step_for=lambda phase, train: None)
