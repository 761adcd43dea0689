import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from array_dataset import plain_phase
from stopping import snapshots

from kerastl.errors import PermanentFailure, RequestError, RunFailed
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock, LayerNames, TopFraction
from kerastl.training import fit, newest_checkpoint, resolve_trainable, unfreeze

ALL = plain_phase("all", epochs=2, trainable="all", batch_norm="trainable", keep="last")
HEAD = plain_phase("head", epochs=1, learning_rate=1e-2)


def _fresh(seed=3):
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=("dark", "light"), seed=seed)


def _bytes_of(model):
    return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]


def test_two_phases_reach_full_accuracy_and_the_first_changes_only_the_head(model, train, val, tmp_path):
    tune = plain_phase("all", epochs=6, trainable="all", batch_norm="trainable")
    start, ends = _values(model), []
    history = fit(
        model, train, val=val, phases=[HEAD, tune], checkpoints=tmp_path,
        on_phase_end=lambda *_: ends.append(_values(model)),
    )  # fmt: skip
    assert max(row["val_accuracy"] for row in history.rows) == 1.0
    rows = [(row["phase"], row["epoch"]) for row in history.rows]
    assert rows == [("head", 1), *(("all", epoch) for epoch in range(2, 8))]
    changed = {path for path in start if not np.array_equal(start[path], ends[0][path])}
    assert changed == {"head/kernel", "head/bias"}
    moved = [row["layer"] for row in history.freeze_reports[0]["layers"] if row["changed"]]
    assert moved == ["head"]
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["epoch-00006.npz", "epoch-00007.npz"], "only the last two checkpoints are kept"


def _values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


