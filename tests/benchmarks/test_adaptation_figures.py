"""Summaries of the adaptation benchmark: gaps, regret, counts and tables."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "adaptation_figures.py"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("adaptation_figures", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["adaptation_figures"] = module
    spec.loader.exec_module(module)
    return module


def make_result(chosen, outcome=None, **values):
    result = {"values": values, "chosen": chosen}
    return result if outcome is None else {**result, "outcome": outcome, "verdict": "adapt", "guards": []}


def test_gap_closed_is_the_gain_of_the_selected_method_relative_to_the_gap(figures):
    assert figures.gap_closed(make_result("coral", source_only=0.5, coral=0.7, shot=0.9)) == pytest.approx(
        0.5
    )
    assert figures.gap_closed(make_result("shot", source_only=0.5, coral=0.7, shot=0.9)) == pytest.approx(1)


def test_gap_closed_is_negative_for_a_method_below_source_only(figures):
    assert figures.gap_closed(make_result("dann", source_only=0.5, dann=0.4, shot=0.9)) == pytest.approx(
        -0.25
    )


def test_a_gap_below_one_point_is_not_reported(figures):
    assert figures.gap_closed(make_result("coral", source_only=0.5, coral=0.509)) is None


def test_regret_is_measured_from_the_best_method_including_source_only(figures):
    assert figures.regret(make_result("dann", source_only=0.8, dann=0.6)) == pytest.approx(0.2)
    assert figures.regret(make_result("source_only", source_only=0.8, dann=0.6)) == 0


def test_worse_uses_the_interval_and_lower_the_point_estimate(figures):
    cases = [
        make_result("dann", "worse", source_only=0.8, dann=0.6),
        make_result("dann", "cannot_tell", source_only=0.8, dann=0.79),
        make_result("source_only", "cannot_tell", source_only=0.8, dann=0.79),
    ]
    row = figures.summarize(cases)
    assert (row["lower"], row["worse"], row["cases"]) == (2, 1, 3)
    assert row["chosen"] == {"dann": 2, "source_only": 1}


def test_worse_is_not_counted_without_intervals(figures):
    row = figures.summarize([make_result("mcc", source_only=0.5, mcc=0.7)])
    assert row["worse"] is None
    assert "verdicts" not in row
    assert row["closed"] == pytest.approx(1)


def test_medians_include_all_cases_and_gaps_only_cases_with_a_gap(figures):
    cases = [
        make_result("mcc", source_only=0.5, mcc=0.6, shot=0.7),
        make_result("mcc", source_only=0.5, mcc=0.7, shot=0.7),
        make_result("mcc", source_only=0.7, mcc=0.7, shot=0.7),
    ]
    row = figures.summarize(cases)
    assert row["choice"] == pytest.approx(0.7)
    assert row["closed"] == pytest.approx(0.75)
    assert row["regret"] == pytest.approx(0)


def test_the_best_single_method_has_the_greatest_median_gap_closed(figures):
    cases = [
        make_result("a", source_only=0.5, a=0.9, b=0.8),
        make_result("a", source_only=0.5, a=0.4, b=0.8),
        make_result("a", source_only=0.5, a=0.4, b=0.9),
    ]
    assert figures.best_single(cases) == ("b", pytest.approx(1))


def test_best_single_is_the_first_method_if_no_case_has_a_gap(figures):
    assert figures.best_single([make_result("b", source_only=0.5, b=0.5)]) == ("b", None)


def test_the_table_has_a_row_per_method_and_empty_cells_for_missing_methods(figures):
    ours = [
        make_result("shot", "better", source_only=0.5, shot=0.9),
        make_result("shot", "better", source_only=0.4, shot=0.8),
    ]
    theirs = [make_result("dann", source_only=0.6, dann=0.7)] * 2
    lines = figures.methods_table("x to y", {"kerastl": ours, "skada": theirs})
    assert lines[0] == "| x to y | kerastl | skada |"
    assert lines[2] == "| source_only | 0.450 (0.400 to 0.500) | 0.600 (0.600 to 0.600) |"
    assert lines[3] == "| dann |  | 0.700 (0.700 to 0.700) |"
    assert lines[4] == "| shot | 0.850 (0.800 to 0.900) |  |"
    assert lines[5].startswith("| **selected without labels** | 0.850")
    assert all(line.count("|") == 4 for line in lines)


def test_the_table_of_choices_marks_tools_without_intervals(figures):
    lines = figures.choices_table("all", {"skada": [make_result("dann", source_only=0.6, dann=0.7)]})
    assert lines[-1] == "| skada | 1 | 1.00 | 0.000 | 0 | no interval | dann 1 |"
