"""The remaining time, and the progress bar on a terminal."""

import os
import pty
import subprocess
import sys

import keras
import pytest
from array_dataset import plain_phase

from kerastl.console import format_duration
from kerastl.training import fit
from kerastl.training.checkpoint import TrainingState
from kerastl.training.loop import EpochTimer

HEAD, TUNE = plain_phase("head", epochs=4), plain_phase("tune", epochs=10, early_stopping=3)


def standing(phase, epochs, *, stopped=False):
    return TrainingState(phase=phase, phase_epochs=epochs, stopped=stopped)


def test_first_epoch_of_a_phase_counts_only_while_it_is_the_only_one():
    clock = EpochTimer([HEAD])
    assert clock.add_epoch(9.0, standing(0, 1))["seconds_left"] == 27.0
    assert clock.add_epoch(2.0, standing(0, 2))["seconds_left"] == 4.0
    assert clock.add_epoch(3.0, standing(0, 3))["seconds_left"] == 2.5
    assert clock.add_epoch(3.0, standing(0, 4)) == {
        "seconds_left": 0.0, "at_most": False, "untimed": [],
    }  # fmt: skip


def test_later_phases_are_untimed():
    assert EpochTimer([HEAD, TUNE]).add_epoch(2.0, standing(0, 1)) == {
        "seconds_left": 6.0, "at_most": True, "untimed": ["tune"],
    }  # fmt: skip


def test_epochs_of_one_phase_do_not_count_for_the_next():
    clock = EpochTimer([HEAD, TUNE])
    for epoch in range(4):
        clock.add_epoch(2.0, standing(0, epoch + 1))
    assert clock.add_epoch(30.0, standing(1, 1))["seconds_left"] == 270.0
    stopped = clock.add_epoch(20.0, standing(1, 2, stopped=True))
    assert stopped == {"seconds_left": 0.0, "at_most": False, "untimed": []}


def test_progress_bar_is_shown_for_long_epochs():
    clock = EpochTimer([HEAD])
    assert clock.shows_progress_bar
    clock.add_epoch(0.1, standing(0, 1))
    assert not clock.shows_progress_bar
    clock.add_epoch(5.0, standing(0, 2))
    assert clock.shows_progress_bar


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (660, "11 min"),
     (3600, "1 h"), (7500, "2 h 5 min")],
)  # fmt: skip
def test_format_duration(seconds, words):
    assert format_duration(seconds) == words


@pytest.mark.slow
def test_fit_reports_the_remaining_time_after_each_epoch(model, train, val):
    timings = []
    phases = [plain_phase("a", epochs=2), plain_phase("b", epochs=1, trainable="all")]
    fit(model, train, val=val, phases=phases, on_epoch=lambda _, timing: timings.append(timing))
    assert [timing["seconds_left"] > 0 for timing in timings] == [True, False, False]
    assert [timing["untimed"] for timing in timings] == [["b"], ["b"], []]


WATCHED = """
import time
from kerastl.console import print_status, track
def batches():
    for number in range(4):
        time.sleep(0.15)
        yield number
for _ in track(batches(), "epoch 1, tune", 4):
    pass
print_status("  epoch 1/1  done")
"""


def test_progress_bar_is_shown_on_a_terminal_only():
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", WATCHED], stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux: the other end is closed
        pass
    os.close(ours)
    assert b"epoch 1, tune" in shown
    assert b"epoch 1/1  done" in shown
    piped = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, check=True)
    assert piped.stderr == b"  epoch 1/1  done\n"


@pytest.mark.slow
def test_error_during_a_progress_bar_removes_it(model, train, monkeypatch):
    """The progress bar is closed before the error is printed."""
    ended = []

    def watched(items, *_):
        try:
            yield from items
        finally:
            ended.append(True)

    monkeypatch.setattr("kerastl.training.loop.track", watched)

    class Fault(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken") as error:
        fit(model, train, phases=[HEAD], callbacks=[Fault()])
    assert error.tb is not None  # it keeps every frame alive: nothing is closed by being forgotten
    assert ended == [True]
