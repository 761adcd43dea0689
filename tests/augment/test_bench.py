import numpy as np
import pytest

from kerastl.augment.bench import WHOLE, bench_policy
from kerastl.errors import Problems, RequestError

BRIEF = {"image_size_px": 16, "batch_size": 2, "rounds": 1, "seconds": 0.0}
TURN = {"name": "random_rotation", "max_deg": 15}
HUE = {"name": "random_hue", "max_deg": 20}


@pytest.fixture(scope="module")
def rows():
    return bench_policy([TURN, {"name": "random_cutout", "max_fraction": 0.2}], **BRIEF)


def test_each_operation_has_a_row_and_the_whole_policy_comes_last(rows):
    assert [row.name for row in rows] == ["random_rotation", "random_cutout", WHOLE]
    for row in rows:
        assert row.keras_cv > 0, row.reason
        assert row.exact > 0
        assert row.compiled > 0
        # Of one round the ratio of the medians is the median of the ratios.
        assert row.speedup == pytest.approx(row.compiled / row.keras_cv)


def test_a_row_says_how_its_operation_is_lowered(rows):
    assert [row.lowering for row in rows] == ["folded", "compiled", "folded, compiled"]


def test_a_row_says_where_the_layer_is_not_keras_cvs_own(rows):
    # keras-cv 0.9.0's cutout loses area at the border, so that kerastl has its own.
    assert [row.corrected for row in rows][1:] == [True, True]


def test_a_single_operation_is_the_whole_policy_and_is_timed_once():
    pictures = np.zeros([1, 16, 16, 3], np.uint8)
    (row,) = bench_policy([{**TURN, "max_deg": 0}], pictures=pictures, **BRIEF)
    assert (row.name, row.lowering) == ("random_rotation", "nothing")


def test_a_layer_that_cannot_be_called_as_keras_cv_does_is_told_and_the_rest_timed(monkeypatch):
    from kerastl.augment import bench

    class Refuses:
        __module__ = "keras_cv.layers"

        def __call__(self, images, training):
            raise TypeError("wants labels")

    monkeypatch.setattr(bench, "_layer", lambda operation: Refuses())
    (row,) = bench_policy([HUE], **BRIEF)
    assert (row.keras_cv, row.speedup, row.reason) == (None, None, "TypeError: wants labels")
    assert row.compiled > 0


def test_a_container_of_our_own_is_timed_without_keras_cvs_and_says_why():
    choice = {"name": "random_choice", "operations": [HUE]}
    (row,) = bench_policy([choice], **BRIEF)
    assert row.keras_cv is None
    assert row.corrected
    assert "stands in for keras-cv's" in row.reason
    assert row.compiled > 0


def test_grey_pictures_are_timed_and_keras_cvs_own_layer_is_known():
    (row,) = bench_policy([{"name": "random_zoom", "max_fraction": 0.2}], channels=1, **BRIEF)
    assert row.compiled > 0
    assert not row.corrected


def test_what_cannot_be_timed_is_refused():
    with pytest.raises(RequestError, match="no operations to time"):
        bench_policy([], **BRIEF)
    with pytest.raises(RequestError, match=r"must be \[count, 16, 16, 3\], got \[1, 8, 8, 3\]"):
        bench_policy([TURN], pictures=np.zeros([1, 8, 8, 3]), **BRIEF)
    with pytest.raises(Problems, match="max_degrees"):
        bench_policy([{"name": "random_rotation", "max_degrees": 15}], **BRIEF)
