import keras
import numpy as np
import pytest
from sources_drawn import plain_phase
from stopping import Stop

from kerastl.errors import PermanentFailure, RequestError, RunFailed
from kerastl.models import build_model
from kerastl.recipe import FromBlock, LayerNames, TopFraction
from kerastl.training import fit

ALL = plain_phase("all", epochs=2, trainable="all", batch_norm="trainable", keep="last")
HEAD = plain_phase("head", epochs=1, learning_rate=1e-2)


def _fresh(seed=3):
    from kerastl.models import build_backbone

    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=("dark", "light"), seed=seed)


def test_it_learns_what_can_be_learnt(model, train, val):
    phase = plain_phase("all", epochs=6, trainable="all", batch_norm="trainable")
    history = fit(model, train, val=val, phases=[phase])
    assert max(row["val_accuracy"] for row in history.rows) == 1.0


def test_the_history_has_a_row_an_epoch_counted_over_all_phases(model, train, val):
    history = fit(model, train, val=val, phases=[HEAD, ALL])
    assert [(row["phase"], row["epoch"]) for row in history.rows] == [
        ("head", 1), ("all", 2), ("all", 3),
    ]  # fmt: skip


def test_a_head_phase_moves_the_head_and_nothing_else(model, train):
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    (proof,) = fit(model, train, phases=[HEAD]).freeze_reports
    moved = {
        w.path for w in model.weights if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    assert moved == {"head/kernel", "head/bias"}
    assert [row["layer"] for row in proof["layers"] if row["changed"]] == ["head"]


def test_a_frozen_variable_that_moves_stops_the_run(model, train):
    class Vandal(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            layer = next(layer for layer in self.model.layers if not layer.trainable and layer.weights)
            layer.weights[0].assign_add(np.ones(layer.weights[0].shape))

    with pytest.raises(RunFailed, match="frozen variables moved"):
        fit(model, train, phases=[HEAD], callbacks=[Vandal()])


def test_a_rate_of_zero_is_not_training(model, train):
    with pytest.raises(RunFailed, match="no trainable variable moved"):
        fit(model, train, phases=[plain_phase("head", epochs=1).model_copy(update={"learning_rate": 0.0})])


def test_statistics_may_follow_the_images_while_scale_and_offset_stay(model, train):
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    phase = plain_phase("adapt", epochs=1, batch_norm="statistics")
    (proof,) = fit(model, train, phases=[phase]).freeze_reports
    moved = {
        w.path.rsplit("/", 1)[-1]
        for w in model.weights
        if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    assert moved == {"moving_mean", "moving_variance", "kernel", "bias"}
    assert {row["layer"] for row in proof["layers"] if row["changed"]} == {"head"}
    assert any(row["statistics_changed"] for row in proof["layers"])


def test_statistics_of_one_batch_are_those_of_its_pixels(model, train):
    """The first BatchNorm sees the first convolution's output; NumPy gives its mean over all images."""
    from kerastl.training import build_statistics_estimator, unfreeze

    train.batch_size = 16  # the last batch is smaller: it must weigh less
    unfreeze(model, "all", batch_norm="trainable")
    build_statistics_estimator(model)(train)
    norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    seen = keras.Model(model.inputs[0], norm.input)(train.images).numpy()
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)


def test_the_best_epoch_is_gone_back_to(model, train, val):
    from kerastl.training.loop import validate

    phase = plain_phase("head", epochs=3, monitor="val_loss")
    worse_at_last = keras.callbacks.LearningRateScheduler(lambda epoch, _: (1e-2, 1e-2, 50.0)[epoch])
    history = fit(model, train, val=val, phases=[phase], callbacks=[worse_at_last])
    losses = [row["val_loss"] for row in history.rows]
    assert losses[-1] > min(losses), "the last epoch is the best: this would prove nothing"
    now = validate(lambda images: model(images, training=False), val)["val_loss"]
    assert now == pytest.approx(min(losses), rel=1e-5)


def test_early_stopping_counts_epochs_without_a_better_value(model, train, val):
    phase = plain_phase("head", epochs=20, early_stopping=2, monitor="val_loss").model_copy(
        update={"learning_rate": 50.0}
    )
    history = fit(model, train, val=val, phases=[phase])
    losses = [row["val_loss"] for row in history.rows]
    assert len(losses) == int(np.argmin(losses)) + 3 < 20


def test_figures_of_two_kinds_are_not_compared(model, train, val):
    """An accuracy of at most 1 beats no loss of 18: the second phase has a best of its own."""
    first = plain_phase("bad", epochs=1, monitor="val_loss").model_copy(update={"learning_rate": 50.0})
    second = plain_phase("good", epochs=4, learning_rate=1e-2, monitor="val_accuracy", early_stopping=4)
    history = fit(model, train, val=val, phases=[first, second])
    assert history.rows[0]["val_loss"] > 1
    accuracies = [row["val_accuracy"] for row in history.rows if row["phase"] == "good"]
    assert history.best["source"][1] == max(accuracies)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (plain_phase("adapt", epochs=1, domain="target"), "no labelled images of its domain"),
        (plain_phase("top", epochs=1, trainable=FromBlock(from_block="blok_2")), "block_2"),
        (plain_phase("top", epochs=1, trainable=LayerNames(names="block")), "whole name"),
        (plain_phase("head", epochs=5, early_stopping=2), "no validation"),
    ],
    ids=["no images", "no block", "no layer", "nothing to watch"],
)
def test_a_phase_that_cannot_be_run_is_refused_before_the_first_one_is(model, train, phase, words):
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    with pytest.raises(RequestError, match=f"phase {phase.name}.*{words}"):
        fit(model, train, phases=[HEAD, phase])
    for value, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(value, keras.ops.convert_to_numpy(weight))


