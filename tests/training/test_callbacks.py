"""Keras's own callbacks under our loop."""

import csv

import keras
import pytest
from sources_drawn import plain_phase

from kerastl.training import fit

THREE = plain_phase("head", epochs=3, learning_rate=1e-2)


def told(model, train, val, callback, phase=THREE):
    return fit(model, train, val=val, phases=[phase], callbacks=[callback])


def test_history_sees_what_our_history_holds(model, train, val):
    callback = keras.callbacks.History()
    rows = told(model, train, val, callback).rows
    assert callback.history["val_loss"] == [row["val_loss"] for row in rows]
    assert callback.epoch == [0, 1, 2]


def test_early_stopping_ends_the_phase(model, train, val):
    callback = keras.callbacks.EarlyStopping(monitor="loss", min_delta=1e9, patience=0)
    assert len(told(model, train, val, callback).rows) == 2


def test_a_checkpoint_is_a_model_that_opens(model, train, tmp_path):
    """Without validation the last weights stay, so the model ends with those of the last file."""
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    fit(model, train, phases=[THREE], callbacks=[callback])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{epoch}.weights.h5" for epoch in (1, 2, 3)]
    last = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.get_layer("head").bias.assign([9.0, 9.0])
    model.load_weights(tmp_path / "3.weights.h5")
    for value, weight in zip(last, model.weights, strict=True):
        assert (value == keras.ops.convert_to_numpy(weight)).all()


def test_what_a_callback_makes_of_the_weights_at_an_epochs_end_is_what_is_kept(model, train, val):
    class Marks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.get_layer("head").bias.assign([epoch + 1.0, -1.0])

    best, _ = told(model, train, val, Marks()).best["source"]
    assert keras.ops.convert_to_numpy(model.get_layer("head").bias).tolist() == [best, -1.0]


def test_the_rate_falls_on_a_plateau(model, train, val):
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=1e9)
    rates = [row["learning_rate"] for row in told(model, train, val, callback).rows]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3])


def test_a_schedule_of_keras_sets_the_rate(model, train, val):
    callback = keras.callbacks.LearningRateScheduler(lambda epoch, _: 10.0 ** -(epoch + 2))
    rates = [row["learning_rate"] for row in told(model, train, val, callback).rows]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4])


def test_a_log_has_a_row_an_epoch(model, train, val, tmp_path):
    rows = told(model, train, val, keras.callbacks.CSVLogger(tmp_path / "log.csv")).rows
    with (tmp_path / "log.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in logged] == pytest.approx([row["val_loss"] for row in rows])


def test_every_call_comes_in_its_order(model, train, val):
    calls = []
    names = [f"on_{what}_{edge}" for what in ("train", "epoch", "train_batch") for edge in ("begin", "end")]
    callback = keras.callbacks.LambdaCallback(
        **{name: lambda *_, name=name, **__: calls.append(name) for name in names}
    )
    told(model, train, val, callback, plain_phase("head", epochs=1, learning_rate=1e-2))
    steps = ["on_train_batch_begin", "on_train_batch_end"] * train.steps_per_epoch
    assert calls == ["on_train_begin", "on_epoch_begin", *steps, "on_epoch_end", "on_train_end"]


def test_terminate_on_nan_is_quiet_when_all_is_well(model, train, val):
    assert len(told(model, train, val, keras.callbacks.TerminateOnNaN()).rows) == 3


class StopAt(keras.callbacks.Callback):
    """A power cut at the beginning of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_backup_is_gone_on_from_and_taken_away_at_the_end(model, train, tmp_path):
    backup = tmp_path / "backup"
    with pytest.raises(KeyboardInterrupt):
        fit(
            model, train, phases=[THREE],
            callbacks=[keras.callbacks.BackupAndRestore(backup), StopAt(1)],
        )  # fmt: skip
    assert backup.exists()
    callback = keras.callbacks.BackupAndRestore(backup)
    rows = fit(model, train, phases=[THREE], callbacks=[callback]).rows
    assert [row["epoch"] for row in rows] == [2, 3]
    assert not backup.exists()


def test_a_patience_goes_on_where_it_was(model, train, tmp_path):
    """Resumed after the first epoch without progress, the rate falls as in a run in one piece."""

    def plateau():
        return keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=2, min_delta=1e9)

    phase = plain_phase("head", epochs=4, learning_rate=1e-2)
    whole = fit(model, train, phases=[phase], callbacks=[plateau(), StopAt(99)])
    model.get_layer("head").bias.assign([0.0, 0.0])
    with pytest.raises(KeyboardInterrupt):
        fit(model, train, phases=[phase], callbacks=[plateau(), StopAt(2)], checkpoints=tmp_path)
    resumed = fit(
        model, train, phases=[phase], callbacks=[plateau(), StopAt(99)], checkpoints=tmp_path,
        resume=True,
    )  # fmt: skip
    rates = [[row["learning_rate"] for row in history.rows] for history in (whole, resumed)]
    assert rates[0] == rates[1] == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3])


def test_keras_own_fit_works_on_the_model(model, train):
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = train.images, train.labels
    assert len(model.fit(images, labels, epochs=2, verbose=0).history["loss"]) == 2
