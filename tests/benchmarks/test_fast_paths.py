"""Verdicts and results of the benchmark of the caches."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fast_paths():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)  # as when the script is run
        return importlib.import_module("fast_paths")


def test_the_interval_of_a_mean_equals_that_of_a_t_test(fast_paths):
    differences = [0.01, -0.02, 0.015, 0.0, 0.005]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert fast_paths.interval(differences) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("differences", "spread", "expected"),
    [
        ([0.0, 0.0, 0.0], 0.0, "within seed spread"),
        ([0.01, -0.01, 0.0], 0.01, "within seed spread"),
        # Always slightly lower, by less than the spread over seeds.
        ([-0.003, -0.002, -0.003, -0.002], 0.02, "within seed spread"),
        ([-0.05, -0.051, -0.049], 0.01, "worse"),
        ([0.05, 0.051, 0.049], 0.01, "better"),
        # The mean is small enough, but the interval exceeds the spread and excludes 0.
        ([-0.009, -0.009, -0.0095, -0.0085], 0.0091, "worse"),
    ],
)
def test_the_verdict_follows_the_rule(fast_paths, differences, spread, expected):
    assert fast_paths.verdict(differences, spread) == expected


def test_a_path_is_compared_with_the_plain_path_per_seed(fast_paths):
    correct, wrong = [[5.0, 0.0]], [[0.0, 5.0]]
    plain = [np.array(correct * 8 + wrong * 2), np.array(correct * 6 + wrong * 4)]
    fast = [np.array(correct * 7 + wrong * 3), np.array(correct * 5 + wrong * 5)]
    labels = np.zeros(10, int)
    runs = [
        ({fast_paths.PLAIN: before, "fast": after}, labels) for before, after in zip(plain, fast, strict=True)
    ]
    comparison = fast_paths.compare_paths(runs)
    assert comparison[fast_paths.PLAIN]["accuracy"] == pytest.approx(0.7)
    assert comparison[fast_paths.PLAIN]["sd"] == pytest.approx(np.std([0.8, 0.6], ddof=1))
    assert comparison["fast"]["difference"] == pytest.approx(-0.1)
    assert comparison["fast"]["changed_predictions"] == pytest.approx(0.1)
    assert comparison["fast"]["verdict"] == "within seed spread"


def test_the_first_path_of_each_part_is_the_plain_path(fast_paths):
    assert all(next(iter(paths)) == fast_paths.PLAIN for paths in fast_paths.PATHS.values())
