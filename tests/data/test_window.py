"""The window of 16-bit images, against NumPy's percentiles."""

import numpy as np
from images_drawn import noise, write

from kerastl.data import Record, auto_window


def test_the_window_is_the_percentiles_over_all_images_together(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.normal(1000 + 200 * i, 150, (64, 64)).clip(0, 4095).astype(np.uint16) for i in range(4)]
    records = [Record(f"{i}.png", write(tmp_path / f"{i}.png", one), "a") for i, one in enumerate(pixels)]
    records.append(Record("grey.png", write(tmp_path / "grey.png", noise()), "a"))
    low, high = auto_window(records)
    wanted = np.percentile(np.stack(pixels), [0.5, 99.5])
    assert abs(low - wanted[0]) <= 1
    assert abs(high - wanted[1]) <= 1


def test_without_sixteen_bit_images_there_is_no_window(tmp_path):
    assert auto_window([Record("a.png", write(tmp_path / "a.png", noise()), "a")]) is None


def test_images_of_one_level_still_have_a_window(tmp_path):
    file = write(tmp_path / "a.png", np.full((5, 5), 900, np.uint16))
    assert auto_window([Record("a.png", file, "a")]) == (900.0, 901.0)
