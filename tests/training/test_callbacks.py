"""Keras callbacks in `kerastl.training.fit`."""

import csv

import keras
import pytest
from array_dataset import phase_with, plain_phase
from stopping import Stop, snapshots

from kerastl.training import fit

THREE = plain_phase("head", epochs=3, learning_rate=1e-2)


def train_with(model, train, val, callback, phase=THREE):
    return fit(model, train, val=val, phases=[phase], callbacks=[callback])


def test_callbacks_see_and_set_every_epoch(model, train, val, tmp_path):
    """The last weights are kept, so the model ends with those of the last file."""
    calls = []
    names = [f"on_{what}_{edge}" for what in ("train", "epoch", "train_batch") for edge in ("begin", "end")]
    record = keras.callbacks.LambdaCallback(
        **{name: lambda *_, name=name, **__: calls.append(name) for name in names}
    )
    history = keras.callbacks.History()
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    rate = keras.callbacks.LearningRateScheduler(lambda epoch, _: 10.0 ** -(epoch + 2))
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    callbacks = [record, history, log, keras.callbacks.TerminateOnNaN(), rate, saved]
    rows = fit(model, train, val=val, phases=[phase_with(THREE, keep="last")], callbacks=callbacks).rows
    losses = [row["val_loss"] for row in rows]
    assert len(losses) == 3
    assert (history.epoch, history.history["val_loss"]) == ([0, 1, 2], losses)
    with (tmp_path / "log.csv").open() as file:
        logged = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert logged == pytest.approx(losses)
    steps = ["on_train_batch_begin", "on_train_batch_end"] * train.steps_per_epoch
    epoch = ["on_epoch_begin", *steps, "on_epoch_end"]
    assert calls == ["on_train_begin", *epoch * 3, "on_train_end"]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-2, 1e-3, 1e-4])
    assert sorted(tmp_path.glob("*.h5")) == [tmp_path / f"{epoch}.weights.h5" for epoch in (1, 2, 3)]
    last = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.get_layer("head").bias.assign([9.0, 9.0])
    model.load_weights(tmp_path / "3.weights.h5")
    for value, weight in zip(last, model.weights, strict=True):
        assert (value == keras.ops.convert_to_numpy(weight)).all()


@pytest.mark.slow
def test_early_stopping_ends_the_phase(model, train, val):
    callback = keras.callbacks.EarlyStopping(monitor="loss", min_delta=1e9, patience=0)
    assert len(train_with(model, train, val, callback).rows) == 2


@pytest.mark.slow
def test_weights_set_by_a_callback_at_the_end_of_an_epoch_are_kept(model, train, val):
    class Marks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.get_layer("head").bias.assign([epoch + 1.0, -1.0])

    best, _ = train_with(model, train, val, Marks()).best["source"]
    assert keras.ops.convert_to_numpy(model.get_layer("head").bias).tolist() == [best, -1.0]


@pytest.mark.slow
def test_a_backup_is_restored_and_removed_at_the_end(model, train, tmp_path):
    backup = tmp_path / "backup"
    with pytest.raises(KeyboardInterrupt):
        fit(
            model, train, phases=[THREE],
            callbacks=[keras.callbacks.BackupAndRestore(backup), Stop(1)],
        )  # fmt: skip
    assert backup.exists()
    callback = keras.callbacks.BackupAndRestore(backup)
    rows = fit(model, train, phases=[THREE], callbacks=[callback]).rows
    assert [row["epoch"] for row in rows] == [2, 3]
    assert not backup.exists()


@pytest.mark.slow
def test_a_plateau_is_counted_on_after_an_interruption(model, train, tmp_path):
    """Resumed after the first epoch without progress, the learning rate falls as in an uninterrupted run."""

    def callbacks():
        plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=2, min_delta=1e9)
        return [plateau, keras.callbacks.Callback()]

    checkpoints = tmp_path / "whole"
    phase = plain_phase("head", epochs=4, learning_rate=1e-2)
    whole = fit(
        model, train, phases=[phase], callbacks=callbacks(), checkpoints=checkpoints,
        on_epoch=snapshots(checkpoints),
    )  # fmt: skip
    resumed = fit(
        model, train, phases=[phase], callbacks=callbacks(), checkpoints=tmp_path / "whole-2",
        resume=True,
    )  # fmt: skip
    rates = [[row["learning_rate"] for row in history.rows] for history in (whole, resumed)]
    assert rates[0] == rates[1] == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3])


@pytest.mark.slow
def test_the_fit_method_of_keras_works_on_the_model(model, train):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    assert len(model.fit(train.images, train.labels, epochs=2, verbose=0).history["loss"]) == 2