@pytest.mark.slow
def test_a_frozen_variable_that_changes_stops_the_run(model, train):
    class Vandal(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weight = self.model.get_layer("block_2_conv").weights[0]
            weight.assign_add(np.ones(weight.shape))

    with pytest.raises(RunFailed, match="block_2_conv"):
        fit(model, train, phases=[HEAD], callbacks=[Vandal()])


@pytest.mark.slow
def test_a_phase_in_which_no_trainable_variable_changes_stops_the_run(model, train):
    phase = plain_phase("head", epochs=1).model_copy(update={"learning_rate": 0.0})
    with pytest.raises(RunFailed, match="phase head"):
        fit(model, train, phases=[phase])


@pytest.mark.slow
def test_batch_norm_statistics_are_updated_while_scale_and_offset_stay(model, train):
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    phase = plain_phase("adapt", epochs=1, batch_norm="statistics")
    (report,) = fit(model, train, phases=[phase]).freeze_reports
    moved = {
        w.path.rsplit("/", 1)[-1]
        for w in model.weights
        if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    assert moved == {"moving_mean", "moving_variance", "kernel", "bias"}
    assert {row["layer"] for row in report["layers"] if row["changed"]} == {"head"}
    assert any(row["statistics_changed"] for row in report["layers"])


def test_estimated_statistics_are_those_of_the_pixels(model, train):
    """The input of the first BatchNorm is the first convolution; NumPy computes its mean over all images."""
    from kerastl.training import build_statistics_estimator

    train.batch_size = 16  # the last batch is smaller: it must weigh less
    unfreeze(model, "all", batch_norm="trainable")
    build_statistics_estimator(model)(train)
    norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    seen = keras.Model(model.inputs[0], norm.input)(train.images).numpy()
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)


def test_a_later_estimate_is_that_of_a_new_estimator(model, train):
    """Later estimates share the images of the first one, but not its statistics."""
    from kerastl.data import ArrayDataset as PublicDataset
    from kerastl.training import build_statistics_estimator

    dataset = PublicDataset(
        train.images, train.labels, class_names=train.class_names, augment="light", batch_size=16
    )
    unfreeze(model, "all", batch_norm="trainable")
    norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    estimate = build_statistics_estimator(model)
    estimate(dataset)
    first = norm.moving_mean.numpy()
    kernel = model.trainable_weights[0]
    kernel.assign(2 * kernel)
    estimate(dataset)
    later = norm.moving_mean.numpy()
    build_statistics_estimator(model)(dataset)
    np.testing.assert_array_equal(later, norm.moving_mean)
    np.testing.assert_allclose(later, 2 * first, rtol=1e-5, atol=1e-6)
    assert np.any(first)


def test_the_weights_of_the_best_epoch_are_restored(model, train, val):
    from kerastl.training.loop import validate

    phase = plain_phase("head", epochs=3, monitor="val_loss")
    worse_at_last = keras.callbacks.LearningRateScheduler(lambda epoch, _: (1e-2, 1e-2, 50.0)[epoch])
    history = fit(model, train, val=val, phases=[phase], callbacks=[worse_at_last])
    losses = [row["val_loss"] for row in history.rows]
    assert losses[-1] > min(losses), "the last epoch is the best: the test cannot show anything"
    (metrics,) = validate([lambda images: model(images, training=False)], val)
    assert metrics["val_loss"] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.slow
def test_early_stopping_counts_epochs_without_a_better_value(model, train, val):
    phase = plain_phase("head", epochs=20, early_stopping=2, monitor="val_loss").model_copy(
        update={"learning_rate": 50.0}
    )
    history = fit(model, train, val=val, phases=[phase])
    losses = [row["val_loss"] for row in history.rows]
    assert len(losses) == int(np.argmin(losses)) + 3 < 20


@pytest.mark.slow
def test_monitored_values_of_two_phases_are_not_compared(model, train, val):
    """An accuracy of at most 1 is not compared with a loss of 18: the second phase has its own best value."""
    first = plain_phase("bad", epochs=1, monitor="val_loss").model_copy(update={"learning_rate": 50.0})
    second = plain_phase("good", epochs=4, learning_rate=1e-2, monitor="val_accuracy", early_stopping=4)
    history = fit(model, train, val=val, phases=[first, second])
    assert history.rows[0]["val_loss"] > 1
    accuracies = [row["val_accuracy"] for row in history.rows if row["phase"] == "good"]
    assert history.best["source"][1] == max(accuracies)


def test_impossible_phases_are_refused_together_before_the_first_phase_runs(model, train):
    before = _bytes_of(model)
    phases = [
        HEAD,
        plain_phase("unknown", epochs=1, trainable=FromBlock(from_block="blok_2")),
        plain_phase("part", epochs=1, trainable=LayerNames(names="block")),
        plain_phase("stop", epochs=5, early_stopping=2),
    ]
    with pytest.raises(RequestError) as error:
        fit(model, train, phases=phases)
    for problem in ("phase unknown.*block_2", "phase part.*block", "phase stop.*validation"):
        assert re.search(problem, str(error.value))
    with pytest.raises(RequestError, match=r"phase adapt.*domain"):
        fit(model, train, phases=[HEAD, plain_phase("adapt", epochs=1, domain="target")])
    assert _bytes_of(model) == before


def test_the_auc_of_a_validation_set_with_one_class_cannot_be_monitored(model, train, val):
    val.images, val.labels = val.images[val.labels == 0], val.labels[val.labels == 0]
    with pytest.raises(RequestError, match="'light'"):
        fit(model, train, val=val, phases=[plain_phase("head", epochs=1, monitor="val_auc")])


@pytest.mark.slow
def test_kept_state_of_another_optimizer_type_is_discarded(model, train):
    tune = plain_phase(
        "tune", epochs=1, learning_rate=1e-3, trainable="all", optimizer="adamw", optimizer_state="keep"
    )
    history = fit(model, train, phases=[HEAD, tune])
    assert np.isfinite(history.rows[-1]["loss"])
    assert int(model.optimizer.iterations) == train.steps_per_epoch


def test_a_nan_weight_restores_the_last_good_epoch(model, train, tmp_path):
    class Blow(keras.callbacks.Callback):
        """Sets a weight to NaN after the last step of the second epoch, which no loss shows."""

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 1 and batch == train.steps_per_epoch - 1:
                self.model.get_layer("head").bias.assign([np.nan, 0.0])

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_epoch_end(self, epoch, logs=None):
            self.good = keras.ops.convert_to_numpy(self.model.get_layer("head").bias)

    blow = Blow()
    phase = plain_phase("head", epochs=4, learning_rate=1e-2)
    with pytest.raises(PermanentFailure, match="epoch 1"):
        fit(model, train, phases=[phase], callbacks=[blow], checkpoints=tmp_path)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("head").bias), blow.good)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001.npz"]