def test_an_auc_of_validation_images_of_one_class_cannot_be_watched(model, train, val):
    val.images, val.labels = val.images[val.labels == 0], val.labels[val.labels == 0]
    with pytest.raises(RequestError, match="'light' has no image"):
        fit(model, train, val=val, phases=[plain_phase("head", epochs=1, monitor="val_auc")])


def test_a_breakdown_puts_the_model_back_to_its_last_good_epoch(model, train, tmp_path):
    class Blow(keras.callbacks.Callback):
        """Breaks a weight after the last step of the second epoch, where no loss can show it."""

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 1 and batch == train.steps_per_epoch - 1:
                self.model.get_layer("head").bias.assign([np.nan, 0.0])

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_epoch_end(self, epoch, logs=None):
            self.good = keras.ops.convert_to_numpy(self.model.get_layer("head").bias)

    blow = Blow()
    phase = plain_phase("head", epochs=4, learning_rate=1e-2)
    with pytest.raises(PermanentFailure, match="put back to the end of epoch 1"):
        fit(model, train, phases=[phase], callbacks=[blow], checkpoints=tmp_path)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("head").bias), blow.good)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001.npz"]


def test_checkpoints_of_another_training_are_not_mixed_with_new_ones(model, train, tmp_path):
    fit(model, train, phases=[HEAD], checkpoints=tmp_path)
    kept = [path.read_bytes() for path in tmp_path.iterdir()]
    with pytest.raises(RequestError, match="another training"):
        fit(model, train, phases=[HEAD], checkpoints=tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == kept


def test_a_small_fraction_takes_in_a_block_all_the_same(model):
    from kerastl.training import resolve_trainable

    assert {name[:7] for name in resolve_trainable(model, TopFraction(top_fraction=0.01))} == {"block_3"}


@pytest.mark.parametrize(
    ("trainable", "blocks"),
    [
        (FromBlock(from_block="block_2"), {"block_2", "block_3"}),
        (LayerNames(names="block_1.*"), {"block_1"}),
        (LayerNames(names="block_1_conv"), {"block_1"}),
    ],
    ids=["from a block", "by pattern", "by name"],
)
def test_what_is_named_moves_and_nothing_else_of_the_backbone(model, train, trainable, blocks):
    phase = plain_phase("some", epochs=1, learning_rate=1e-2, trainable=trainable)
    (proof,) = fit(model, train, phases=[phase]).freeze_reports
    moved = {row["layer"] for row in proof["layers"] if row["changed"]}
    assert {name[:7] for name in moved - {"head"}} == blocks


def test_a_cosine_falls_from_the_top_after_a_linear_climb(model, train):
    """Ten steps an epoch of the formula: climb over one epoch, then half a cosine over three."""
    rates = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    phase = plain_phase("head", epochs=4, learning_rate=1e-2, schedule="cosine", warmup_epochs=1.0)
    fit(model, train, phases=[phase], callbacks=[Watch()])
    steps = train.steps_per_epoch
    climb = np.arange(1, steps + 1) / (steps + 1) * 1e-2
    fall = 0.5e-2 * (1 + np.cos(np.linspace(0, np.pi, 3 * steps, endpoint=False)))
    np.testing.assert_allclose(rates, np.r_[climb, fall], rtol=1e-5)


def test_label_smoothing_and_class_weights_are_those_of_keras_and_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    from kerastl.training.losses import balanced_weights, cross_entropy

    labels = np.array([0, 0, 0, 1, 2, 2], np.int32)
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2, reduction="none")(
        np.eye(3, dtype=np.float32)[labels], logits
    )
    ours = cross_entropy(labels, logits, label_smoothing=0.2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(
        balanced_weights(labels, 3),
        compute_class_weight("balanced", classes=np.arange(3), y=labels),
        rtol=1e-6,
    )


def test_a_loss_that_is_not_a_number_is_told_with_its_place(model, train):
    wild = plain_phase("head", epochs=3, optimizer="sgd").model_copy(update={"learning_rate": 1e38})
    with pytest.raises(RunFailed, match=r"phase head, epoch 1, step \d.*learning_rate=1e\+37"):
        fit(model, train, phases=[wild])


def test_two_equal_runs_end_with_equal_bytes(train, val):
    ends = []
    for _ in range(2):
        model = _fresh()
        fit(model, train, val=val, phases=[HEAD, ALL])
        ends.append([keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights])
    assert ends[0] == ends[1]


def test_a_stopped_run_goes_on_to_the_same_bytes(train, val, tmp_path):
    """Stopped after each epoch in turn; the resumed run ends where the whole one does."""
    phases = [HEAD, plain_phase("all", epochs=2, trainable="all", batch_norm="trainable")]
    whole = _fresh()
    expected = fit(whole, train, val=val, phases=phases)
    for epoch in (1, 2):
        folder, model = tmp_path / str(epoch), _fresh()
        with pytest.raises(KeyboardInterrupt):
            fit(model, train, val=val, phases=phases, checkpoints=folder, callbacks=[Stop(epoch)])
        resumed = _fresh(seed=9)
        history = fit(resumed, train, val=val, phases=phases, checkpoints=folder, resume=True)
        assert history == expected
        for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
            assert keras.ops.convert_to_numpy(ours).tobytes() == keras.ops.convert_to_numpy(theirs).tobytes()


def test_only_the_last_two_checkpoints_are_kept(model, train, tmp_path):
    fit(model, train, phases=[HEAD, ALL], checkpoints=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002.npz", "epoch-00003.npz"]


def test_a_damaged_checkpoint_is_passed_over(model, train, tmp_path):
    from kerastl.training import newest_checkpoint

    fit(model, train, phases=[ALL], checkpoints=tmp_path)
    (tmp_path / "epoch-00002.npz").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).name == "epoch-00001.npz"


def test_two_replicas_learn_what_one_learns(tmp_path):
    """In a process of its own, as logical devices must be made before TensorFlow starts."""
    import subprocess
    import sys

    script = tmp_path / "two.py"
    script.write_text(
        """
import sys; sys.path[:0] = [sys.argv[1]]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from sources_drawn import ArraySource, drawn
from kerastl.models import build_backbone
from kerastl.training import Phase, build_model, fit
ends = []
phase = Phase("head", epochs=2, learning_rate=1e-2, batch_norm="frozen", cache="none")
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
        model = build_model(backbone, class_names=("dark", "light"), dropout=0.0, seed=3)
    source = ArraySource(*drawn(20))
    history = fit(model, source, phases=[phase], strategy=strategy)
    ends.append((model.get_layer("head").get_weights()[0], [row["loss"] for row in history.rows]))
np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4)
# One image is left for two replicas: none of them may make statistics of nothing.
source = ArraySource(*drawn(17))
fit(model, source, phases=[Phase("all", epochs=2, batch_norm="trainable", cache="none")], strategy=strategy)
assert all(np.isfinite(w.numpy()).all() for w in model.weights)
print("equal")
"""
    )
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, script, str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert "equal" in done.stdout, done.stderr[-2000:]
