import numpy as np
import pytest
from scipy import stats

from kerastl.audit.measure import estimate_increase, holm


def test_images_without_groups_give_the_ordinary_t_test():
    changes = np.random.default_rng(0).normal(0.2, 0.4, 60)
    increase = estimate_increase(changes, np.arange(60), margin=0.05)
    expected = stats.ttest_1samp(changes, 0.05, alternative="greater")
    assert increase.value == pytest.approx(changes.mean())
    assert increase.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_copies_of_the_images_of_a_patient_add_no_evidence():
    changes = np.random.default_rng(1).normal(0.2, 0.4, 40)
    once = estimate_increase(changes, np.arange(40), margin=0.05)
    often = estimate_increase(np.repeat(changes, 7), np.repeat(np.arange(40), 7), margin=0.05)
    assert often.p_value == pytest.approx(once.p_value)
    assert often.upper == pytest.approx(once.upper)


def test_a_true_rate_at_the_margin_is_rejected_at_most_at_the_level():
    generator = np.random.default_rng(2)
    rejected = 0
    for _ in range(2000):
        patients = generator.random(40) < 0.05
        rejected += (
            estimate_increase(np.repeat(patients * 1.0, 3), np.repeat(np.arange(40), 3), margin=0.05).p_value
            < 0.05
        )
    # Four standard errors above 0.05 of 2000.
    assert rejected / 2000 < 0.05 + 4 * (0.05 * 0.95 / 2000) ** 0.5


def test_the_upper_bound_without_any_event_decreases_with_the_number_of_images():
    few, many = (estimate_increase(np.zeros(n), np.arange(n), margin=0.05).upper for n in (8, 200))
    assert few > 0.10 > many > 0


def test_effects_in_fewer_than_five_groups_are_not_significant():
    changes = np.zeros(100)
    changes[:4] = 1.0
    assert estimate_increase(changes, np.arange(100), margin=0.0).p_value == 1.0
    assert estimate_increase(changes, np.zeros(100, int), margin=0.0).p_value == 1.0


def test_holm_matches_a_worked_example():
    # 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2: two are rejected, and 0.04 is not compared.
    assert holm([0.04, 0.01, 0.03, 0.013], level=0.05) == [False, True, False, True]
    assert holm([], level=0.05) == []
