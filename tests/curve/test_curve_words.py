"""What a curve is said to mean, on planted scores."""

from dataclasses import replace

import pytest
from curves_drawn import planted

from kerastl.report import reading_of
from kerastl.workflows.label_budget import is_still_falling

BASE = [0.60, 0.62, 0.64]


def reading(**changes):
    scores = {
        ("fine_tune", 0): BASE,
        ("adapt_then_fine_tune", 0): [0.70, 0.72, 0.74],
        ("fine_tune", 1): [0.61, 0.66, 0.70],
        ("fine_tune", 2): [0.80, 0.81, 0.82],
        ("fine_tune", 5): [0.80, 0.815, 0.83],
        ("adapt_then_fine_tune", 1): [0.75, 0.76, 0.77],
        ("adapt_then_fine_tune", 2): [0.80, 0.82, 0.83],
        ("adapt_then_fine_tune", 5): [0.70, 0.71, 0.72],
        ("scratch", 1): [0.50, 0.51, 0.52],
        ("scratch", 2): [0.55, 0.60, 0.65],
        ("scratch", 5): [0.82, 0.83, 0.84],
    }
    for key, values in changes.items():
        way, number = key.rsplit("_", 1)
        scores[way, int(number)] = values
    seeds = len(scores["fine_tune", 0])
    return reading_of(planted(scores, seeds=seeds))


def test_a_plain_curve_is_told_in_its_own_figures():
    assert reading() == [
        "A's model unchanged reached 0.620 (0.600 to 0.640) at B (AUC of patients).",
        "With 2 labelled patients a class, fine-tuning reached 0.810 (0.800 to 0.820): above A's model unchanged in every "
        "seed and so with more.",
        "From scratch, 5 labelled patients a class reached 0.830 (0.820 to 0.840), above the 0.810 (0.800 to 0.820) that "
        "fine-tuning reached with 2 labelled patients a class; the seeds overlap, so which of the two is more cannot be told.",
        "Adapted without a label of B (adabn taken, not chosen), the model reached 0.720 (0.700 to 0.740): above A's model "
        "unchanged in every seed.",
        "Adapting first, then fine-tuning, is above fine-tuning alone with 1, and is below fine-tuning alone with 5, and "
        "cannot be told from fine-tuning alone with 2 labelled patients a class.",
        "Labelling more than 2 patients a class changed fine-tuning by less than the spread over the seeds.",
    ]


def told(sentences, words):
    (found,) = [one for one in sentences if words in one]
    return found


def test_where_seeds_overlap_it_cannot_be_told():
    flat = {f"fine_tune_{number}": [0.61, 0.63, 0.65] for number in (1, 2, 5)}
    found = reading(**flat, adapt_then_fine_tune_0=[0.63, 0.7, 0.8])
    assert "cannot tell whether it helps" in told(found, "With 1 labelled patient a class")
    assert "cannot tell whether it helps" in told(found, "With 5 labelled patients a class")
    assert "cannot tell whether that is better" in told(found, "Adapted without a label")
    assert "cannot tell whether labels help" in told(found, "Labelling up to 5 patients")


def test_what_is_worse_is_said_to_be_worse():
    worse = {f"fine_tune_{number}": [0.40, 0.41, 0.42] for number in (1, 2, 5)}
    found = reading(**worse, adapt_then_fine_tune_0=[0.5, 0.5, 0.51])
    assert "below A's model unchanged in every seed" in told(found, "With 1 labelled patient")
    assert "below A's model unchanged in every seed" in told(found, "Adapted without a label")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (
            [0.70, 0.71, 0.72],
            "5 labelled patients a class reached 0.710 (0.700 to 0.720): still below the 0.810 (0.8",
        ),
        (
            [0.70, 0.79, 0.805],
            "0.790 (0.700 to 0.805), by the median below the 0.810 (0.800 to 0.820) that fine-tun",
        ),
        ([0.70, 0.79, 0.805], "the seeds overlap: cannot tell"),
        (
            [0.90, 0.91, 0.92],
            "0.910 (0.900 to 0.920): above the 0.810 (0.800 to 0.820) that fine-tuning reached wit",
        ),
        (
            [0.79, 0.81, 0.83],
            "0.810 (0.790 to 0.830), as much as the 0.810 (0.800 to 0.820) that fine-tuning reached",
        ),
    ],
)
def test_training_from_scratch_is_measured_by_what_fine_tuning_reached(last, said):
    assert said in told(reading(scratch_5=last), "From scratch")


