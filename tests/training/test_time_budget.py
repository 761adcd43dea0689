"""The callback that ends phases when their time is used up, with a clock that the test sets."""

from collections import Counter
from types import SimpleNamespace

import keras
import pytest
from array_dataset import plain_phase

from kerastl.callbacks import TimeBudget
from kerastl.training import fit

EPOCH_S = 1.0


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("kerastl.callbacks.time", fake)
    return clock


class Epochs(keras.callbacks.Callback):
    """Let each epoch take one second, and interrupt the training after some of them."""

    def __init__(self, clock, stop=None):
        super().__init__()
        self.clock, self.stop = clock, stop

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.stop:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.clock.now += EPOCH_S


def epochs_run(clock, model, train, seconds, phases, *, stop=None, **options):
    callbacks = [Epochs(clock, stop), TimeBudget(seconds, phases)]
    history = fit(model, train, phases=phases, callbacks=callbacks, **options)
    return list(Counter(row["phase"] for row in history.rows).values())


def test_phases_share_the_time_by_their_epochs(clock, model, train):
    phases = [plain_phase("a", epochs=4), plain_phase("b", epochs=12)]
    assert epochs_run(clock, model, train, 8.0, phases) == [2, 6]


@pytest.mark.slow
def test_time_that_a_phase_does_not_use_is_left_to_the_next(clock, model, train):
    phases = [plain_phase("a", epochs=1), plain_phase("b", epochs=3)]
    assert epochs_run(clock, model, train, 3.9, phases) == [1, 2]
    early = [plain_phase("a", epochs=4, early_stopping=1), plain_phase("b", epochs=4)]
    budget = TimeBudget(4.0, early)
    budget.elapsed_s, budget.phase_index = 1.0, 0
    budget.set_model(model)
    budget.on_train_begin()
    model.stop_training = False
    for epoch in range(3):
        budget.on_epoch_begin(epoch)
        clock.now += EPOCH_S
        assert not model.stop_training
        budget.on_epoch_end(epoch)
    assert model.stop_training


@pytest.mark.slow
def test_every_phase_trains_for_at_least_one_epoch(clock, model, train):
    phases = [plain_phase("a", epochs=5), plain_phase("b", epochs=5)]
    assert epochs_run(clock, model, train, 10.0, phases) == [5, 5]
    assert epochs_run(clock, model, train, 1e-6, phases) == [1, 1]


@pytest.mark.slow
def test_a_resumed_training_has_the_rest_of_the_budget(clock, model, train, tmp_path):
    phases = [plain_phase("a", epochs=6), plain_phase("b", epochs=6)]
    with pytest.raises(KeyboardInterrupt):
        epochs_run(clock, model, train, 8.0, phases, stop=2, checkpoints=tmp_path)
    clock.now += 1000.0  # time between the two commands does not count
    options = {"checkpoints": tmp_path, "resume": True}
    assert epochs_run(clock, model, train, 8.0, phases, **options) == [4, 4]
