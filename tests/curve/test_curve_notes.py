"""What a curve notes of its runs from scratch, in the right number."""

import pytest
from make_curves import hospitals

from kerastl.runs import Run
from kerastl.workflows import Job, Plan
from kerastl.workflows.label_budget import _notes, is_still_falling


@pytest.mark.parametrize(
    ("epochs", "numbers", "message"),
    [
        (1, (0, 2), "1 of 1 run from scratch did not reach a plateau in 1 epoch ("),
        (2, (0, 1, 2), "2 of 2 runs from scratch did not reach a plateau in 2 epochs ("),
    ],
)
def test_runs_and_epochs_are_counted(tmp_path, epochs, numbers, message):
    plan = Plan(hospitals(), numbers, (7,), epochs)
    for number in numbers[1:]:
        folder = tmp_path / "runs" / Job("scratch", 7, number).name
        folder.mkdir(parents=True)
        (folder / "history.jsonl").write_text('{"loss": 0.5}\n' * epochs)
    note = next(iter(_notes(plan, Run(tmp_path), {})))
    assert message in note


@pytest.mark.parametrize(
    ("losses", "is_falling"),
    [
        ([1 / (1 + epoch) for epoch in range(10)], True),
        ([0.7] * 20, False),
        ([0.001 / (1 + epoch) for epoch in range(20)], False),
        ([0.5 + 0.4 * 0.5**epoch for epoch in range(40)], False),
        ([1.0, 0.5], True),
    ],
)
def test_a_loss_that_still_decreases_has_not_reached_a_plateau(losses, is_falling):
    assert is_still_falling(losses) == is_falling