def test_a_number_that_may_do_already_is_named():
    found = told(reading(scratch_2=[0.5, 0.6, 0.81], scratch_5=[0.9, 0.91, 0.92]), "From scratch")
    assert "in every seed; the seeds overlap with 2 already, so fewer may do" in found


def test_a_step_beyond_the_spread_asks_for_more_labels():
    found = reading(fine_tune_5=[0.95, 0.955, 0.96])
    assert "more labels may change it further" in told(found, "From 2 to 5 labelled patients")


def test_one_seed_tells_nothing_apart():
    one = {
        f"{way}_{number}": [0.5 + 0.1 * number]
        for way in ("fine_tune", "adapt_then_fine_tune", "scratch")
        for number in (0, 1, 2, 5)
        if number or way != "scratch"
    }
    found = reading(**one)
    assert "--seeds 3" in told(found, "One seed")
    assert not any("in every seed" in one for one in found)
    assert not any("spread over the seeds" in one or "the seeds overlap" in one for one in found)


def test_with_one_seed_each_way_is_told_by_its_own_figure():
    one = {("fine_tune", 0): [0.870], ("fine_tune", 2): [0.833], ("scratch", 2): [0.852]}
    assert told(reading_of(planted(one, seeds=1)), "From scratch") == (
        "From scratch, 2 labelled patients a class reached 0.852, above the 0.833 that fine-tuning reached with 2 labelled "
        "patients a class; one seed shows no spread, so which of the two is more cannot be told."
    )


def adapted(*methods):
    scores = {(way, number): [0.6, 0.7] for way in ("fine_tune", "adapt_then_fine_tune") for number in (0, 1)}
    drawn = planted(scores, seeds=2)
    chosen = tuple(
        replace(one, adapted_by=method, verdict="adapt")
        for one, method in zip(drawn.tested, methods, strict=True)
    )
    return reading_of(replace(drawn, tested=chosen))


def test_what_was_chosen_without_labels_is_named():
    assert "(coral chosen), the model" in told(adapted("coral", "coral"), "Adapted without")
    found = told(adapted("source_only", "coral"), "Adapted without")
    assert "(seed 7: A's model was kept (source_only); seed 8: coral chosen)" in found


def test_a_model_that_was_kept_is_not_said_to_be_adapted():
    found = adapted("source_only", "source_only")
    assert not any("the model reached" in one or "Adapting first" in one for one in found)
    assert "A's model was kept (source_only): 0.650 (0.600 to 0.700)." in told(found, "Without a")


def test_runs_that_broke_down_are_left_out_of_their_level():
    found = reading(fine_tune_2=[None, 0.81, 0.83], scratch_5=[None, None, None])
    assert "0.820 (0.810 to 0.830)" in told(found, "With 2 labelled patients a class, fine")
    assert "0.600 (0.550 to 0.650): still below the 0.820" in told(found, "From scratch")


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        ([1 / (1 + epoch) for epoch in range(10)], True),
        ([0.7] * 20, False),
        ([0.001 / (1 + epoch) for epoch in range(20)], False),
        ([0.5 + 0.4 * 0.5**epoch for epoch in range(40)], False),
        ([1.0, 0.5], True),
    ],
)
def test_a_plateau_is_seen(losses, falls):
    assert is_still_falling(losses) == falls
