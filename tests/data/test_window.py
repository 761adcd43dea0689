"""The automatic window of 16-bit images, compared with NumPy percentiles."""

import os

import numpy as np
import pytest
from make_images import noise, write

from kerastl.data import Record, auto_window
from kerastl.data.window import training_window


def test_window_is_the_percentiles_over_all_images(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.normal(1000 + 200 * i, 150, (64, 64)).clip(0, 4095).astype(np.uint16) for i in range(4)]
    records = [
        Record(f"{i}.png", write(tmp_path / f"{i}.png", values), "a") for i, values in enumerate(pixels)
    ]
    records.append(Record("gray.png", write(tmp_path / "gray.png", noise()), "a"))
    low, high = auto_window(records)
    expected = np.percentile(np.stack(pixels), [0.5, 99.5])
    assert abs(low - expected[0]) <= 1
    assert abs(high - expected[1]) <= 1


def test_without_16_bit_images_there_is_no_window(tmp_path):
    assert auto_window([Record("a.png", write(tmp_path / "a.png", noise()), "a")]) is None


def test_constant_images_have_a_window(tmp_path):
    file = write(tmp_path / "a.png", np.full((5, 5), 900, np.uint16))
    assert auto_window([Record("a.png", file, "a")]) == (900.0, 901.0)


@pytest.mark.parametrize("highest", [255, 1023, 4095])
def test_images_that_are_much_darker_than_others_are_reported(tmp_path, capsys, highest):
    rng = np.random.default_rng(0)
    tops = [65535] * 9 + [highest]
    records = [
        Record(f"{i}.png", write(tmp_path / f"{i}.png", rng.integers(0, top, (32, 32), np.uint16)), "a")
        for i, top in enumerate(tops)
    ]
    auto_window(records)
    assert "1 of 10 16-bit training images are nearly black" in capsys.readouterr().err
    auto_window(records[:9])
    assert not capsys.readouterr().err


def test_named_pipe_is_not_opened(tmp_path):
    """Opening it would block until another process writes to it."""
    os.mkfifo(tmp_path / "a.png")
    assert training_window([Record("a.png", tmp_path / "a.png", "a")]) is None