def test_the_trainable_layers_are_those_that_were_named(model):
    for trainable, blocks in (
        (TopFraction(top_fraction=0.01), {"block_3"}),
        (FromBlock(from_block="block_2"), {"block_2", "block_3"}),
        (LayerNames(names="block_1.*"), {"block_1"}),
        (LayerNames(names="block_1_conv"), {"block_1"}),
    ):
        assert {name[:7] for name in resolve_trainable(model, trainable)} == blocks


@pytest.mark.slow
def test_a_cosine_schedule_follows_a_linear_warmup(model, train):
    """One epoch of warmup, then half a cosine over three epochs."""
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

    from kerastl.tasks import SINGLE_LABEL
    from kerastl.training.losses import balanced_weights

    labels = np.array([0, 0, 0, 1, 2, 2], np.int32)
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2, reduction="none")(
        np.eye(3, dtype=np.float32)[labels], logits
    )
    ours = SINGLE_LABEL.loss(labels, logits, label_smoothing=0.2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(
        balanced_weights(labels, 3),
        compute_class_weight("balanced", classes=np.arange(3), y=labels),
        rtol=1e-6,
    )


@pytest.mark.slow
def test_infinite_loss_is_reported_with_phase_epoch_step_and_learning_rate(model, train):
    wild = plain_phase("head", epochs=3, optimizer="sgd").model_copy(update={"learning_rate": 1e38})
    with pytest.raises(RunFailed, match=r"phase head, epoch 1, step \d.*1e\+37"):
        fit(model, train, phases=[wild])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(train, val, tmp_path):
    """Resumes at the start of a phase and within a phase."""
    phases, checkpoints, whole = [HEAD, ALL], tmp_path / "whole", _fresh()
    expected = fit(
        whole, train, val=val, phases=phases, checkpoints=checkpoints, on_epoch=snapshots(checkpoints)
    )
    for epoch in (1, 2):
        resumed = _fresh(seed=9)
        history = fit(
            resumed, train, val=val, phases=phases, checkpoints=tmp_path / f"whole-{epoch}", resume=True
        )
        assert history == expected
        assert _bytes_of(resumed) == _bytes_of(whole)


def test_a_damaged_checkpoint_is_skipped_and_checkpoints_of_another_run_are_refused(model, train, tmp_path):
    np.savez(tmp_path / "epoch-00001.npz", whole=1)
    (tmp_path / "epoch-00002.npz").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).name == "epoch-00001.npz"
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RequestError, match=re.escape(str(tmp_path))):
        fit(model, train, phases=[HEAD], checkpoints=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


TWO_REPLICAS = """
import sys; sys.path[:0] = [sys.argv[1]]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from array_dataset import ArrayDataset, make_images
from kerastl.models import build_backbone
from kerastl.models import build_model
from kerastl.recipe import Phase
from kerastl.training import fit
ends = []
phase = Phase("head", epochs=2, learning_rate=1e-2, batch_norm="frozen", cache="none")
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
        model = build_model(backbone, class_names=("dark", "light"), dropout=0.0, seed=3)
    source = ArrayDataset(*make_images(12))
    history = fit(model, source, phases=[phase], strategy=strategy)
    ends.append((model.get_layer("head").get_weights()[0], [row["loss"] for row in history.rows]))
np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4)
# One image is left for two replicas: no replica may compute statistics of an empty batch.
source = ArrayDataset(*make_images(9))
fit(model, source, phases=[Phase("all", epochs=1, batch_norm="trainable", cache="none")], strategy=strategy)
assert all(np.isfinite(w.numpy()).all() for w in model.weights)
print("equal")
"""


@pytest.mark.slow
def test_two_replicas_train_as_one_device_does(tmp_path):
    """Runs in a separate process, because logical devices must be configured before TensorFlow starts."""
    script = tmp_path / "two.py"
    script.write_text(TWO_REPLICAS)
    done = subprocess.run(
        [sys.executable, script, str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert "equal" in done.stdout, done.stderr[-2000:]
