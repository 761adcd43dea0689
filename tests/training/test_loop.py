import keras
import numpy as np
import pytest

from kerastl.errors import RequestError, RunFailed
from kerastl.training import Phase, Trainable, build_model, fit

ALL = Phase("all", epochs=2, trainable=Trainable("all"), batch_norm="trainable", keep="last")
HEAD = Phase("head", epochs=1, learning_rate=1e-2)


def _fresh(seed=3):
    from kerastl.backbones import build_backbone

    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=("dark", "light"), seed=seed)


def test_it_learns_what_can_be_learnt(model, train, val):
    phase = Phase("all", epochs=6, trainable=Trainable("all"), batch_norm="trainable")
    history = fit(model, train, val=val, phases=[phase])
    assert max(row["val_accuracy"] for row in history.rows) == 1.0


def test_the_history_has_a_row_an_epoch_counted_over_all_phases(model, train, val):
    history = fit(model, train, val=val, phases=[HEAD, ALL])
    assert [(row["phase"], row["epoch"]) for row in history.rows] == [
        ("head", 1), ("all", 2), ("all", 3),
    ]  # fmt: skip


def test_a_head_phase_moves_the_head_and_nothing_else(model, train):
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    (proof,) = fit(model, train, phases=[HEAD]).proofs
    moved = {
        w.path
        for w in model.weights
        if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    assert moved == {"head/kernel", "head/bias"}
    assert [row["layer"] for row in proof["layers"] if row["moved"]] == ["head"]


def test_a_frozen_variable_that_moves_stops_the_run(model, train):
    class Vandal(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            layer = next(
                layer for layer in self.model.layers if not layer.trainable and layer.weights
            )
            layer.weights[0].assign_add(np.ones(layer.weights[0].shape))

    with pytest.raises(RunFailed, match="frozen variables moved"):
        fit(model, train, phases=[HEAD], callbacks=[Vandal()])


def test_a_rate_of_zero_is_not_training(model, train):
    with pytest.raises(RunFailed, match="no trainable variable moved"):
        fit(model, train, phases=[Phase("head", epochs=1, learning_rate=0.0)])


def test_statistics_may_follow_the_pictures_while_scale_and_offset_stay(model, train):
    before = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    phase = Phase("adapt", epochs=1, batch_norm="statistics")
    (proof,) = fit(model, train, phases=[phase]).proofs
    moved = {
        w.path.rsplit("/", 1)[-1]
        for w in model.weights
        if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))
    }
    assert moved == {"moving_mean", "moving_variance", "kernel", "bias"}
    assert {row["layer"] for row in proof["layers"] if row["moved"]} == {"head"}
    assert any(row["statistics_moved"] for row in proof["layers"])


def test_statistics_of_one_batch_are_those_of_its_pixels(model, train):
    """The first BatchNorm sees the first convolution's output; NumPy gives its mean over all pictures."""
    from kerastl.training import unfreeze
    from kerastl.training.batch_norm import statistics_estimator

    train.batch_size = 16  # the last batch is smaller: it must weigh less
    unfreeze(model, Trainable("all"), batch_norm="trainable")
    statistics_estimator(model)(train)
    norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    seen = keras.Model(model.inputs[0], norm.input)(train.images).numpy()
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)


def test_the_best_epoch_is_gone_back_to(model, train, val):
    from kerastl.training.validation import validate

    phase = Phase("head", epochs=4, learning_rate=0.5, monitor="val_loss")
    history = fit(model, train, val=val, phases=[phase])
    losses = [row["val_loss"] for row in history.rows]
    now = validate(lambda images: model(images, training=False), val)["val_loss"]
    assert now == pytest.approx(min(losses), rel=1e-5)


def test_early_stopping_counts_epochs_without_a_better_value(model, train, val):
    phase = Phase("head", epochs=20, learning_rate=50.0, early_stopping=2, monitor="val_loss")
    history = fit(model, train, val=val, phases=[phase])
    losses = [row["val_loss"] for row in history.rows]
    assert len(losses) == int(np.argmin(losses)) + 3 < 20


def test_a_loss_that_is_not_a_number_is_told_with_its_place(model, train):
    wild = Phase("head", epochs=3, learning_rate=1e38, optimizer="sgd")
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

    class Stop(keras.callbacks.Callback):
        def __init__(self, epoch):
            self.epoch = epoch

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == self.epoch:
                raise KeyboardInterrupt

    phases = [HEAD, Phase("all", epochs=2, trainable=Trainable("all"), batch_norm="trainable")]
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
            assert (
                keras.ops.convert_to_numpy(ours).tobytes()
                == keras.ops.convert_to_numpy(theirs).tobytes()
            )


def test_only_the_last_two_checkpoints_are_kept(model, train, tmp_path):
    fit(model, train, phases=[HEAD, ALL], checkpoints=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-00002.npz",
        "epoch-00003.npz",
    ]


def test_a_damaged_checkpoint_is_passed_over(model, train, tmp_path):
    from kerastl.training import newest_checkpoint

    fit(model, train, phases=[ALL], checkpoints=tmp_path)
    (tmp_path / "epoch-00002.npz").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).name == "epoch-00001.npz"


def test_a_phase_of_a_domain_without_pictures_is_refused(model, train):
    with pytest.raises(RequestError, match="no labelled pictures of its domain"):
        fit(model, train, phases=[Phase("adapt", epochs=1, domain="target")])


def test_two_replicas_learn_what_one_learns(train, tmp_path):
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
from kerastl.backbones import build_backbone
from kerastl.training import Phase, build_model, fit
ends = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=3)
        model = build_model(backbone, class_names=("dark", "light"), dropout=0.0, seed=3)
    source = ArraySource(*drawn(20))
    history = fit(model, source, phases=[Phase("head", epochs=2, learning_rate=1e-2)], strategy=strategy)
    ends.append((model.get_layer("head").get_weights()[0], [row["loss"] for row in history.rows]))
np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4)
print("equal")
"""
    )
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, script, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "equal" in done.stdout, done.stderr[-2000:]
